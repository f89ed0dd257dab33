"""The cache keeps to its bound and changes nothing but the time."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Lambda, RandomizableTransform

from scripts.data.cached_dataset import BoundedCacheDataset, nbytes


class Counter:
    """Makes item n, an array of n * 100 bytes or of a fixed size, and counts how often."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size
        self.calls: list[int] = []

    def __call__(self, n: int) -> dict[str, np.ndarray]:
        self.calls.append(n)
        return {"image": np.full(self.size or n * 100, n, np.uint8)}


class Add(RandomizableTransform):
    """A "random" transform that works in place."""

    def __call__(self, item: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        item["image"] += 1
        return item


def build(loader: Counter, n: int, max_bytes: int) -> BoundedCacheDataset:
    transform = Compose([Lambda(loader), Add()])
    return BoundedCacheDataset(list(range(n)), transform, max_bytes=max_bytes, num_workers=2, progress=False)


def test_all_fits() -> None:
    loader = Counter(1000)
    data = build(loader, 10, 10_000)
    assert (data.cache_num, data.cached_bytes) == (10, 10_000)
    assert sorted(loader.calls) == list(range(10))
    for _ in range(2):
        assert [int(data[n]["image"][0]) for n in range(10)] == list(range(1, 11))  # the random part runs every time
    assert len(loader.calls) == 10


def test_bound_is_kept_and_the_rest_loaded_on_demand(caplog: pytest.LogCaptureFixture) -> None:
    loader = Counter(1000)
    with caplog.at_level(logging.INFO):
        data = build(loader, 40, 3_500)
    assert (data.cache_num, data.cached_bytes) == (3, 3_000)
    assert "3 of 40 items cached" in caplog.text
    assert "loaded on demand" in caplog.text
    assert len(loader.calls) < 40  # filling stops when it is full
    loader.calls.clear()
    assert [int(data[n]["image"][0]) for n in range(40)] == list(range(1, 41))
    assert loader.calls == list(range(3, 40))


def test_items_of_different_size() -> None:
    data = build(Counter(), 20, 1_600)  # 0 + 100 + 200 + 300 + 400 + 500 = 1500, and 600 more would not fit
    assert (data.cache_num, data.cached_bytes) == (6, 1_500)


@pytest.mark.parametrize("max_bytes", [0, 3_500, 20_000])
def test_iteration_ends_and_indices_past_the_ends_are_refused(max_bytes: int) -> None:
    data = build(Counter(1000), 10, max_bytes)
    assert [int(item["image"][0]) for item, _ in zip(data, range(12), strict=False)] == list(range(1, 11))
    for index in (10, -11):
        with pytest.raises(IndexError):
            data[index]


def test_negative_index_and_slice() -> None:
    data = build(Counter(8), 10, 24)
    assert data.cache_num == 3
    assert int(data[-9]["image"][0]) == 2
    assert int(data[-1]["image"][0]) == 10
    assert len(data[2:5]) == 3


def test_no_cache_and_no_data() -> None:
    loader = Counter(8)
    data = build(loader, 4, 0)
    assert (data.cache_num, loader.calls) == (0, [])
    assert int(data[3]["image"][0]) == 4
    assert len(build(Counter(8), 0, 100)) == 0


def test_cached_items_are_copied() -> None:
    data = build(Counter(4), 6, 100)
    assert data.cache_num == 6
    assert [int(data[5]["image"][0]) for _ in range(3)] == [6, 6, 6]
    data.copy_cache = False  # the copy is what keeps the cache clean
    assert [int(data[5]["image"][0]) for _ in range(3)] == [6, 7, 8]


def test_bad_bound() -> None:
    with pytest.raises(ValueError, match="expected a number of bytes >= 0"):
        build(Counter(4), 2, -1)


def test_nbytes() -> None:
    nested = {"a": torch.zeros(3, 2), "b": [np.zeros(5, np.uint8), (torch.zeros(2, dtype=torch.int64), "text", 1)]}
    assert nbytes(nested) == 24 + 5 + 16


def test_items_of_others_get_a_file_and_a_group() -> None:
    """MONAI Label's own app puts {"image", "label"} in place of this bundle's items."""
    dataset = BoundedCacheDataset([{"image": "a/b.png"}, {"image": "c.png", "file": "x", "group": "g"}, 7], lambda x: x)
    assert dataset.data[0] == {"image": "a/b.png", "file": "b.png", "group": "b.png"}
    assert dataset.data[1:] == [{"image": "c.png", "file": "x", "group": "g"}, 7]


def test_frames_of_a_file_are_loaded_by_one_thread() -> None:
    threads: dict[str, set[int]] = {}

    def load(item: dict) -> dict:
        time.sleep(0.002)
        threads.setdefault(item["image"].split("#")[0], set()).add(threading.get_ident())
        return {"pixels": np.full(10, int(item["image"].split("#")[1]), np.uint8)}

    items = [{"image": f"v{volume}.nii#{number}", "file": "", "group": ""} for volume in "abc" for number in range(20)]
    dataset = BoundedCacheDataset(items, load, num_workers=8, progress=False)
    assert [int(item["pixels"][0]) for item in dataset] == [*range(20)] * 3
    assert dataset.cache_num == 60 and {len(found) for found in threads.values()} == {1}
