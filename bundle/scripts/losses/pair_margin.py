"""Healthy and anomalous pictures apart: a margin between the embeddings of pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PairMarginLoss(nn.Module):
    """Contrast of pairs by cosine distance, the first phase of SEMISE (Tran et al., arXiv 2501.03848).

    With d = 1 - cos, y = 1 for a pair of one kind (both healthy or both anomalous) and 0 for a mixed one, over N pairs:

        L = 1/(2N) sum [ y d^2 + (1 - y) max(0, margin - d)^2 ]

    The pairs are all those of the batch.

    Args:
        margin: distance from which a mixed pair costs nothing, above 0 to 2; 1 = at right angles, 2 = opposite.
        balanced: mixed pairs weigh as much as pairs of one kind together, healthy ones as much as anomalous ones,
            however many there are of each; False = each pair weighs the same, as the equation has it.

    Raises:
        ValueError: a margin out of range; embeddings and kinds that do not fit each other.
    """

    def __init__(self, margin: float = 1.0, balanced: bool = True) -> None:
        super().__init__()
        if not 0 < margin <= 2:
            raise ValueError(f"margin is {margin}; expected above 0 and up to 2, the largest cosine distance.")
        self.margin = margin
        self.balanced = balanced

    def forward(self, embedding: Tensor, anomalous: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embedding: (B, C), of any length; it is normalised here.
            anomalous: (B,) bool.

        Returns:
            scalar; of fewer than two pictures a 0 with gradient.
        """
        if embedding.ndim != 2 or anomalous.shape != embedding.shape[:1]:
            raise ValueError(
                f"embedding is {tuple(embedding.shape)}, anomalous {tuple(anomalous.shape)}; expected (B, C) and (B,)."
            )
        if len(embedding) < 2:
            return embedding.sum() * 0.0
        with torch.autocast(embedding.device.type, enabled=False):
            unit = functional.normalize(embedding if embedding.dtype == torch.float64 else embedding.float(), dim=1)
            first, second = torch.triu_indices(len(unit), len(unit), 1, device=unit.device)
            distance = 1.0 - (unit @ unit.T)[first, second]
            kind = anomalous.long()[first] + anomalous.long()[second]  # 0 healthy, 1 mixed, 2 anomalous
            mixed = kind == 1
            terms = torch.where(mixed, (self.margin - distance).clamp(min=0.0), distance).square()
            return 0.5 * (self._weights(kind).to(terms.dtype) * terms).sum()

    def _weights(self, kind: Tensor) -> Tensor:
        """Of each pair, 1 together."""
        if not self.balanced:
            return torch.full_like(kind, 1.0 / len(kind), dtype=torch.float64)
        counts = torch.bincount(kind, minlength=3).double()
        share = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64, device=kind.device) * (counts > 0)
        return (share / share.sum() / counts.clamp(min=1.0))[kind]
