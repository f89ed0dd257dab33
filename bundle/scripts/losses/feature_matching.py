"""Feature matching: the student's maps are to point where the teacher's do, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeatureMatchingLoss(nn.Module):
    """1 - cosine similarity of the maps of student and teacher, mean over pixels, pictures and strides; 0..2.

    The hints of FitNets (Romero et al. 2015, eq. 3) at each stride, on standardised maps: every channel has mean 0 and
    variance 1 over the pixels of the batch, and every pixel's vector length 1. Neither the scale nor the offset of a
    channel counts, and a map that says the same of every pixel is worth what chance is, 1. For unit vectors the cosine
    is the squared distance of the paper, halved.
    """

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), one pair a stride -> scalar.

        Raises:
            ValueError: see feature_similarity.
        """
        return 1.0 - feature_similarity(student, teacher).mean()


def feature_similarity(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Cosine of standardised maps, mean over the pixels of a picture and over strides.

    Args:
        student, teacher: maps (B, C_i, h_i, w_i), one pair a stride.

    Returns:
        (B,) in -1..1; by chance 0.

    Raises:
        ValueError: no maps, or maps that do not fit each other.
    """
    shapes = [[tuple(one.shape) for one in maps] for maps in (student, teacher)]
    if not shapes[0] or shapes[0] != shapes[1]:
        raise ValueError(
            f"the student's maps are {shapes[0]}, the teacher's {shapes[1]}; expected the same shapes, at least one: "
            "set --image_size to a multiple of 32"
        )
    with torch.autocast(student[0].device.type, enabled=False):
        found = [
            functional.cosine_similarity(_standardised(one), _standardised(other), dim=1).mean(dim=(1, 2))
            for one, other in zip(student, teacher, strict=True)
        ]
    return torch.stack(found).mean(dim=0)


def _standardised(values: Tensor) -> Tensor:
    """(B, C, h, w) -> each channel with mean 0 and variance 1 over the batch; a constant one becomes 0."""
    values = values if values.dtype == torch.float64 else values.float()
    variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0, keepdim=True)
    return (values - mean) * torch.rsqrt(variance + 1e-8)
