"""The more severe of two pictures lies further from healthy: preference optimisation without a reward model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.networks.severity import healthy_distance


class SeverityPreferenceLoss(nn.Module):
    """Bradley-Terry model of which of two pictures is more severe (SEMISE, Tran et al., arXiv 2501.03848; ConPrO).

    With d_i = 1 - cos(z_i, r), r being healthy, over all pairs of the batch in which w is more severe than l:

        L = - mean log sigmoid( beta (d_w - d_l) )

    Pairs of equal severity say nothing and are left out; so are pairs of one patient, whose pictures are alike for
    other reasons than their grade. The reference gets no gradient: it is the pictures that move.

    Args:
        beta: > 0. The argument lies within -2 beta..2 beta: at 1, as published, the loss cannot fall below 0.127.

    Raises:
        ValueError: beta out of range; arguments that do not fit each other.
    """

    def __init__(self, beta: float = 5.0) -> None:
        super().__init__()
        if beta <= 0:
            raise ValueError(f"beta is {beta}; expected above 0.")
        self.beta = beta

    def forward(self, embedding: Tensor, severity: Tensor, reference: Tensor, group: Tensor | None = None) -> Tensor:
        """Loss of a batch.

        Args:
            embedding: (B, C), of any length.
            severity: (B,) higher = more severe; NaN = not graded, in no pair.
            reference: (C,) embedding of healthy, of any length.
            group: (B,) whole number of each picture's patient; None = all are of different patients.

        Returns:
            scalar; without any pair a 0 with gradient.
        """
        if embedding.ndim != 2 or severity.shape != embedding.shape[:1] or reference.shape != embedding.shape[1:]:
            raise ValueError(
                f"embedding is {tuple(embedding.shape)}, severity {tuple(severity.shape)}, reference "
                f"{tuple(reference.shape)}; expected (B, C), (B,) and (C,)."
            )
        with torch.autocast(embedding.device.type, enabled=False):
            distance = healthy_distance(embedding, reference.detach())
            pairs = severity[:, None] > severity[None, :]  # false wherever one is NaN
            if group is not None:
                pairs = pairs & (group[:, None] != group[None, :])
            more, less = pairs.nonzero(as_tuple=True)
            if not len(more):
                return distance.sum() * 0.0
            return functional.softplus(-self.beta * (distance[more] - distance[less])).mean()
