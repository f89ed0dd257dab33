"""False alarms at equal recall: the evaluation of a run, with the threshold swept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from label_axes import RECALLS, at_recall  # noqa: E402

from scripts.metrics import LesionEvaluation  # noqa: E402
from scripts.metrics.evaluation import Figure  # noqa: E402

#: thresholds are counted at multiples of 1 / BINS
BINS = 200


class SweptEvaluation(LesionEvaluation):
    """LesionEvaluation with one figure more for each of RECALLS: false-positive frames where the recall is that.

    The threshold is the highest multiple of 1 / BINS at which the recall of lesion pixels, pooled over the split, is
    at least so high. It is found on the very frames that are measured: it says how two networks compare when neither
    finds more than the other, not what a clinic would get.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._predicted: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, file: str, group: str, probability: Any, truth: Any) -> dict[str, Any]:
        """See LesionEvaluation."""
        row = super().add(file, group, probability, truth)
        lesion = np.asarray(truth) == 1
        # The bin of a pixel is the highest threshold that it reaches.
        reached = np.minimum((np.asarray(probability).clip(0, 1) * BINS).astype(int), BINS - 1)
        counts = [np.bincount(reached[where], minlength=BINS) for where in (lesion, ~lesion)]
        # Pixels at or above each threshold.
        found, false = (count[::-1].cumsum()[::-1] for count in counts)
        self._predicted[file] = found, false
        return row

    def merge(self, other: LesionEvaluation) -> None:
        """See LesionEvaluation."""
        super().merge(other)
        self._predicted = {**other._predicted, **self._predicted}

    def figures(self, **options: Any) -> dict[str, Figure]:
        """See LesionEvaluation; the new figures have no interval, and no value without lesion-free frames."""
        figures = super().figures(**options)
        rows = self.rows
        found = np.stack([self._predicted[row["file"]][0] for row in rows])
        false = np.stack([self._predicted[row["file"]][1] for row in rows])
        pixels = np.array([row["height"] * row["width"] for row in rows])
        free = np.array([row["lesion_px"] == 0 for row in rows])
        lesion = sum(row["lesion_px"] for row in rows)
        for recall in RECALLS:
            value = None
            if free.any() and lesion:
                threshold = int(np.flatnonzero(found.sum(axis=0) >= recall * lesion)[-1])
                alarms = false[free, threshold] > self.false_positive_area * pixels[free]
                value = float(alarms.mean())
            figures[at_recall(recall)] = {
                "value": value, "low": None, "high": None, "unit": "share of lesion-free frames",
                "definition": f"false-positive frames at the threshold of a pooled recall of {recall:g} on them",
            }  # fmt: skip
        return figures
