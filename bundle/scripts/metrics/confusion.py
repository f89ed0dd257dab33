"""Pixel counts of one image or of a split, and the overlap figures that follow from them.

The one definition of Dice, IoU, recall and precision of this project: training's key metric, the evaluation and the
report all come here. The rules for empty masks, which libraries settle differently:

| truth | prediction | Dice | IoU | recall | precision |
|---|---|---|---|---|---|
| empty | empty | 1 | 1 | 1 | 1 |
| empty | not empty | 0 | 0 | 0 | 0 |
| not empty | empty | 0 | 0 | 0 | 0 |

Recall of an empty truth is 0/0 by its formula; it is 0 here when anything is predicted, so that a false alarm on a
lesion-free frame lowers every figure. Precision of an empty prediction is 0/0; it is 0 here when a lesion was missed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike

OVERLAP_NAMES = ("dice", "iou", "recall", "precision")


def batch_confusion_counts(prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Counts of every image of a batch, on the tensors' own device.

    Args:
        prediction, truth: boolean (B, H, W), True where there is lesion.

    Returns:
        int64 (B, 4): true positives, false positives, false negatives, true negatives.

    Raises:
        TypeError: when either is not boolean: a probability would be counted as lesion wherever it is not 0.
        ValueError: when the shapes differ.
    """
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != torch.bool:
            raise TypeError(f"{name} is {mask.dtype}, expected torch.bool: threshold it first, e.g. {name} > 0.5.")
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction is {tuple(prediction.shape)}, truth {tuple(truth.shape)}: bring the prediction to the original"
            " size of its mask before comparing."
        )
    both = (prediction & truth).flatten(1).sum(1)
    predicted = prediction.flatten(1).sum(1)
    actual = truth.flatten(1).sum(1)
    pixels = prediction[0].numel() if len(prediction) else 0
    return torch.stack([both, predicted - both, actual - both, pixels - predicted - actual + both], dim=1)


def confusion_counts(
    prediction: np.ndarray | torch.Tensor, truth: np.ndarray | torch.Tensor
) -> tuple[int, int, int, int]:
    """Counts of one image: (true positives, false positives, false negatives, true negatives) in pixels.

    Args:
        prediction, truth: boolean (H, W), True where there is lesion.

    Raises:
        TypeError, ValueError: as batch_confusion_counts.
    """
    counts = batch_confusion_counts(torch.as_tensor(prediction)[None], torch.as_tensor(truth)[None])
    tp, fp, fn, tn = counts[0].tolist()
    return tp, fp, fn, tn


def overlap_figures(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> dict[str, np.ndarray]:
    """Dice, IoU, recall and precision of the lesion, 0..1, from counts of any one shape (0-d for one image).

    Counts of single images give per-image figures, counts summed over a split give pooled ones. `tn` enters none of
    the four; it is asked for so that a background figure is the same call with the counts in reverse order.
    The rules for empty masks are in this file's first lines.
    """
    tp, fp, fn, _ = (np.asarray(count, dtype=np.float64) for count in (tp, fp, fn, tn))
    nothing = (tp + fp + fn) == 0
    return {
        "dice": _ratio(2 * tp, 2 * tp + fp + fn, nothing),
        "iou": _ratio(tp, tp + fp + fn, nothing),
        "recall": _ratio(tp, tp + fn, nothing),
        "precision": _ratio(tp, tp + fp, nothing),
    }


def pooled_figures(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, tn: ArrayLike) -> dict[str, np.ndarray]:
    """Figures of one confusion matrix over a split; give the counts summed over its images.

    Returns:
        dice_pooled, iou_pooled, recall_pooled, precision_pooled of the lesion; miou, mrecall: means over background
        and lesion (methods.md A.6: the published LESS-Net figures are these two).
    """
    lesion = overlap_figures(tp, fp, fn, tn)
    background = overlap_figures(tn, fn, fp, tp)
    figures = {f"{name}_pooled": value for name, value in lesion.items()}
    figures["miou"] = (lesion["iou"] + background["iou"]) / 2
    figures["mrecall"] = (lesion["recall"] + background["recall"]) / 2
    return figures


def counts_array(rows: list[Mapping[str, float]]) -> np.ndarray:
    """The counts of many per-image rows as float64 (N, 4): tp, fp, fn, tn."""
    return np.array([[row["tp"], row["fp"], row["fn"], row["tn"]] for row in rows], dtype=np.float64).reshape(-1, 4)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """numerator / denominator; 1 where truth and prediction are both empty, else 0 where the denominator is 0."""
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return np.where(nothing, 1.0, ratio)
