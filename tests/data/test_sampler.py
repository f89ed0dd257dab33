"""The stream: every item once before any twice, over epochs and processes, and resumable."""

from __future__ import annotations

import pytest

from scripts.data.sampler import StreamSampler


def stream(sampler: StreamSampler, epochs: range) -> list[int]:
    found: list[int] = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        found += list(sampler)
    return found


@pytest.mark.parametrize(("n", "num_samples"), [(7, 3), (7, 7), (3, 10), (1, 4), (10, 1)])
def test_every_item_once_before_any_twice(n: int, num_samples: int) -> None:
    found = stream(StreamSampler(n, num_samples, seed=2), range(3 * n))
    assert len(found) == 3 * n * num_samples
    for start in range(0, len(found), n):
        assert sorted(found[start : start + n]) == list(range(n))


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_one_stream(world_size: int) -> None:
    n, num_samples = 10, 5
    ranks = [stream(StreamSampler(n, num_samples, 1, rank, world_size), range(6)) for rank in range(world_size)]
    together = [index for step in zip(*ranks, strict=True) for index in step]
    assert together == stream(StreamSampler(n, num_samples * world_size, 1), range(6))


def test_resumed_run_reads_the_same() -> None:
    whole = stream(StreamSampler(11, 4, seed=5), range(9))
    assert stream(StreamSampler(11, 4, seed=5), range(6, 9)) == whole[24:]


def test_passes_are_reshuffled_and_seeded() -> None:
    found = stream(StreamSampler(50, 50), range(2))
    assert found[:50] != found[50:]
    assert found[:50] != list(range(50))
    assert found != stream(StreamSampler(50, 50, seed=1), range(2))


def test_iterating_twice_gives_the_same_epoch() -> None:
    sampler = StreamSampler(9, 5)
    sampler.set_epoch(3)
    assert list(sampler) == list(sampler)


def test_length() -> None:
    assert len(StreamSampler(list("abcde"))) == 5
    assert len(StreamSampler(5, rank=0, world_size=2)) == 3
    assert len(StreamSampler(5, 12)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "dataset is empty"),
        ((5, 0), "num_samples is 0"),
        ((5, 2, 0, 2, 2), "rank 2 of 2"),
        ((5, 2, 0, -1, 2), "rank -1 of 2"),
    ],
)
def test_bad_arguments(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamSampler(*arguments)
    with pytest.raises(ValueError, match="epoch is -1"):
        StreamSampler(5).set_epoch(-1)
