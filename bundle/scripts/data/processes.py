"""Which of several processes this one is."""

from __future__ import annotations

import os

import torch.distributed as dist


def rank() -> int:
    """0 where there is one process alone, and before a process group is up what torchrun says."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", "0"))
