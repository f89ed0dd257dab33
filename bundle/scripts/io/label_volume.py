"""Label volumes (NIfTI, NRRD), as 3D Slicer, MONAI Label and ITK write them -> stored values of each frame."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.io.errors import VOLUME_SUFFIXES, MediaError
from scripts.io.media import keep_open
from scripts.io.volume_file import NiftiFile, is_nrrd, read_nrrd, refuse_missing

_MANY = 1000  # values after which no more are collected: it is no label map


class LabelVolume:
    """The slices of a label volume as masks: frame i is slice k = i, row = j (y), column = i (x).

    The index order decides, not the affine, as for RGB volumes: (W, H), (W, H, 1) or (W, H, D), trailing axes of
    length 1 are dropped. Any number type, as long as the values are whole and not negative.

    Attributes:
        path: the file. height, width: pixels of every frame.
        values: the distinct values of the whole volume, rising.

    Raises:
        MediaError: missing, damaged, several layers or colours, or values that are no labels.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        refuse_missing(self.path)
        self._file: NiftiFile | None = None
        try:
            self._open()
            self.values = self._distinct()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._frames

    def frame(self, index: int) -> NDArray[np.int64]:
        """Slice `index` (0-based) -> (H, W) stored values. Raises MediaError for one that is not there."""
        if not 0 <= index < self._frames:
            raise MediaError(f"{self.path}: frame {index} was asked for; the file has frames 0..{self._frames - 1}")
        return self._slice(index).astype(np.int64)

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
        self._array = None

    def _open(self) -> None:
        if is_nrrd(self.path):
            values, components = read_nrrd(self.path)
            if components > 1:
                self._refuse_layers((components, *reversed(values.shape[:-1])), components)
            array, shape, kind = values.transpose(), values.shape[::-1], values.dtype
        else:
            self._file = NiftiFile(self.path)
            array, shape, kind = self._file.array, self._file.shape, self._file.kind
        if kind.names is not None:
            self._refuse_layers(shape, len(kind.names))
        spatial = shape
        while len(spatial) > 3 and spatial[-1] == 1:
            spatial = spatial[:-1]
        if len(spatial) > 3:
            self._refuse_layers(shape, spatial[0] if is_nrrd(self.path) else spatial[-1])
        if len(spatial) < 2 or 0 in shape:
            raise MediaError(f"{self.path}: shape {shape} is no label volume; expected (W, H), (W, H, 1) or (W, H, D)")
        self._array, self._rest = array, (0,) * (len(shape) - len(spatial))
        self._planar = len(spatial) == 2
        self.width, self.height = spatial[:2]
        self._frames = 1 if self._planar else spatial[2]

    def _refuse_layers(self, shape: tuple[int, ...], layers: int) -> None:
        raise MediaError(
            f"{self.path}: {layers} layers or colours (shape {tuple(map(int, shape))}), expected one label a pixel; "
            'save it as a label map: in 3D Slicer export the segmentation to a labelmap, or switch off "Allow '
            'overlapping segments" before saving'
        )

    def _slice(self, index: int) -> NDArray:
        values = np.asanyarray(self._array[:, :] if self._planar else self._array[(..., index, *self._rest)])
        return values.reshape(self.width, self.height).T

    def _distinct(self) -> list[int]:
        found: NDArray = np.zeros(0)
        for index in range(self._frames):
            values = distinct_values(self._slice(index))
            if values.dtype.kind not in "iufb" or not ((values >= 0) & (values == np.round(values))).all():
                raise MediaError(
                    f"{self.path}: frame {index}: values {values.min():g}..{values.max():g} of type {values.dtype}; "
                    "expected labels, whole numbers from 0 on: save it as a label map (8-bit)"
                )
            found = np.union1d(found, values)
            if len(found) > _MANY:
                raise MediaError(
                    f"{self.path}: more than {_MANY} different values; it is a picture, not a label volume: take it "
                    "out of the masks"
                )
        return [int(value) for value in found]


def distinct_values(values: NDArray) -> NDArray:
    """Rising distinct values; for 8-bit by counting, ten times faster than sorting."""
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    return np.unique(values)


def is_volume(path: str | PathLike[str]) -> bool:
    """Whether the name is that of a NIfTI or NRRD file."""
    return Path(path).name.lower().endswith(VOLUME_SUFFIXES)


def open_labels(path: str | PathLike[str]) -> LabelVolume:
    """Open a label volume, or return it where this thread has it open already (see open_media). Raises MediaError."""
    return keep_open(Path(path), LabelVolume)
