"""Endless reshuffled passes over a dataset, cut into epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import torch.distributed as dist
from torch.utils.data import Sampler


class StreamSampler(Sampler[int]):
    """Index stream for a loader whose epoch is a number of steps, not a pass over the data.

    At global position p the index is perm(seed, p // n)[p % n]: every item is seen once before any is seen twice, also
    across epochs and processes. Local position i of epoch e on rank r is p = (e * num_samples + i) * world_size + r.
    So a run resumed at epoch e reads exactly what an uninterrupted one would have.

    Args:
        data_source: the dataset, or its length n.
        num_samples: indices an epoch and process (default: n / world_size, rounded up).
        seed: of the shuffling; the same on all ranks.
        rank, world_size: of this process; default from torch.distributed, else 0 of 1.

    Call set_epoch(e), e counted from 0, before each epoch: without it every epoch reads the same.
    """

    def __init__(
        self,
        data_source: Sized | int,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.length = data_source if isinstance(data_source, int) else len(data_source)
        self.world_size = world_size if world_size is not None else (dist.get_world_size() if together else 1)
        self.rank = rank if rank is not None else (dist.get_rank() if together else 0)
        if self.length < 1:
            raise ValueError("the dataset is empty; expected at least one item to sample from")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} of {self.world_size} processes; expected 0 <= rank < world_size")
        self.num_samples = -(-self.length // self.world_size) if num_samples is None else int(num_samples)
        if self.num_samples < 1:
            raise ValueError(f"num_samples is {num_samples}; expected at least 1 (steps an epoch * batch size)")
        self.seed = int(seed)
        self.epoch = 0
        self._pass = -1
        self._order = np.empty(0, np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration reads."""
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; expected 0 or more")
        self.epoch = int(epoch)

    def index_at(self, position: int) -> int:
        """Index of the item at a global position of the stream."""
        number, place = divmod(position, self.length)
        if number != self._pass:
            self._order = np.random.default_rng([self.seed, number]).permutation(self.length)
            self._pass = number
        return int(self._order[place])

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.num_samples
        for i in range(first, first + self.num_samples):
            yield self.index_at(i * self.world_size + self.rank)

    def __len__(self) -> int:
        return self.num_samples
