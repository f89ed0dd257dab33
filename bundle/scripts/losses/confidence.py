"""How much each pseudo-label counts: by a fixed threshold, or by SoftMatch's moving Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FixedThreshold(nn.Module):
    """Weight 1 where the teacher's confidence reaches the threshold, else 0 (FixMatch, Sohn et al. 2020).

    0.85 rather than FixMatch's 0.95: with two classes and a small lesion, 0.95 keeps little but background.
    """

    def __init__(self, threshold: float = 0.85) -> None:
        super().__init__()
        if not 0.5 <= threshold < 1.0:
            raise ValueError(
                f"threshold is {threshold}; expected 0.5 <= threshold < 1, since the winning class has at least 0.5."
            )
        self.threshold = threshold

    def forward(self, confidence: Tensor, pseudo_label: Tensor, valid: Tensor | None = None) -> Tensor:
        """Weights like ``confidence`` (B, H, W), 0 or 1; nothing is learnt of the frames, so ``valid`` is not used."""
        return (confidence >= self.threshold).to(confidence.dtype)


class SoftMatch(nn.Module):
    """Weight exp(-n^2 min(0, c - mu_k)^2 / (2 var_k)), with moving moments of each class k (Chen et al. 2023, eq. 7).

    Every pixel counts, the unsure ones less; with classes apart, so that background does not set the bar for lesion.

    Args:
        classes: number of classes.
        momentum: of the moving mean and variance, per step (0.999 is published for 10^6 steps; short runs need less).
        sigmas: n, how fast the weight falls.
    """

    def __init__(self, classes: int = 2, momentum: float = 0.99, sigmas: float = 2.0) -> None:
        super().__init__()
        self.momentum = momentum
        self.sigmas = sigmas
        self.register_buffer("mean", torch.full((classes,), 1.0 / classes))
        self.register_buffer("variance", torch.ones(classes))

    @torch.no_grad()
    def forward(self, confidence: Tensor, pseudo_label: Tensor, valid: Tensor | None = None) -> Tensor:
        """Weights (B, H, W) in 0..1; in training mode the moments move first, by the pixels that are ``valid`` (> 0).

        The border that a rotation or a zoom makes up is easy background: its confidence would set too high a bar.
        """
        if self.training:
            seen = torch.ones_like(pseudo_label, dtype=torch.bool) if valid is None else valid > 0
            for index in range(len(self.mean)):
                values = confidence[(pseudo_label == index) & seen]
                if values.numel() > 1:
                    self.mean[index].lerp_(values.mean().to(self.mean), 1 - self.momentum)
                    self.variance[index].lerp_(values.var().to(self.variance), 1 - self.momentum)
        below = (confidence - self.mean[pseudo_label]).clamp(max=0.0)
        return torch.exp(-(self.sigmas**2) * below.square() / (2 * self.variance[pseudo_label].clamp(min=1e-8)))


def confidence_weighting(name: str = "fixed", threshold: float = 0.85, classes: int = 2) -> nn.Module:
    """ "fixed" -> FixedThreshold(threshold), "softmatch" -> SoftMatch(classes)."""
    if name == "fixed":
        return FixedThreshold(threshold)
    if name == "softmatch":
        return SoftMatch(classes)
    raise ValueError(f"weighting '{name}' is unknown; expected 'fixed' or 'softmatch'.")
