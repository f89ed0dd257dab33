"""How a mask file marks lesion, so that files which mark different things are told apart."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import NamedTuple

import numpy as np
from PIL import Image

from scripts.io.frame_address import split_address
from scripts.io.label_volume import distinct_values, is_volume, open_labels
from scripts.io.mask_colours import COLOUR_DISTANCE, palette_colours
from scripts.io.mask_reader import THRESHOLD, binary_mask, read_mask
from scripts.io.picture import load_upright


class LesionMark(NamedTuple):
    """The one value that stands for lesion in a file.

    value: grey value, palette index, or label, as the file stores it; at most THRESHOLD, so that it may be a class.
    colour: RGB 0..255 of a palette index, which a program that saves few colours may number as it likes.
    """

    value: int
    colour: tuple[int, int, int] | None = None


def read_marked_mask(path: str | PathLike[str]) -> tuple[np.ndarray, LesionMark | None]:
    """Read one binary mask -> ((H, W) uint8 as read_mask has it without value_map, its mark).

    The mark is None where lesion has several values, one above THRESHOLD (255, of bilevel masks), or a colour that is
    not of a palette; and where there is no lesion. Raises MediaError, as read_mask does.
    """
    file, _ = split_address(path)
    if is_volume(file):
        mask = read_mask(path)
        labels = [int(value) for value in open_labels(file).values if value != 0]
        return mask, LesionMark(labels[0]) if labels and labels[0] <= THRESHOLD else None
    image = load_upright(path)
    mask = binary_mask(image, path)
    return mask, _mark(image, mask)


def _mark(image: Image.Image, mask: np.ndarray) -> LesionMark | None:
    stored = np.array(image)
    if stored.ndim != 2 or image.mode == "1":
        return None
    values = distinct_values(stored[mask > 0])
    if len(values) != 1 or values[0] > THRESHOLD:
        return None
    value = int(values[0])
    colour = tuple(palette_colours(image)[value].tolist()) if image.mode == "P" else None
    return LesionMark(value, colour)


def differing_marks(marks: Mapping[str, LesionMark | None]) -> tuple[str, str] | None:
    """Two of the files that mark lesion by different values, which are classes then; None where there are none."""
    first: dict[LesionMark, str] = {}
    for path, mark in marks.items():
        if mark is None or mark in first:
            continue
        for other, file in first.items():
            if _differ(mark, other):
                return file, path
        first[mark] = path
    return None


def _differ(one: LesionMark, two: LesionMark) -> bool:
    if one.value == two.value:
        return False
    if one.colour is None or two.colour is None:
        return True
    return float(np.linalg.norm(np.subtract(one.colour, two.colour))) > COLOUR_DISTANCE
