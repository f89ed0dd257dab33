"""Distribution alignment: pseudo-labels that name each class as often as the labelled masks do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scripts.losses.masked import masked_mean


class DistributionAlignment(nn.Module):
    """q~ = q * p / m, divided by its sum over classes; m: moving mean of q (Berthelot et al. 2020, ReMixMatch, 3.2).

    Self-training tends to name one class ever more often; this pulls its shares back to those of the masks.

    Args:
        class_shares: p, share of each class in the labelled pixels, background first; each above 0, together 1.
        momentum: of the moving mean m, per step (ReMixMatch has the last 128 batches).

    Raises:
        ValueError: shares that are none.
    """

    def __init__(self, class_shares: Sequence[float], momentum: float = 0.99) -> None:
        super().__init__()
        shares = [float(share) for share in class_shares]
        if len(shares) < 2 or not all(share > 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-3):
            raise ValueError(
                f"class_shares is {shares}; expected a share above 0 for each class, background first, together 1: "
                "those of the labelled masks are '@train#class_shares'."
            )
        self.momentum = momentum
        self.register_buffer("target", torch.tensor(shares), persistent=False)
        self.register_buffer("mean", torch.tensor(shares))

    @torch.no_grad()
    def forward(self, probability: Tensor, valid: Tensor) -> Tensor:
        """Aligned probabilities (B, C, H, W), 0..1; in training mode the mean over valid (B, H, W) moves first."""
        if self.training:
            now = torch.stack([masked_mean(one, valid) for one in probability.unbind(dim=1)])
            self.mean.lerp_(now.to(self.mean), 1 - self.momentum)
        aligned = probability * (self.target / self.mean.clamp(min=1e-6))[:, None, None]
        return aligned / aligned.sum(dim=1, keepdim=True)
