"""Soft Dice of frames whose pixels do not all count, or not as much."""

from __future__ import annotations

import torch
from torch import Tensor


def weighted_dice_loss(logits: Tensor, target: Tensor, weight: Tensor, smooth: float = 1e-5) -> Tensor:
    """1 - soft Dice of the lesion over the frames that have a weighted lesion pixel; 0 with gradient where none has.

    Args:
        logits: (B, C, H, W); every class but 0 counts as lesion.
        target: class index (B, H, W).
        weight: (B, H, W) in 0..1; pixels of weight 0 are ignored.
    """
    loss, has_lesion = dice_per_frame(logits, target, weight, smooth)
    return (loss * has_lesion).sum() / has_lesion.sum().clamp(min=1.0)


def dice_per_frame(logits: Tensor, target: Tensor, weight: Tensor, smooth: float = 1e-5) -> tuple[Tensor, Tensor]:
    """1 - soft Dice (B,) of each frame, and whether it has a weighted lesion pixel (B,), 0 or 1; see above."""
    lesion = 1.0 - torch.softmax(logits, dim=1)[:, 0]
    truth = target.ne(0).to(lesion.dtype)
    truth_size = (truth * weight).flatten(1).sum(1)
    overlap = (lesion * truth * weight).flatten(1).sum(1)
    size = (lesion * weight).flatten(1).sum(1) + truth_size
    loss = 1.0 - (2 * overlap + smooth) / (size + smooth)
    return loss, (truth_size > 0).to(loss.dtype)
