"""A dataset folder -> frames that have a mask and frames that could get one, also before there is any mask."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.data.errors import DatasetError
from scripts.data.expansion import expand_media
from scripts.data.layouts import DATALIST_NAMES, UNLABELED_FOLDERS, Item, read_dataset, read_unlabeled_folder
from scripts.data.mask_folders import MASK_FOLDERS, is_studies_folder


def read_candidates(dataset_dir: str | os.PathLike[str]) -> tuple[list[Item], list[Item]]:
    """Items with a mask, and items without: frames to choose from, sorted by "file".

    dataset_dir is a dataset as read_dataset takes it, or one without any mask yet, or a plain folder of frames (its
    groups.csv is honoured). Videos and files of several frames become frames, thinned as for training (expand_media):
    near-duplicates of each other and of labelled frames are no candidates.

    Raises DatasetError: nothing given, missing folder, or nothing to read in it; and see read_dataset.
    """
    if not dataset_dir:
        raise DatasetError("dataset_dir is empty; give a folder of frames: --dataset_dir /path/to/it")
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not root.exists():
        raise DatasetError(f"dataset_dir {root} does not exist; give a folder of frames or a dataset")
    sections = read_dataset(root, masks_needed=False) if _is_dataset(root) else {"pool": _frames_alone(root)}
    found = [item for items in expand_media(sections).values() for item in items]
    found.sort(key=lambda item: item["file"])
    labelled = {item["image"]: item for item in found if "label" in item}
    others = {item["image"]: item for item in found if item["image"] not in labelled}  # a datalist may name one twice
    return list(labelled.values()), list(others.values())


def _is_dataset(root: Path) -> bool:
    listed = root.is_file() or any((root / name).is_file() for name in DATALIST_NAMES)
    return listed or (root / "images").is_dir() or is_studies_folder(root) or _has_masks(root)


def _has_masks(root: Path) -> bool:
    files = (path for folder in MASK_FOLDERS for path in (root / folder).rglob("*"))
    return any(path.is_file() and not path.name.startswith(".") for path in files)


def _frames_alone(root: Path) -> list[Item]:
    folders = [root / name for name in UNLABELED_FOLDERS if (root / name).is_dir()]
    return [item for folder in folders or [root] for item in read_unlabeled_folder(folder, root)]
