"""Figures of parts of a split: by how much of the frame the lesion fills, and by the folder that a frame comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from scripts.metrics.confusion import OVERLAP_NAMES
from scripts.metrics.intervals import draw_weights, share_with_interval

#: upper edges of the lesion's share of the frame, 0..1, and what the parts are called
SIZES = {
    0.0: "no lesion",
    0.01: "lesion up to 1 %",
    0.05: "lesion 1 to 5 %",
    0.15: "lesion 5 to 15 %",
    1.0: "lesion over 15 %",
}
MOST_SOURCES = 8  # more folders than that are patients or videos: a table of them tells nobody anything

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Subgroup:
    """A part of a split.

    Attributes:
        axis: "size" or "source". name: of the part.
        images, groups: how many. figures: {dice, iou, recall, precision: (mean over images, (low, high) or None)}.
    """

    axis: str
    name: str
    images: int
    groups: int
    figures: dict[str, tuple[float, tuple[float, float] | None]]


def subgroups(rows: Sequence[Row], bootstrap: int = 1000, seed: int = 0) -> list[Subgroup]:
    """Parts of the rows of per_image.csv that hold an image, by size, then by source if there are two to eight.

    Args:
        rows: with file, group, height, width, lesion_px, dice, iou, recall, precision.
        bootstrap: draws of groups for the 95 % intervals, each part by itself. seed: of the draws.
    """
    parts = [*_by_size(rows), *_by_source(rows)]
    return [_measured(axis, name, own, bootstrap, seed) for axis, name, own in parts if own]


def _by_size(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    shares = [float(row["lesion_px"]) / (float(row["height"]) * float(row["width"])) for row in rows]
    low = -1.0
    for high, name in SIZES.items():
        yield "size", name, [row for row, share in zip(rows, shares, strict=True) if low < share <= high]
        low = high


def _by_source(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """By the first folder in which the paths of the files differ."""
    folders = [PurePosixPath(row["file"]).parent.parts for row in rows]
    shared = len(os.path.commonprefix(folders)) if folders else 0
    sources = ["/".join(folder[shared : shared + 1]) or "." for folder in folders]
    names = sorted(set(sources))
    if 2 <= len(names) <= MOST_SOURCES:
        for name in names:
            yield "source", name, [row for row, source in zip(rows, sources, strict=True) if source == name]


def _measured(axis: str, name: str, rows: list[Row], bootstrap: int, seed: int) -> Subgroup:
    groups = [str(row["group"]) for row in rows]
    weights = draw_weights(len(set(groups)), bootstrap, seed)
    figures = {}
    for figure in OVERLAP_NAMES:
        values = np.array([[float(row[figure]), 1.0] for row in rows])
        figures[figure] = share_with_interval(groups, values, weights)
    return Subgroup(axis, name, len(rows), len(set(groups)), figures)
