"""The validation key metric as a MONAI metric, from the same counts and rules as the evaluation."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric

from scripts.metrics.confusion import OVERLAP_NAMES, batch_confusion_counts, overlap_figures, pooled_figures

LESION = 1  # class index
POOLED_NAMES = tuple(pooled_figures(1, 0, 0, 1))


class LesionDice(CumulativeIterationMetric):
    """Overlap of the lesion over a split, from four counts an image.

    Call it with `y_pred` and `y` as (B, C, H, W), or as lists of (C, H, W) whose sizes may differ: C = 1 holds class
    indices (0 background, 1 lesion), C >= 2 one-hot classes or scores, of which the largest counts. The buffer holds
    int64 (N, 4) counts and is gathered over processes as any MONAI metric is. Images that a distributed sampler
    repeats to even out the processes count twice: use MONAI's DistributedSampler with even_divisible=False.

    Args:
        kind: what `aggregate` gives without an argument. "dice", "iou", "recall", "precision": mean over images;
            "dice_pooled", "iou_pooled", "recall_pooled", "precision_pooled", "miou", "mrecall": from summed counts.

    Raises:
        ValueError: for an unknown kind.
    """

    def __init__(self, kind: str = "dice") -> None:
        super().__init__()
        self.kind = _checked_kind(kind)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: object) -> torch.Tensor:
        if y is None:
            raise ValueError("LesionDice got no label (y is None), expected one for each prediction.")
        return batch_confusion_counts(lesion_mask(y_pred, "prediction"), lesion_mask(y, "label"))

    def aggregate(self, kind: str | None = None) -> torch.Tensor:
        """The figure over all images so far and all processes, a 0-d float32 tensor in 0..1.

        Raises:
            ValueError: for an unknown kind, or before the first image.
        """
        kind = self.kind if kind is None else _checked_kind(kind)
        counts = self.get_buffer()
        if counts is None or len(counts) == 0:
            raise ValueError("LesionDice has seen no image, expected at least one: is the validation split empty?")
        columns = counts.cpu().numpy().astype(np.float64).T
        if kind in OVERLAP_NAMES:
            value = overlap_figures(*columns)[kind].mean()
        else:
            value = pooled_figures(*columns.sum(axis=1))[kind]
        return torch.tensor(float(value), dtype=torch.float32)


def lesion_mask(classes: torch.Tensor, name: str) -> torch.Tensor:
    """Boolean (B, H, W) from (B, C, H, W): class indices for C = 1, the largest channel for C >= 2.

    Raises:
        ValueError: for another number of dimensions, or one channel that holds anything but 0 and 1.
    """
    if classes.ndim != 4:
        raise ValueError(f"{name} is {tuple(classes.shape)}, expected (B, C, H, W).")
    if classes.shape[1] > 1:
        return classes.argmax(dim=1) == LESION
    lesion = classes[:, 0] == LESION
    if not (lesion | (classes[:, 0] == 0)).all():
        raise ValueError(
            f"{name} of one channel ranges over {float(classes.min()):g}..{float(classes.max()):g}, expected the class"
            " indices 0 and 1: threshold probabilities (AsDiscreted) and map mask values first."
        )
    return lesion


def _checked_kind(kind: str) -> str:
    if kind not in OVERLAP_NAMES + POOLED_NAMES:
        raise ValueError(f"LesionDice kind is {kind!r}, expected one of {', '.join(OVERLAP_NAMES + POOLED_NAMES)}.")
    return kind
