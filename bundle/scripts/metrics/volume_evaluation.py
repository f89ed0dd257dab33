"""Dice and IoU of each structure in each volume, from the class indices of its slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from scripts.io.frame_address import split_address
from scripts.io.table import Table
from scripts.metrics.confusion import overlap_figures
from scripts.metrics.definitions import volume_definition
from scripts.metrics.evaluation import Figure
from scripts.metrics.intervals import draw_weights, share_with_interval, with_interval

COLUMNS = (
    *("file", "group", "slices", "class", "dice", "iou", "tp", "fp", "fn"),
    *("truth_voxels", "predicted_voxels", "voxels"),
)
RESERVED = ("pooled",)  # "dice_pooled" is a figure of its own


class VolumeEvaluation:
    """Collects slices one by one, then gives figures of whole volumes with 95 % intervals over groups.

    Counts of true and false positives and of false negatives are summed over the slices of a volume: the Dice that
    follows is that of the stacked volume. The rules for structures that are not there stand in metrics/confusion.py.

    Args:
        classes: names, the place is the class index; the first is the background and is not measured.

    Raises:
        ValueError: fewer than two classes, names that are empty, doubled, or taken by a figure.
    """

    table = "per_volume.csv"  # what its rows are called in a run directory

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(map(str, classes))
        structures = self.classes[1:]
        if not structures or len(set(structures)) < len(structures) or {"", *RESERVED} & set(structures):
            raise ValueError(
                f"classes are {list(classes)}; expected the background and at least one structure, each with a name of "
                f"its own that is not {' or '.join(RESERVED)}"
            )
        # of each slice: volume, group, counts (structures, 3) and pixels; kept apart so that none counts twice
        self._slices: dict[str, tuple[str, str, np.ndarray, int]] = {}

    def __len__(self) -> int:
        return len(self._slices)

    def add(
        self, file: str, group: str, prediction: np.ndarray | torch.Tensor, truth: np.ndarray | torch.Tensor
    ) -> None:
        """Count one slice.

        Args:
            file: its address, "volume.nii.gz#12", relative to the dataset; a picture that is none of several is a
                volume of one slice. group: patient.
            prediction, truth: class index (H, W) of any integer type, at original resolution.

        Raises:
            ValueError: naming the file, for a slice that was added before, other shapes, or no such class.
        """
        if file in self._slices:
            raise ValueError(f"{file}: added twice to one evaluation, expected once; a repeated slice counts double.")
        predicted, true = (self._checked(file, *part) for part in (("prediction", prediction), ("label", truth)))
        if predicted.shape != true.shape:
            raise ValueError(
                f"{file}: prediction is {predicted.shape}, label {true.shape}, expected both (H, W) of the original "
                "slice: bring the prediction to the label's size."
            )
        count = len(self.classes)
        pairs = true.astype(np.int64).ravel() * count + predicted.ravel()
        matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)  # rows: truth
        both, actual, found = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        counts = np.stack([both, found - both, actual - both], axis=1)[1:]
        self._slices[file] = (str(split_address(file)[0]), str(group), counts, true.size)

    def merge(self, other: VolumeEvaluation) -> None:
        """Take over the slices of another evaluation; one that both hold (a padded sampler's) is kept once.

        Raises:
            ValueError: when the two have other classes.
        """
        if self.classes != other.classes:
            raise ValueError(f"Evaluations of classes {list(self.classes)} and {list(other.classes)} differ.")
        self._slices = {**other._slices, **self._slices}

    def gather(self) -> None:
        """Take over the slices of all processes, where torch.distributed runs; every process must call it."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        parts: list[VolumeEvaluation | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self)
        for part in parts:
            self.merge(part)  # type: ignore[arg-type]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict of `COLUMNS` for each structure of each volume, sorted by volume, in the order of the classes."""
        groups, counts, slices, voxels = self._volumes()
        rows = []
        for place, (file, group) in enumerate(groups.items()):
            for name, (tp, fp, fn) in zip(self.classes[1:], counts[place].tolist(), strict=True):
                figures = overlap_figures(tp, fp, fn, voxels[place] - tp - fp - fn)
                row = {"file": file, "group": group, "slices": slices[place], "class": name}
                row |= {key: float(figures[key]) for key in ("dice", "iou")}
                row |= {"tp": tp, "fp": fp, "fn": fn, "truth_voxels": tp + fn, "predicted_voxels": tp + fp}
                rows.append(row | {"voxels": voxels[place]})
        return rows

    def figures(self, temperature: float | None = None, bootstrap: int = 1000, seed: int = 0) -> dict[str, Figure]:
        """All figures: {name: {"value", "low", "high", "unit", "definition"}}.

        "dice" and "iou" are means over volumes and structures, "dice_<structure>" over volumes, "dice_pooled" is from
        the counts of all volumes, mean over structures.

        Args:
            temperature: not used; class indices have none. bootstrap: draws of groups. seed: of the draws.

        Raises:
            ValueError: before the first slice.
        """
        if not self._slices:
            raise ValueError("The evaluation holds no slice, expected at least one: is the split empty?")
        named, counts, _, voxels = self._volumes()
        groups = list(named.values())
        weights = draw_weights(len(set(groups)), bootstrap, seed)
        overlap = _overlap(counts)
        ones = np.ones(len(groups))

        def mean(values: np.ndarray) -> tuple[float, Any]:
            return share_with_interval(groups, np.stack([values, ones], axis=1), weights)

        results = {name: mean(overlap[name].mean(axis=1)) for name in ("dice", "iou")}
        for place, name in enumerate(self.classes[1:]):
            results[f"dice_{name}"] = mean(overlap["dice"][:, place])
        results["dice_pooled"] = with_interval(
            groups, counts.astype(np.float64), lambda sums: _overlap(sums)["dice"].mean(axis=1), weights
        )
        return {name: _figure(name, *result) for name, result in results.items()}

    def write_csv(self, path: str | Path) -> Path:
        """Write the rows as per_volume.csv, whole or not at all. Raises OutputError when it cannot be written."""
        table = Table(COLUMNS)
        for row in self.rows:
            table.add(**row)
        table.write(path)
        return Path(path)

    def _volumes(self) -> tuple[dict[str, str], np.ndarray, list[int], list[int]]:
        """{volume: group} sorted by volume, counts int64 (V, structures, 3), slices and voxels of each."""
        groups: dict[str, str] = {}
        for file, (volume, group, _, _) in sorted(self._slices.items()):
            if groups.setdefault(volume, group) != group:
                raise ValueError(f"{file}: of group {group!r}, other slices of {volume} are of {groups[volume]!r}.")
        place = {volume: index for index, volume in enumerate(sorted(groups))}
        counts = np.zeros((len(groups), len(self.classes) - 1, 3), np.int64)
        slices, voxels = [0] * len(groups), [0] * len(groups)
        for volume, _, found, pixels in self._slices.values():
            counts[place[volume]] += found
            slices[place[volume]] += 1
            voxels[place[volume]] += pixels
        return {volume: groups[volume] for volume in place}, counts, slices, voxels

    def _checked(self, file: str, name: str, classes: np.ndarray | torch.Tensor) -> np.ndarray:
        found = classes.detach().cpu().numpy() if isinstance(classes, torch.Tensor) else np.asarray(classes)
        if found.ndim != 2 or not found.size or found.dtype.kind not in "biu":
            raise ValueError(
                f"{file}: {name} is {found.shape} {found.dtype}, expected class index (H, W): take argmax."
            )
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"{file}: {name} ranges over {low}..{high}, expected class indices 0..{len(self.classes) - 1} of "
                f"{list(self.classes)}: map its values (--value_map)."
            )
        return found


def _overlap(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Dice and IoU (..., structures) from counts (..., structures, 3)."""
    tp, fp, fn = np.moveaxis(counts, -1, 0)
    return overlap_figures(tp, fp, fn, np.zeros_like(tp))


def _figure(name: str, value: float, interval: tuple[float, float] | None) -> Figure:
    low, high = interval if interval is not None else (None, None)
    return {
        "value": value,
        "low": low,
        "high": high,
        "unit": "0..1",
        "definition": volume_definition(name, interval is not None),
    }
