"""Every figure that is reported, from lesion probabilities and masks at original resolution."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from scripts.io.writers import write_bytes
from scripts.metrics.calibration import bin_sums, calibration_error, fit_temperature, sample_band, scale
from scripts.metrics.confusion import OVERLAP_NAMES, confusion_counts, counts_array, overlap_figures, pooled_figures
from scripts.metrics.definitions import TITLES, definition, unit
from scripts.metrics.intervals import draw_weights, mean_of_sums, share_with_interval, with_interval
from scripts.metrics.surface import surface_figures

COLUMNS = (
    "file", "group", "height", "width", "lesion_px", "predicted_px", *OVERLAP_NAMES, "hd95", "surface_dice",
    "tp", "fp", "fn", "tn",
)  # fmt: skip
PER_IMAGE = (*OVERLAP_NAMES, "hd95", "surface_dice")
POOLED = tuple(pooled_figures(1, 0, 0, 1))

ROUNDING = 1e-3  # beyond 0..1, what half precision and resizing may add to a probability

Figure = dict[str, Any]


class LesionEvaluation:
    """Collects images one by one, then gives the figures of DESIGN.md with 95 % intervals over groups.

    Args:
        false_positive_area: a lesion-free frame is a false alarm when more than this share of its pixels is predicted
            as lesion (0.0005: 150 px of a 600 x 500 frame).
        surface_tolerance: pixels at original resolution within which an outline counts as right.
    """

    table = "per_image.csv"  # what its rows are called in a run directory

    def __init__(self, false_positive_area: float = 0.0005, surface_tolerance: float = 2.0) -> None:
        if not 0 <= false_positive_area < 1:
            raise ValueError(f"false_positive_area is {false_positive_area}, expected a share of the image in 0..1.")
        if surface_tolerance < 0:
            raise ValueError(f"surface_tolerance is {surface_tolerance}, expected 0 pixels or more.")
        self.false_positive_area = false_positive_area
        self.surface_tolerance = surface_tolerance
        self._rows: dict[str, dict[str, Any]] = {}
        self._band: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict of `COLUMNS` an image, sorted by file, so that no figure depends on the order of arrival."""
        return [self._rows[file] for file in sorted(self._rows)]

    def add(
        self, file: str, group: str, probability: np.ndarray | torch.Tensor, truth: np.ndarray | torch.Tensor
    ) -> dict[str, Any]:
        """Measure one image; lesion is predicted where its probability is over 0.5.

        Args:
            file: path relative to the dataset, the key of the row. group: patient, video or sequence.
            probability: lesion probability (H, W), 0..1, at original resolution. truth: (H, W), bool or 0 and 1.

        Returns:
            the row that was added.

        Raises:
            ValueError: naming the file, for a second image of that name, other shapes, or values out of range.
        """
        if file in self._rows:
            raise ValueError(f"{file}: added twice to one evaluation, expected once; a repeated row counts double.")
        probability, truth = _checked(file, probability, truth)
        prediction = probability > 0.5
        tp, fp, fn, tn = confusion_counts(prediction, truth)
        hd95, surface_dice = surface_figures(prediction, truth, self.surface_tolerance)
        overlap = {name: float(value) for name, value in overlap_figures(tp, fp, fn, tn).items()}
        row = {"file": file, "group": str(group), "height": truth.shape[0], "width": truth.shape[1]}
        row |= {"lesion_px": tp + fn, "predicted_px": tp + fp, **overlap, "hd95": hd95, "surface_dice": surface_dice}
        row |= {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
        self._rows[file] = row
        self._band[file] = sample_band(file, probability, truth)
        return row

    def merge(self, other: LesionEvaluation) -> None:
        """Take over the images of another evaluation; a file that both hold (a padded sampler's) is kept once.

        Raises:
            ValueError: when the two were made with different settings.
        """
        mine, theirs = ((e.false_positive_area, e.surface_tolerance) for e in (self, other))
        if mine != theirs:
            raise ValueError(f"Evaluations with (false_positive_area, surface_tolerance) {mine} and {theirs} differ.")
        self._rows = {**other._rows, **self._rows}
        self._band = {**other._band, **self._band}

    def gather(self) -> None:
        """Take over the images of all processes, where torch.distributed runs; every process must call it."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        parts: list[LesionEvaluation | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self)
        for part in parts:
            self.merge(part)  # type: ignore[arg-type]

    def fit_temperature(self) -> float:
        """The temperature that suits the band pixels of these images best; call it on the validation split.

        Raises:
            ValueError: when no image has a lesion or a predicted one.
        """
        pairs = [self._band[file] for file in sorted(self._band)]
        empty = (np.empty(0), np.empty(0, dtype=bool))
        probability, truth = (np.concatenate(part) for part in zip(*pairs or [empty], strict=True))
        return fit_temperature(probability, truth)

    def figures(self, temperature: float | None = None, bootstrap: int = 1000, seed: int = 0) -> dict[str, Figure]:
        """All figures: {name: {"value", "low", "high", "unit", "definition"}}.

        Args:
            temperature: from the validation split; without it `ece_scaled` is None.
            bootstrap: draws of groups for the 95 % interval. seed: of the draws.

        Returns:
            `value` is None where a figure is not defined here, `low` and `high` where there is no interval (fewer than
            two groups); the definition then says why.

        Raises:
            ValueError: before the first image.
        """
        if not self._rows:
            raise ValueError("The evaluation holds no image, expected at least one: is the split empty?")
        rows = self.rows
        groups = [row["group"] for row in rows]
        weights = draw_weights(len(set(groups)), bootstrap, seed)

        def measure(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[float, Any]:
            return with_interval(groups, values, statistic, weights)

        images = np.ones(len(rows))
        results: dict[str, tuple[float, Any]] = {}
        for name in PER_IMAGE:
            values = np.stack([[row[name] for row in rows], images], axis=1)
            in_pixels = name == "hd95"
            results[name] = measure(values, mean_of_sums) if in_pixels else share_with_interval(groups, values, weights)
        counts = counts_array(rows)
        for name in POOLED:
            results[name] = measure(counts, lambda sums, name=name: pooled_figures(*sums.T)[name])
        free = counts[:, 0] + counts[:, 2] == 0
        alarm = free & (counts[:, 1] > self.false_positive_area * counts.sum(axis=1))
        alarms = np.stack([alarm, free], axis=1).astype(float)
        results["false_positive_frames"] = share_with_interval(groups, alarms, weights)
        results["ece"] = measure(self._bins(1.0), calibration_error)
        if temperature is not None:
            results["ece_scaled"] = measure(self._bins(temperature), calibration_error)

        facts = {
            "free": int(free.sum()), "area": self.false_positive_area, "tolerance": self.surface_tolerance,
            "temperature": temperature,
        }  # fmt: skip
        return {name: _figure(name, results.get(name), facts) for name in TITLES}

    def write_csv(self, path: str | Path) -> Path:
        """Write the rows as per_image.csv, whole or not at all. Raises OutputError when it cannot be written."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: f"{cell:.6f}" if isinstance(cell, float) else cell for key, cell in row.items()})
        write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))
        return Path(path)

    def _bins(self, temperature: float) -> np.ndarray:
        """Bin sums of each image, float64 (N, 3, bins)."""
        pairs = [self._band[file] for file in sorted(self._band)]
        return np.stack([bin_sums(scale(probability, temperature), truth) for probability, truth in pairs])


