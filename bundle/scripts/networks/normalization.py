"""Input normalisation that travels with the network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class InputNormalization(nn.Module):
    """``(x - mean) / std`` by channel; both are buffers, so checkpoints and every export carry them.

    Args:
        mean: of each input channel, in the input's units (0..1).
        std: of each input channel, above 0.

    Shape:
        input and output (B, C, H, W), input in 0..1.

    Raises:
        ValueError: lengths differ or a std is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise ValueError(
                f"input_mean and input_std need one number for each channel and std above 0, found {mean} and {std}"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> normalised (B, C, H, W)."""
        return (x - self.mean) / self.std
