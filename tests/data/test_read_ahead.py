"""Reading ahead gives what DataLoader gives, errors included."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch.utils.data import Dataset

from scripts.data.read_ahead import ReadAheadLoader


class Numbers(Dataset):
    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.read: list[int] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == self.fails_at:
            raise ValueError("frame seven")
        self.read.append(index)
        return torch.tensor(index)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_same_batches_as_dataloader(ahead: int) -> None:
    loader = ReadAheadLoader(Numbers(), batches_ahead=ahead, batch_size=4)
    assert len(loader) == 3
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_error_arrives_in_its_place() -> None:
    loader = ReadAheadLoader(Numbers(fails_at=7), batch_size=2)
    found = []
    with pytest.raises(ValueError, match="frame seven"):
        for batch in loader:
            found.append(batch.tolist())
    assert found == [[0, 1], [2, 3], [4, 5]]


def test_it_reads_ahead_and_no_further() -> None:
    data = Numbers()
    batches = iter(ReadAheadLoader(data, batches_ahead=2, batch_size=1))
    next(batches)
    deadline = time.monotonic() + 10
    while len(data.read) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert data.read == [0, 1, 2, 3]  # one taken, two waiting, one in the thread's hand


def test_the_thread_ends_with_the_loop() -> None:
    before = threading.active_count()
    for _ in ReadAheadLoader(Numbers(), batch_size=1):
        break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_negative_number() -> None:
    with pytest.raises(ValueError, match="batches_ahead is -1"):
        ReadAheadLoader(Numbers(), batches_ahead=-1)