def _figure(name: str, result: tuple[float, Any] | None, facts: dict[str, Any]) -> Figure:
    value, interval = result if result is not None else (float("nan"), None)
    defined = bool(np.isfinite(value))
    low, high = interval if defined and interval is not None else (None, None)
    return {
        "value": value if defined else None,
        "low": low,
        "high": high,
        "unit": unit(name, facts),
        "definition": definition(name, facts, defined, low is not None),
    }


def _checked(
    file: str, probability: np.ndarray | torch.Tensor, truth: np.ndarray | torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Probability as a floating and truth as a boolean array (H, W), or an error that names the file."""
    probability, truth = (
        x.detach().cpu().float().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (probability, truth)
    )
    if truth.ndim != 2 or truth.size == 0 or probability.shape != truth.shape:
        raise ValueError(
            f"{file}: probability is {probability.shape}, mask {truth.shape}, expected both (H, W) of the original"
            " image: resize the probability to the mask's size."
        )
    if not np.issubdtype(probability.dtype, np.floating):
        raise ValueError(f"{file}: probability is {probability.dtype}, expected floating point in 0..1.")
    low, high = float(probability.min()), float(probability.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # nan fails both
        raise ValueError(f"{file}: probability ranges over {low:g}..{high:g}, expected 0..1: apply softmax first.")
    lesion = truth == 1
    if not (lesion | (truth == 0)).all():
        raise ValueError(f"{file}: mask ranges over {truth.min()}..{truth.max()}, expected 0 and 1: map its values.")
    return probability.clip(0, 1), lesion
