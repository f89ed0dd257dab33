"""Scalar volumes (MR, CT; NIfTI or NRRD) -> 8-bit RGB slices, intensities normalised over the whole volume."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

PERCENTILES = (0.5, 99.5)  # of all voxels of a volume: what becomes black and white


class IntensitySlices:
    """The slices of a scalar volume as grey RGB pictures.

    Intensities of MR have no unit and differ between volumes by orders of magnitude, so they are normalised per volume
    (methods.md C.3): the 0.5 and 99.5 percentiles of all voxels become 0 and 255, what lies beyond is clipped, the rest
    is rounded. Where the two percentiles are equal (a few voxels that are not background), minimum and maximum take
    their place; a constant volume is 0 everywhere. The uint8 volume is kept, the file is read once.

    Attributes:
        size: (height, width, slices).

    Raises:
        MediaError: voxels that are not finite, or numbers of a type that is no intensity.
    """

    def __init__(self, path: Path, values: NDArray) -> None:
        """`values`: (D, H, W) of any real number type."""
        self._grey = normalised(values, path)
        self.size = (*self._grey.shape[1:], len(self._grey))

    def read(self, index: int) -> NDArray[np.uint8]:
        """Slice `index` -> (H, W, 3) uint8."""
        return np.repeat(self._grey[index][..., None], 3, axis=2)

    def close(self) -> None:
        """Let the memory go."""
        self._grey = self._grey[:0]


def normalised(values: NDArray, path: Path) -> NDArray[np.uint8]:
    """Intensities of a whole volume -> uint8 of the same shape; the rule is that of IntensitySlices."""
    if values.dtype.kind not in "biuf":
        raise MediaError(
            f"{path}: voxels of type {values.dtype}, expected one real number a voxel; save the volume as int16 or "
            "float32 (of complex data the magnitude)"
        )
    if values.dtype.kind == "f" and (broken := int(values.size - np.isfinite(values).sum())):
        raise MediaError(
            f"{path}: {broken} of {values.size} voxels are NaN or infinite, expected finite intensities; export the "
            "volume again, or set them to the background's value"
        )
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = float(values.min()), float(values.max())
        _say_narrow(str(path), low == high)
    _say_rule()
    result = np.zeros(values.shape, np.uint8)
    if high > low:
        for place, part in enumerate(values):  # slice by slice: the float copy of a large CT would not fit twice
            scaled = (part.astype(np.float64) - low) * (255.0 / (high - low))
            result[place] = np.rint(scaled.clip(0.0, 255.0))
    return result


def refuse_time(path: Path, shape: tuple[int, ...]) -> None:
    """Raise MediaError for a volume of several time points or channels."""
    points = int(np.prod(shape[3:]))
    raise MediaError(
        f"{path}: shape {tuple(map(int, shape))}, {points} time points or channels; expected one volume (W, H, D): "
        "save each of them as a file of its own"
    )


@cache
def _say_rule() -> None:
    logger.info(
        "volumes of intensities: the %g and %g percentiles of each volume become 0 and 255, the rest is clipped",
        *PERCENTILES,
    )


@cache
def _say_narrow(path: str, constant: bool) -> None:
    """Once a file: it is opened by several threads."""
    if constant:
        logger.warning("%s: all voxels have the same value; its slices are black", path)
    else:
        logger.warning(
            "%s: the %g and %g percentiles are equal; its minimum and maximum become 0 and 255", path, *PERCENTILES
        )
