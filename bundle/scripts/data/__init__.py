"""Files -> items: layouts, groups, splits, checks, manifest; and how items are cached and sampled."""

from __future__ import annotations

from scripts.data.cached_dataset import BoundedCacheDataset
from scripts.data.checks import check_files
from scripts.data.datalists import build_datalists
from scripts.data.errors import DatasetError, LeakError
from scripts.data.graded_lists import build_graded_lists
from scripts.data.layouts import read_dataset
from scripts.data.leaks import check_groups, check_leaks
from scripts.data.manifest import read_manifest, write_manifest
from scripts.data.sampler import StreamSampler
from scripts.data.splits import label_subset, split_by_group

__all__ = [
    "BoundedCacheDataset",
    "DatasetError",
    "LeakError",
    "StreamSampler",
    "build_datalists",
    "build_graded_lists",
    "check_files",
    "check_groups",
    "check_leaks",
    "label_subset",
    "read_dataset",
    "read_manifest",
    "split_by_group",
    "write_manifest",
]
