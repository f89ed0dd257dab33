"""The contrast of a set of unit vectors with itself, without ever holding the whole matrix of similarities."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Form = Literal["supcon", "ratio"]
Others = Literal["all", "same", "different"]

TILE_MIB = 4  # of similarities at a time: what a core's cache holds; larger tiles are slower on CPUs
LEAST_ROWS = 32  # anchors a tile, however wide: thinner ones waste the matrix unit


def supervised_contrast(
    features: Tensor,
    classes: Tensor,
    anchors: Tensor,
    temperature: float,
    form: Form = "supcon",
    tile_mib: float = TILE_MIB,
) -> tuple[Tensor, int]:
    """Supervised contrastive loss over anchors (Khosla et al. 2020, eq. 2; Hu et al. 2021, eq. 2).

    With s_ia = f_i . f_a / temperature, P(i) = others of i's class and N(i) = those of another class:

        supcon:  mean_i  -1/|P(i)| sum_{p in P(i)} [ s_ip - log sum_{a != i} exp s_ia ]
        ratio:   mean_i  -1/|P(i)| log( sum_{P(i)} exp s_ip / sum_{N(i)} exp s_in )

    The second is how the paper prints it; it is not bounded from below, since its denominator has no positives.

    The sum over positives needs no matrix: it is f_i . (sum of the class - f_i). The logarithms are computed over tiles
    of anchors, and their gradient with them: memory grows with M C, not with M^2.

    Args:
        features: (M, C) unit vectors, float32 or float64.
        classes: (M,) whole numbers.
        anchors: (N,) indices into features; those without a positive (ratio: or without a negative) do not count.
        temperature: > 0.
        form: "supcon" or "ratio".
        tile_mib: MiB of similarities held at a time.

    Returns:
        the loss, a 0 with gradient where no anchor counts; and how many counted.
    """
    present, classes, sizes = torch.unique(classes, return_inverse=True, return_counts=True)
    positives = sizes[classes[anchors]] - 1
    counts = positives > 0 if form == "supcon" else (positives > 0) & (positives + 1 < len(features))
    anchors, positives = anchors[counts], positives[counts].to(features.dtype)
    if not len(anchors):
        return features.sum() * 0.0, 0
    weights = features.new_full((len(anchors),), 1.0 / len(anchors))

    def log_sum_exp(others: Others, weights: Tensor) -> Tensor:
        return _WeightedLogSumExp.apply(features, anchors, weights, classes, others, temperature, tile_mib)

    if form == "ratio":
        weights = weights / positives
        return log_sum_exp("different", weights) - log_sum_exp("same", weights), len(anchors)
    own = features[anchors]
    sums = torch.zeros(len(present), features.shape[1], dtype=features.dtype, device=features.device)
    sums = sums.index_add(0, classes, features)
    # index_select, not [...]: the gradient of the latter is summed in any order, and runs would not repeat.
    attraction = (own * (sums.index_select(0, classes[anchors]) - own)).sum(dim=1) / (positives * temperature)
    return log_sum_exp("all", weights) - (weights * attraction).sum(), len(anchors)


class _WeightedLogSumExp(Function):
    """sum_i w_i log sum_{a in others(i)} exp(f_i . f_a / temperature), a tile of anchors i at a time.

    The weights are constants, so the gradient is known as soon as a tile is: it is made in the forward pass, from the
    tile that is still in the cache, and nothing has to be computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        anchors: Tensor,
        weights: Tensor,
        classes: Tensor,
        others: Others,
        temperature: float,
        tile_mib: float,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(features) if wanted else None
        total = features.new_zeros(())
        rows = max(LEAST_ROWS, int(tile_mib * 2**20) // (len(features) * features.element_size()))
        for chosen, weight in zip(anchors.split(rows), weights.split(rows), strict=True):
            own = features[chosen] / temperature
            tile = own @ features.T
            if others != "all":
                same = classes[chosen][:, None] == classes[None, :]
                tile.masked_fill_(~same if others == "same" else same, -torch.inf)
            tile[torch.arange(len(chosen), device=tile.device), chosen] = -torch.inf
            largest = tile.amax(dim=1, keepdim=True)
            tile.sub_(largest).exp_()
            sums = tile.sum(dim=1)
            total += weight @ (sums.log() + largest[:, 0])
            if wanted:
                tile.mul_((weight / sums)[:, None])  # d total / d similarity
                gradient.index_add_(0, chosen, tile @ features, alpha=1.0 / temperature)
                gradient.addmm_(tile.T, own)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (None if gradient is None else gradient * upstream, *(None,) * 6)
