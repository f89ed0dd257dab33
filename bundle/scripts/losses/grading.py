"""Cross entropy over grades of which some are rare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn


def grade_loss(
    severities: Sequence[float], grades: int, balance: float = 0.5, label_smoothing: float = 0.0
) -> nn.CrossEntropyLoss:
    """Cross entropy in which a picture of grade g weighs (N / n_g) ** balance, n_g being how many of N are of it.

    Args:
        severities: grades 0..grades - 1 of the training pictures; one that is not among them has no weight.
        grades: how many there are.
        balance: 0 = all pictures weigh the same, 1 = all grades do.
        label_smoothing: share of the target that is spread over all grades, 0..1.

    Returns:
        of logits (B, grades) and grades (B,) -> scalar, the weighted mean.

    Raises:
        ValueError: numbers out of range.
    """
    if not 0 <= balance <= 1 or not 0 <= label_smoothing < 1:
        raise ValueError(f"balance is {balance}, label_smoothing {label_smoothing}; expected 0..1 and 0 to below 1.")
    counts = Counter(int(severity) for severity in severities)
    if unknown := sorted(grade for grade in counts if not 0 <= grade < grades):
        raise ValueError(f"there are pictures of the grade {unknown[0]}; expected 0 to {grades - 1}.")
    weights = [(len(severities) / counts[grade]) ** balance if counts[grade] else 0.0 for grade in range(grades)]
    return nn.CrossEntropyLoss(weight=torch.tensor(weights), label_smoothing=label_smoothing)
