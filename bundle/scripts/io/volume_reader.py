"""RGB pictures in NIfTI and NRRD files, as 3D Slicer, MONAI Label and ITK pass them on -> 8-bit RGB frames."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Protocol

import nibabel as nib
import numpy as np

from scripts.io.errors import MediaError

_COLOURS = 3
_CURE = "save it as 8-bit RGB, or take it out of the input"


class VolumeFile:
    """The slices of an RGB volume as frames: frame i is slice k = i, row = j (y), column = i (x).

    The index order decides, not the affine: MONAI Label, Slicer and ITK write pictures so that this is upright.

    NIfTI (.nii, .nii.gz), arrays as nibabel shows them:
        RGB24 or RGBA32 (W, H) or (W, H, D); channels last (W, H, 3), (W, H, D, 3), (W, H, D, 1, 3).
    NRRD (.nrrd), axes in the file's order:
        (3, W, H) or (3, W, H, D) of kind RGB-color, vector or none; channels last (W, H, D, 3). Alpha is dropped.

    Channels-last arrays may hold any number type (MONAI writes float32) as long as the values are whole and 0..255.
    A slice of NIfTI is read when it is asked for (.nii.gz is unpacked to a temporary file once); NRRD is read whole.

    Attributes:
        path: the file. height, width: pixels of every frame.

    Raises:
        MediaError: missing, empty, truncated, another kind of file, or not RGB pictures.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            found = "expected a NIfTI or NRRD file, found a folder" if self.path.is_dir() else "no such file"
            raise MediaError(f"{self.path}: {found}; check the path")
        if self.path.stat().st_size == 0:
            raise MediaError(f"{self.path}: the file is empty (0 bytes); copy it again from its source or remove it")
        nrrd = self.path.name.lower().endswith(".nrrd")
        self._slices: _Slices = _NrrdSlices(self.path) if nrrd else _NiftiSlices(self.path)
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


class _NiftiSlices:
    def __init__(self, path: Path) -> None:
        self._unpacked = _unpack(path) if path.name.lower().endswith(".gz") else None
        try:
            self._open(path, path if self._unpacked is None else Path(self._unpacked.name))
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, file: Path) -> None:
        try:
            image = nib.load(file)
        except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, OSError, ValueError) as error:
            raise MediaError(
                f"{path}: not a NIfTI file, or its header is damaged ({type(error).__name__}); copy it again from its "
                "source, or give it the suffix of what it is"
            ) from error
        self._array = image.dataobj
        shape, kind = tuple(self._array.shape), image.get_data_dtype()
        needed = self._array.offset + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if file.stat().st_size < needed:
            raise MediaError(
                f"{path}: truncated: {needed} bytes expected, {file.stat().st_size} there; copy it again from "
                "its source"
            )
        self._structured = kind.names is not None  # ('R', 'G', 'B') or with 'A'
        spatial = shape if self._structured else shape[:-1]
        while len(spatial) > 3 and spatial[-1] == 1:
            spatial = spatial[:-1]
        colour = kind.names[:_COLOURS] == ("R", "G", "B") if self._structured else shape[-1:] == (_COLOURS,)
        if not colour or len(spatial) not in (2, 3) or 0 in shape:
            raise _not_rgb(path, "NIfTI", shape, kind, "RGB24, (W, H, 3), (W, H, D, 3) or (W, H, D, 1, 3)")
        self.size = (spatial[1], spatial[0], spatial[2] if len(spatial) == 3 else 1)
        self._planar = len(spatial) == 2

    def read(self, index: int) -> np.ndarray:
        values = np.asanyarray(self._array[:, :] if self._planar else self._array[:, :, index])
        if self._structured:
            values = np.stack([values[channel] for channel in ("R", "G", "B")], axis=-1)
        height, width, _ = self.size
        return values.reshape(width, height, _COLOURS).swapaxes(0, 1)

    def close(self) -> None:
        if self._unpacked is not None:
            self._unpacked.close()


class _NrrdSlices:
    def __init__(self, path: Path) -> None:
        import itk  # seconds to load: only who reads NRRD pays

        # itk.imread fails for vectors where the lazy loading of its modules does; a reader of a given type does not.
        try:
            header = itk.NrrdImageIO.New(FileName=str(path))
            header.ReadImageInformation()
            components, dimensions = header.GetNumberOfComponents(), header.GetNumberOfDimensions()
            number = itk.UC if header.GetComponentType() == itk.CommonEnums.IOComponent_UCHAR else itk.F
            image = itk.VectorImage[number, 3] if components > 1 else itk.Image[number, max(2, min(4, dimensions))]
            reader = itk.ImageFileReader[image].New(FileName=str(path), ImageIO=header)
            reader.Update()
        except RuntimeError as error:  # ITK's text has many lines, the last one is the reason
            lines = str(error).strip().splitlines()
            raise MediaError(
                f"{path}: not an NRRD file that can be read ({lines[-1].strip()}); truncated or damaged: copy it again "
                "from its source"
            ) from error
        values = itk.array_from_image(reader.GetOutput())  # axes reversed: (D, H, W, components)
        if components in (_COLOURS, _COLOURS + 1):
            values = values[..., :_COLOURS]
        elif values.shape[-1] != _COLOURS and values.shape[0] == _COLOURS:
            values = np.moveaxis(values, 0, -1)
        if values.ndim not in (3, 4) or values.shape[-1] != _COLOURS or not values.size:
            shape = tuple(reversed(values.shape))
            raise _not_rgb(path, "NRRD", shape, values.dtype, "(3, W, H), (3, W, H, D) or (W, H, D, 3)")
        self._values = values if values.ndim == 4 else values[None]
        self.size = (*self._values.shape[1:3], self._values.shape[0])

    def read(self, index: int) -> np.ndarray:
        return self._values[index]

    def close(self) -> None:
        self._values = self._values[:0]


def _not_rgb(path: Path, kind: str, shape: tuple[int, ...], dtype: np.dtype, expected: str) -> MediaError:
    found = f"{kind} of shape {shape} and type {dtype}"
    return MediaError(f"{path}: {found} holds no RGB pictures; expected {expected}: {_CURE}")


def _unpack(path: Path) -> tempfile._TemporaryFileWrapper:
    """Unpack .nii.gz into a temporary file: slices of a packed one are read by unpacking from its start each time."""
    target = tempfile.NamedTemporaryFile(suffix=".nii")
    try:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, target, 1 << 20)
        target.flush()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        target.close()
        raise MediaError(
            f"{path}: truncated, damaged or not packed by gzip ({error}); copy it again from its source"
        ) from error
    except BaseException:
        target.close()
        raise
    return target


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
