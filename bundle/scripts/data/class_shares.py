"""How much of the labelled pixels each class has: the prior that pseudo-labels are compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset


def labeled_class_shares(dataset: Dataset, classes: int = 2) -> list[float]:
    """Mean over frames of the share of each class in their masks, 0..1, together 1; each frame counts the same.

    Args:
        dataset: items with "label", whole numbers in 0..classes - 1, any shape.
        classes: number of classes, background first.
    """
    shares = torch.stack([_shares(dataset[index]["label"], classes) for index in range(len(dataset))])
    return shares.mean(dim=0).tolist()


def _shares(label: Tensor, classes: int) -> Tensor:
    """(classes,) of one mask, in double precision."""
    flat = torch.as_tensor(label).reshape(-1).long()
    return torch.bincount(flat, minlength=classes).double() / max(1, flat.numel())
