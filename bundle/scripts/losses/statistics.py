"""BatchNorm's running statistics: which pictures they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untracked_statistics(network: nn.Module) -> Iterator[None]:
    """Normalise by each batch as ever in training, but leave the running statistics as they are.

    A network meets clean frames in the end: means and variances of distorted ones do not fit those, and an EMA teacher
    that normalises by them teaches accordingly.
    """
    layers = [part for part in network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
