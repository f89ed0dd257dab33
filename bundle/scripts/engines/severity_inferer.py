"""What a network of severities says of pictures."""

from __future__ import annotations

from typing import Any

from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class SeverityInferer(Inferer):
    """Runs ``assess`` of a SeverityEmbedder or SeverityClassifier."""

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Pictures (B, 3, H, W) in 0..1 -> (B, 1, 1 + K): severity score and the probability of each of K grades."""
        bare = network.module if isinstance(network, DistributedDataParallel) else network
        return bare.assess(inputs)
