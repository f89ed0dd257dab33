"""NIfTI and NRRD files -> 8-bit RGB frames: RGB pictures, as annotation tools pass them on, and scalar volumes."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np

from scripts.io.errors import MediaError
from scripts.io.intensity_volume import IntensitySlices, refuse_time
from scripts.io.volume_file import NiftiFile, is_nrrd, read_nrrd, refuse_missing

_COLOURS = 3
_CURE = "save it as 8-bit RGB, or take it out of the input"
_NIFTI_SHAPES = "RGB24, (W, H, 3), (W, H, D, 3) or (W, H, D, 1, 3) of colours, (W, H) or (W, H, D) of intensities"


class VolumeFile:
    """The slices of a volume as frames: frame i is slice k = i, row = j (y), column = i (x).

    The index order decides, not the affine: MONAI Label, Slicer and ITK write pictures so that this is upright.

    NIfTI (.nii, .nii.gz), arrays as nibabel shows them:
        RGB24 or RGBA32 (W, H) or (W, H, D); channels last (W, H, 3), (W, H, D, 3), (W, H, D, 1, 3);
        intensities (W, H) or (W, H, D), trailing axes of length 1 are dropped.
    NRRD (.nrrd), axes in the file's order:
        (3, W, H) or (3, W, H, D) of kind RGB-color, vector or none; channels last (W, H, D, 3); alpha is dropped;
        intensities (W, H) or (W, H, D).

    Channels-last arrays may hold any number type (MONAI writes float32) as long as the values are whole and 0..255;
    an axis of length 3 in the place of the channels is taken for them. Intensities are normalised per volume, see
    IntensitySlices, which reads the file whole. A slice of RGB NIfTI is read when it is asked for (.nii.gz is unpacked
    to a temporary file once); NRRD is read whole.

    Attributes:
        path: the file. height, width: pixels of every frame. scalar: whether it holds intensities.

    Raises:
        MediaError: missing, empty, truncated, another kind of file, or neither RGB pictures nor intensities.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        refuse_missing(self.path)
        self._slices: _Slices = _open_nrrd(self.path) if is_nrrd(self.path) else _open_nifti(self.path)
        self.scalar = isinstance(self._slices, IntensitySlices)
        self.height, self.width, self._frames = self._slices.size

    def __len__(self) -> int:
        return self._frames

    def __enter__(self) -> VolumeFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frame(self, index: int) -> np.ndarray:
        """Slice `index` (0-based) -> (H, W, 3) uint8 RGB. Raises MediaError: values other than whole 0..255."""
        if not 0 <= index < self._frames:
            raise MediaError(f"{self.path}: frame {index} was asked for; the file has frames 0..{self._frames - 1}")
        return _to_uint8(self._slices.read(index), f"{self.path}: frame {index}")

    def close(self) -> None:
        """Let the file go."""
        self._slices.close()


class _Slices(Protocol):
    size: tuple[int, int, int]  # height, width, slices

    def read(self, index: int) -> np.ndarray:
        """Slice -> (H, W, 3), any number type."""

    def close(self) -> None: ...


def _open_nifti(path: Path) -> _Slices:
    file = NiftiFile(path)
    try:
        shape, kind = file.shape, file.kind
        if kind.names is not None or shape[-1:] == (_COLOURS,):
            return _NiftiSlices(path, file)
        spatial = _without_ones(shape)
        if len(spatial) > 3:
            refuse_time(path, shape)
        if len(spatial) < 2 or 0 in shape:
            raise _not_usable(path, "NIfTI", shape, kind, _NIFTI_SHAPES)
        values = np.asarray(file.array).reshape(*spatial, *(1,) * (3 - len(spatial)))
        slices = IntensitySlices(path, values.transpose(2, 1, 0))
    except BaseException:
        file.close()
        raise
    file.close()
    return slices


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without trailing axes of length 1 after the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


class _NiftiSlices:
    def __init__(self, path: Path, file: NiftiFile) -> None:
        self._file = file
        shape, kind = file.shape, file.kind
        self._structured = kind.names is not None  # ('R', 'G', 'B') or with 'A'
        spatial = _without_ones(shape if self._structured else shape[:-1])
        colour = not self._structured or kind.names[:_COLOURS] == ("R", "G", "B")
        if not colour or len(spatial) not in (2, 3) or 0 in shape:
            raise _not_usable(path, "NIfTI", shape, kind, _NIFTI_SHAPES)
        self.size = (spatial[1], spatial[0], spatial[2] if len(spatial) == 3 else 1)
        self._planar = len(spatial) == 2

    def read(self, index: int) -> np.ndarray:
        array = self._file.array
        values = np.asanyarray(array[:, :] if self._planar else array[:, :, index])
        if self._structured:
            values = np.stack([values[channel] for channel in ("R", "G", "B")], axis=-1)
        height, width, _ = self.size
        return values.reshape(width, height, _COLOURS).swapaxes(0, 1)

    def close(self) -> None:
        self._file.close()


def _open_nrrd(path: Path) -> _Slices:
    values, components = read_nrrd(path)  # axes reversed: (D, H, W, components)
    if components in (_COLOURS, _COLOURS + 1):
        values = values[..., :_COLOURS]
    elif components == 1 and values.shape[-1] != _COLOURS and values.shape[0] == _COLOURS:
        values = np.moveaxis(values, 0, -1)
    if values.ndim in (3, 4) and values.shape[-1] == _COLOURS and values.size:
        return _NrrdSlices(values if values.ndim == 4 else values[None])
    shape = tuple(reversed(values.shape))
    if components == 1 and len(_without_ones(shape)) > 3:
        refuse_time(path, shape)
    if components > 1 or values.ndim < 2 or not values.size:
        expected = "(3, W, H), (3, W, H, D) or (W, H, D, 3) of colours, (W, H) or (W, H, D) of intensities"
        raise _not_usable(path, "NRRD", shape, values.dtype, expected)
    return IntensitySlices(path, values.reshape(-1, *values.shape[-2:]))


class _NrrdSlices:
    def __init__(self, values: np.ndarray) -> None:
        """`values`: (D, H, W, 3)."""
        self._values = values
        self.size = (*values.shape[1:3], values.shape[0])

    def read(self, index: int) -> np.ndarray:
        return self._values[index]

    def close(self) -> None:
        self._values = self._values[:0]


def _not_usable(path: Path, kind: str, shape: tuple[int, ...], dtype: np.dtype, expected: str) -> MediaError:
    found = f"{kind} of shape {shape} and type {dtype}"
    return MediaError(f"{path}: {found} holds neither RGB pictures nor intensities; expected {expected}: {_CURE}")


def _to_uint8(values: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) of any number type -> uint8. Raises MediaError for values that are no whole numbers 0..255."""
    if values.dtype != np.uint8:
        if values.dtype.kind not in "iuf":
            raise MediaError(f"{name}: numbers of type {values.dtype}, expected 8-bit RGB: {_CURE}")
        if not (values.min() >= 0 and values.max() <= 255 and (values == np.round(values)).all()):
            raise MediaError(
                f"{name}: values {values.min():g}..{values.max():g} of type {values.dtype}, expected whole numbers "
                f"0..255: {_CURE}"
            )
    return np.ascontiguousarray(values, dtype=np.uint8)
