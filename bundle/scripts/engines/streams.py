"""Labelled and unlabelled frames side by side: two loaders of equal length, read in step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from scripts.data.sampler import StreamSampler


def stream_loader(
    dataset: Dataset,
    batch_size: int,
    iterations: int,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader | None:
    """A loader that gives exactly ``iterations`` full batches an epoch, whatever the size of the set.

    Epoch e of any process is a function of (seed, e) alone, so that a resumed run reads what an unbroken one would.

    Args:
        dataset: deterministic items; random views are made later, a batch at a time.
        batch_size: frames a batch and process.
        iterations: batches an epoch.
        num_workers: loading processes; 0 is best while the set is cached in memory.

    Returns:
        None for an empty data set: there are no unlabelled frames.
    """
    if len(dataset) == 0:
        return None
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    sampler = StreamSampler(
        len(dataset),
        num_samples=batch_size * iterations,
        seed=seed,
        rank=torch.distributed.get_rank() if distributed else 0,
        world_size=torch.distributed.get_world_size() if distributed else 1,
    )
    # A generator of its own: opening an iterator must not move the random state that views are drawn from.
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=False,
        pin_memory=pin_memory,
        drop_last=True,
        generator=generator,
    )


class PairedStreams:
    """Batches {"labeled": ..., "unlabeled": ... or None} of two stream loaders of the same length.

    Raises:
        ValueError: the loaders' lengths differ, so that one would silently cut the other short.
    """

    def __init__(self, labeled: DataLoader, unlabeled: DataLoader | None = None) -> None:
        if unlabeled is not None and len(labeled) != len(unlabeled):
            raise ValueError(
                f"The labelled loader has {len(labeled)} batches an epoch, the unlabelled one {len(unlabeled)}; "
                "make both with stream_loader(iterations=...) of the same number."
            )
        self.labeled = labeled
        self.unlabeled = unlabeled

    def __len__(self) -> int:
        return len(self.labeled)

    def set_epoch(self, epoch: int) -> None:
        """Choose the items of the next pass; epochs count from 0."""
        for loader in (self.labeled, self.unlabeled):
            if loader is not None and isinstance(loader.sampler, StreamSampler):
                loader.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.unlabeled is None:
            for labeled in self.labeled:
                yield {"labeled": labeled, "unlabeled": None}
            return
        for labeled, unlabeled in zip(self.labeled, self.unlabeled, strict=True):
            yield {"labeled": labeled, "unlabeled": unlabeled}
