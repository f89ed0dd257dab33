"""Small students whose answers can be computed without their own code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional


class TinyStudent(nn.Module):
    """Two taps of pixel-wise convolutions; flips commute with it unless ``slope`` adds a ramp from left to right.

    Args:
        slope: added to the lesion's logit at the right edge, subtracted at the left.
        sharpness: multiplies the logits.
    """

    def __init__(self, slope: float = 0.0, sharpness: float = 1.0) -> None:
        super().__init__()
        # Odd functions of x - 1/2, so that about half of a random frame is lesion.
        self.fine = nn.Conv2d(3, 4, 1, bias=False)
        self.coarse = nn.Conv2d(3, 6, 1, bias=False)
        self.head = nn.Conv2d(10, 2, 1, bias=False)
        self.slope = slope
        self.sharpness = sharpness

    def encode(self, x: Tensor) -> list[Tensor]:
        x = x - 0.5
        return [torch.tanh(self.fine(x)), torch.tanh(self.coarse(functional.avg_pool2d(x, 4)))]

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        coarse = functional.interpolate(features[1], size=size, mode="bilinear", align_corners=False)
        logits = self.sharpness * self.head(torch.cat([features[0], coarse], dim=1))
        ramp = torch.linspace(-self.slope, self.slope, size[1])
        return logits + torch.stack([torch.zeros_like(ramp), ramp])[None, :, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), (x.shape[-2], x.shape[-1]))


class RedStudent(nn.Module):
    """Lesion where red is over one half, pixel by pixel: logits (0, sharpness (r - 1/2))."""

    def __init__(self, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(float(sharpness)))

    def encode(self, x: Tensor) -> list[Tensor]:
        return [x]

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        red = features[0][:, :1]
        return torch.cat([torch.zeros_like(red), self.sharpness * (red - 0.5)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), (x.shape[-2], x.shape[-1]))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_student() -> Callable[..., TinyStudent]:
    return TinyStudent


@pytest.fixture
def red_student() -> Callable[..., RedStudent]:
    return RedStudent


@pytest.fixture
def frames() -> Tensor:
    """(2, 3, 64, 64) in 0..1."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
