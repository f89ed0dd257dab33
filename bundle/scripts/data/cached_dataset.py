"""CacheDataset with a bound in bytes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from tqdm import tqdm

from scripts.io.frame_address import split_address

logger = logging.getLogger(__name__)

DEFAULT_BYTES = 2 * 1024**3
_RUN = 256  # frames of one file that a thread loads before the memory they take is looked at


class BoundedCacheDataset(CacheDataset):
    """Keep the deterministic part of the transforms in memory as long as it fits; load the rest on demand.

    Args:
        data: items; those that somebody else made (MONAI Label puts in {"image", "label"}) get "file" and "group".
        max_bytes: bound of the cache in bytes of tensors and arrays (default 2 GiB; 0 caches nothing). Items are
            measured as they come, so pictures of different sizes keep to the bound as well.
        num_workers: threads that fill the cache; None for one a CPU core, at most 8.
        copy_cache: hand out a deep copy of a cached item (needed if a random transform works in place).

    Cached are the first items that fit; `cache_num` says how many, `cached_bytes` their size.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Sequence[Callable] | Callable | None = None,
        max_bytes: int = DEFAULT_BYTES,
        num_workers: int | None = None,
        progress: bool = True,
        copy_cache: bool = True,
    ) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}; expected a number of bytes >= 0, e.g. {DEFAULT_BYTES}")
        self.max_bytes = int(max_bytes)
        self.cached_bytes = 0
        super().__init__(
            [named_item(item) for item in data],
            transform,
            num_workers=num_workers or min(8, os.cpu_count() or 1),
            progress=progress,
            copy_cache=copy_cache,
        )

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        """Load items in small batches of threads until one no longer fits.

        Frames of a file that follow each other are one thread's: a volume that each thread has opened is in memory so
        many times.
        """
        wanted = list(range(len(self.data))) if indices is None else list(indices)
        cache: list[Any] = []
        self.cached_bytes = 0
        full = self.max_bytes == 0
        bar = tqdm(total=len(wanted), desc="loading into memory", disable=not self.progress or full, leave=False)
        with ThreadPool(self.num_workers) as pool, bar:
            for runs in self._batches(wanted):
                if full:
                    break
                loaded = pool.imap(lambda run: [self._load_cache_item(index) for index in run], runs)
                for item in chain.from_iterable(loaded):
                    size = nbytes(item)
                    full = full or self.cached_bytes + size > self.max_bytes
                    if not full:
                        cache.append(item)
                        self.cached_bytes += size
                        bar.update()
        self.cache_num = len(cache)
        logger.info(
            "%d of %d items cached in memory (%.0f MiB of at most %.0f MiB)%s",
            len(cache),
            len(wanted),
            self.cached_bytes / 2**20,
            self.max_bytes / 2**20,
            "" if len(cache) == len(wanted) else "; the rest is loaded on demand",
        )
        return cache

    def _batches(self, indices: Sequence[int]) -> Iterator[list[list[int]]]:
        """Runs of indices of one file each, in order, together enough for all threads."""
        batch: list[list[int]] = []
        for _, of_file in groupby(indices, key=lambda index: _file_of(self.data[index])):
            of_file = list(of_file)
            for start in range(0, len(of_file), _RUN):
                batch.append(of_file[start : start + _RUN])
                if len(batch) >= self.num_workers and sum(map(len, batch)) >= 4 * self.num_workers:
                    yield batch
                    batch = []
        yield batch

    def _transform(self, index: int) -> Any:
        # a negative index would miss a cache shorter than the data; one past the end ends `for item in dataset`
        return super()._transform(range(len(self))[index])


def _file_of(item: Any) -> Any:
    """The file that an item's picture is in; of what is no item, itself."""
    image = item.get("image") if isinstance(item, Mapping) else None
    return split_address(image)[0] if isinstance(image, (str, os.PathLike)) else id(item)


def nbytes(value: Any) -> int:
    """Bytes of all tensors and arrays inside nested mappings and sequences."""
    if isinstance(value, torch.Tensor):
        return value.element_size() * value.nelement()
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(nbytes(part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return sum(nbytes(part) for part in value)
    return 0


def named_item(item: Any) -> Any:
    """An item with "file" (its picture's name) and "group" (the file), where it has none; what is no item as it is."""
    if not isinstance(item, dict) or "file" in item or not isinstance(item.get("image"), (str, os.PathLike)):
        return item
    file = os.path.basename(os.fspath(item["image"]))
    return {"file": file, "group": file, **item}
