"""Embeddings on disk: what is put comes back, the bound holds, and no damage to the folder stops the work."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch

from scripts.pseudo_labels.embedding_cache import ENDING, EmbeddingCache
from scripts.pseudo_labels.promptable import SegmenterError

KILO = 1000 / 2**30  # 1000 bytes in GiB


def key(number: int) -> str:
    return f"{number:064x}"


def tensors(number: int = 0) -> list[torch.Tensor]:
    return [torch.full((1, 4, 5), float(number)), torch.arange(3), torch.zeros(0, 2, dtype=torch.float16)]


def block(number: int) -> list[torch.Tensor]:
    """One kilobyte, with the header of the file somewhat more."""
    return [torch.full((250,), float(number))]


def kept(cache: EmbeddingCache) -> set[int]:
    return {int(path.name[: -len(ENDING)], 16) for path in cache.folder.glob(f"*{ENDING}")}


def test_tensors_come_back_in_order_with_type_and_shape(tmp_path):
    cache = EmbeddingCache(tmp_path / "a" / "b")
    many = [torch.full((1,), number, dtype=torch.int16) for number in range(12)]  # 10 comes after 9, not after 1
    view = torch.arange(12.0).reshape(3, 4).T.expand(2, 4, 3)
    cache.put(key(1), [*tensors(7), view, *many])
    found = EmbeddingCache(tmp_path / "a" / "b").get(key(1))
    for one, other in zip(found, [*tensors(7), view, *many], strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_unknown_key_is_a_miss_and_a_second_put_replaces(tmp_path):
    cache = EmbeddingCache(tmp_path)
    assert cache.get(key(1)) is None
    cache.put(key(1), tensors(1))
    cache.put(key(1), tensors(2))
    assert torch.equal(cache.get(key(1))[0], tensors(2)[0]) and kept(cache) == {1}


@pytest.mark.parametrize("bad", ["", "../../etc", "ABCDEF0123", "abc", "0123456789/"])
def test_a_key_that_is_not_hexadecimal_is_refused(tmp_path, bad):
    cache = EmbeddingCache(tmp_path)
    with pytest.raises(SegmenterError, match="hexadecimal"):
        cache.get(bad)
    with pytest.raises(SegmenterError, match="hexadecimal"):
        cache.put(bad, tensors())


def test_the_bound_holds_and_the_least_recently_used_file_goes(tmp_path):
    cache = EmbeddingCache(tmp_path, max_gb=4 * KILO)
    for number in range(3):  # three files of more than 1000 and less than 1333 bytes each
        cache.put(key(number), block(number))
    assert kept(cache) == {0, 1, 2}
    cache.get(key(0))  # now 1 is the oldest
    cache.put(key(3), block(3))
    assert kept(cache) == {0, 2, 3}
    for number in range(4, 20):
        cache.put(key(number), block(number))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= cache.max_bytes
    assert kept(cache) == {17, 18, 19}
    assert torch.equal(cache.get(key(18))[0], block(18)[0])


def test_a_smaller_bound_holds_from_the_next_put_on(tmp_path):
    for number in range(6):
        EmbeddingCache(tmp_path).put(key(number), block(number))
    EmbeddingCache(tmp_path, max_gb=3 * KILO).put(key(9), block(9))
    assert kept(EmbeddingCache(tmp_path)) == {5, 9}


def test_other_files_in_the_folder_are_never_deleted(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(100_000))
    (tmp_path / ".partial-model-x.safetensors").write_bytes(bytes(100_000))
    (tmp_path / f".partial-{key(5)}.embedding-x.safetensors").write_bytes(bytes(100_000))  # of a killed process
    cache = EmbeddingCache(tmp_path, max_gb=2 * KILO)
    cache.put(key(1), block(1))
    cache.put(key(2), block(2))
    assert kept(cache) == {2}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"{key(2)}{ENDING}", "model.safetensors", ".partial-model-x.safetensors"]
    )


def test_an_entry_larger_than_the_bound_is_not_kept_and_said_once(tmp_path, caplog):
    cache = EmbeddingCache(tmp_path, max_gb=2 * KILO)
    cache.put(key(1), block(1))
    with caplog.at_level(logging.WARNING):
        for number in (2, 3):
            cache.put(key(number), [torch.zeros(1000)])
    assert kept(cache) == {1}
    assert [record.getMessage() for record in caplog.records if "larger than the whole cache" in record.getMessage()]
    assert len(caplog.records) == 1


def damage_cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damage_number(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_number, lambda data: b"", lambda data: b"no safetensors", lambda data: bytes(999)]
)
def test_a_damaged_file_is_named_deleted_and_a_miss(tmp_path, caplog, damage):
    cache = EmbeddingCache(tmp_path)
    cache.put(key(1), tensors())
    path = tmp_path / f"{key(1)}{ENDING}"
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert cache.get(key(1)) is None
    assert str(path) in caplog.text and not path.exists()
    cache.put(key(1), tensors(3))
    assert torch.equal(cache.get(key(1))[0], tensors(3)[0])


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "cache").write_text("a file")
    for folder in (tmp_path / "cache", tmp_path / "cache" / "below"):
        with pytest.raises(SegmenterError, match=f"{folder}.*another"):
            EmbeddingCache(folder)


def test_a_folder_that_can_no_longer_be_written_is_said_once(tmp_path, caplog):
    cache = EmbeddingCache(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file")  # for root, no folder is read-only
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert cache.get(key(number)) is None
            cache.put(key(number), tensors())
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1
    assert len([record for record in caplog.records if "cannot be read" in record.getMessage()]) <= 1


def test_a_folder_that_was_deleted_is_made_again(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert cache.get(key(1)) is None
    cache.put(key(1), tensors())
    assert cache.get(key(1)) is not None


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), float("inf")])
def test_a_bound_that_is_no_number_above_0_is_refused(tmp_path, bound):
    with pytest.raises(SegmenterError, match="above 0"):
        EmbeddingCache(tmp_path, max_gb=bound)
