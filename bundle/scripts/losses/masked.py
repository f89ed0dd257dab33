"""Means over the pixels that count."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of values (B, ...) over valid pixels (same shape, 1 valid, 0 not); 0 with gradient where none is valid."""
    return (values * valid).sum() / valid.sum().clamp(min=1.0)


def masked_mse(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of (B, C, H, W) over valid pixels (B, 1, H, W); 0 with gradient where none is valid."""
    return masked_mean((first - second).square().mean(dim=1, keepdim=True), valid)
