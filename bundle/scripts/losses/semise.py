"""SEMISE: every picture learns from its views, graded ones from their order besides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.losses.global_contrastive import GlobalContrastiveLoss
from scripts.losses.severity_preference import SeverityPreferenceLoss


class SemiseLoss(nn.Module):
    """L = alpha NT-Xent + (1 - alpha) preference (SEMISE, Tran et al., arXiv 2501.03848, L_combine).

    NT-Xent is over all pictures, the preference over the graded ones, both views of each: that is the semi-supervision.

    Args:
        alpha: 0..1; at 0 and at 1 the other part is not computed.
        beta: of SeverityPreferenceLoss.
        temperature: of GlobalContrastiveLoss.

    Attributes:
        terms: the parts of the last call, detached, by name.

    Raises:
        ValueError: options out of range.
    """

    def __init__(self, alpha: float = 0.5, beta: float = 5.0, temperature: float = 0.5) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}; expected 0..1, the weight of NT-Xent.")
        self.alpha = alpha
        self.ntxent = GlobalContrastiveLoss(temperature)
        self.preference = SeverityPreferenceLoss(beta)
        self.terms: dict[str, Tensor] = {}

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        severity: Tensor,
        reference: Tensor,
        group: Tensor | None = None,
        picture: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch.

        Args:
            first, second: (B, C) embeddings of two views of each picture.
            severity: (B,) NaN = not graded. reference: (C,) healthy. group: (B,) patient; None = all different.
            picture: (B,) whole number of each picture; None = all different.

        Returns:
            scalar.
        """
        parts = {}
        if self.alpha > 0:
            parts["ntxent"] = self.ntxent(first, second, picture)
        if self.alpha < 1:
            parts["preference"] = self.preference(
                torch.cat([first, second]), severity.repeat(2), reference, None if group is None else group.repeat(2)
            )
        self.terms = {name: part.detach() for name, part in parts.items()}
        weights = {"ntxent": self.alpha, "preference": 1.0 - self.alpha}
        return torch.stack([weights[name] * part for name, part in parts.items()]).sum()
