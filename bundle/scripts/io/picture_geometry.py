"""The place of a picture's pixels as ITK, and so 3D Slicer, sees it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.io.errors import MediaError, refuse_foreign
from scripts.io.picture import FORMATS

_ORIENTATION = 0x0112  # of EXIF and TIFF; 1 = upright
_UNIT_MM = {1: 25.4, 2: 10.0}  # JFIF: dots an inch, dots a centimetre
_TIFF_UNIT_MM = {2: 25.4, 3: 10.0}
# EXIF orientation -> how the upright picture's columns and rows run in the stored one, as (column, row) steps
_TURNED = {
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, -1), (1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, 1), (-1, 0)),
}


def picture_orientation(path: Path) -> int:
    """EXIF orientation of a picture, 1 (upright) to 8. Raises MediaError for a file that is no picture."""
    with _open(path) as image:
        found = image.getexif().get(_ORIENTATION, 1)
    return found if found in _TURNED else 1


def picture_affine(path: Path) -> NDArray[np.float64]:
    """Index (column, row, 0) of the upright picture -> position in LPS, mm, (4, 4).

    ITK takes the dots an inch of a JPEG or TIFF file for its spacing (72 of them: 0.35 mm), and 1 mm of other files. It
    mirrors TIFF as the orientation says but never turns, and leaves the orientation of other files alone; pixels are
    read upright here, and what ITK does not do is done in this affine.
    Raises MediaError: missing, or not a picture.
    """
    orientation = picture_orientation(path)
    with _open(path) as image:
        if image.format != "TIFF":
            affine = _turn(orientation, image.size)
        else:  # Pillow tells the upright size of a TIFF file; its tags tell the stored one
            stored = (image.tag_v2[256], image.tag_v2[257])
            affine = _turn(orientation - 4 * (orientation > 4), stored) @ _turn(orientation, stored)
        return np.diag([*_spacing(image), 1.0, 1.0]) @ affine


def _turn(orientation: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Upright (column, row, 0, 1) -> stored (column, row, 0, 1); size: (width, height) as stored."""
    columns, rows = _TURNED[orientation]
    affine = np.eye(4)
    affine[:2, 0], affine[:2, 1] = columns, rows
    affine[:2, 3] = np.where(np.add(columns, rows) < 0, np.subtract(size, 1), 0)
    return affine


def _open(path: Path) -> Image.Image:
    refuse_foreign(path)
    try:
        return Image.open(path, formats=FORMATS)
    except Exception as error:  # Pillow's and Python's own
        raise MediaError(
            f"{path}: not an image that can be read ({type(error).__name__}); copy it again from its source"
        ) from error


def _spacing(image: Image.Image) -> tuple[float, float]:
    """mm from column to column and from row to row."""
    unit, densities = 0.0, (0, 0)
    if image.format in ("JPEG", "MPO"):
        unit, densities = _UNIT_MM.get(image.info.get("jfif_unit", 0), 0.0), image.info.get("jfif_density", (0, 0))
    elif image.format == "TIFF":
        tags = image.tag_v2
        unit, densities = _TIFF_UNIT_MM.get(tags.get(296, 0), 0.0), (tags.get(282, 1), tags.get(283, 1))
    across, down = map(float, densities)  # TIFF's are fractions: n / 0 is nan or infinite, and cannot be compared
    if not unit or not (0 < across < math.inf and 0 < down < math.inf):
        return 1.0, 1.0
    return unit / across, unit / down
