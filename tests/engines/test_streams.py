"""Two streams in step: equal lengths, the same items for the same epoch, no hold on the global random state."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from scripts.engines.streams import PairedStreams, stream_loader


def items(count: int) -> list[dict[str, Any]]:
    return [{"file": f"f{number}", "value": torch.tensor(number)} for number in range(count)]


def read(streams: PairedStreams, epoch: int) -> list[tuple[list[str], list[str] | None]]:
    streams.set_epoch(epoch)
    return [
        (batch["labeled"]["file"], None if batch["unlabeled"] is None else batch["unlabeled"]["file"])
        for batch in streams
    ]


def test_lengths_do_not_depend_on_the_sets() -> None:
    labeled, unlabeled = stream_loader(items(3), 2, 5), stream_loader(items(50), 4, 5)
    streams = PairedStreams(labeled, unlabeled)
    assert len(streams) == 5
    batches = read(streams, 0)
    assert len(batches) == 5
    assert all(len(first) == 2 and len(second) == 4 for first, second in batches), "all batches are full"


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="5 batches an epoch, the unlabelled one 4"):
        PairedStreams(stream_loader(items(3), 2, 5), stream_loader(items(3), 2, 4))


def test_an_empty_set_has_no_loader() -> None:
    assert stream_loader([], 2, 5) is None
    batches = read(PairedStreams(stream_loader(items(3), 1, 2), None), 0)
    assert [second for _, second in batches] == [None, None]


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    def make(seed: int) -> PairedStreams:
        return PairedStreams(stream_loader(items(7), 2, 4, seed), stream_loader(items(9), 3, 4, seed + 1))

    unbroken = make(0)
    epochs = [read(unbroken, epoch) for epoch in range(4)]
    assert read(make(0), 2) == epochs[2], "a new process that begins at epoch 2 reads the same"
    assert epochs[0] != epochs[1]
    assert read(make(1), 0) != epochs[0]


def test_every_item_once_before_any_twice() -> None:
    streams = PairedStreams(stream_loader(items(6), 2, 2))
    seen = [name for epoch in range(3) for first, _ in read(streams, epoch) for name in first]
    assert sorted(seen[:6]) == sorted(seen[6:]) == [f"f{number}" for number in range(6)]


def test_reading_leaves_the_global_generators_alone() -> None:
    streams = PairedStreams(stream_loader(items(6), 2, 3), stream_loader(items(5), 2, 3))
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    read(streams, 0), read(streams, 1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert before[2] == random.getstate()
