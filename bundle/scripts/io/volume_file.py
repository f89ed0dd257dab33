"""NIfTI and NRRD files -> their numbers, whatever these mean."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from multiprocessing.util import Finalize
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.io.errors import MediaError


def is_nrrd(path: Path) -> bool:
    """Whether the name is that of an NRRD file; else it is taken for NIfTI."""
    return path.name.lower().endswith(".nrrd")


def refuse_missing(path: Path) -> None:
    """Raise MediaError where `path` is no file, or an empty one."""
    if not path.is_file():
        found = "expected a NIfTI or NRRD file, found a folder" if path.is_dir() else "no such file"
        raise MediaError(f"{path}: {found}; check the path")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes); copy it again from its source or remove it")


class NiftiFile:
    """An open NIfTI file, .nii or .nii.gz (unpacked to a temporary file once).

    Attributes:
        array: what is sliced is read (nibabel's ArrayProxy, scaled as the header says). shape: of it.
        kind: number type that the file stores.

    Raises:
        MediaError: not NIfTI, damaged or truncated.
    """

    def __init__(self, path: Path) -> None:
        unpacked = _unpack(path) if path.name.lower().endswith(".gz") else None
        # multiprocessing's, not weakref's: at the end of a worker too, and never by a forked worker for its parent.
        self._let_go = Finalize(self, unpacked.unlink, (True,), exitpriority=0) if unpacked else None
        try:
            self._open(path, unpacked or path)
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
        self.array = image.dataobj
        self.shape, self.kind = tuple(self.array.shape), image.get_data_dtype()
        needed = self.array.offset + int(np.prod(self.shape, dtype=np.int64)) * self.kind.itemsize
        if file.stat().st_size < needed:
            raise MediaError(
                f"{path}: truncated: {needed} bytes expected, {file.stat().st_size} there; copy it again from "
                "its source"
            )

    def close(self) -> None:
        """Let the file go."""
        if self._let_go is not None:
            self._let_go()


def refuse_detached(path: Path, name: str = "") -> None:
    """Raise MediaError for an NRRD header whose numbers lie in another file: it could name any file of this machine.

    Args:
        name: what the file is called in the message; "" = its path.
    """
    with path.open("rb") as stream:
        if not stream.read(4) == b"NRRD":
            return
        for line in stream:
            field = line.strip().partition(b":")[0].replace(b" ", b"").lower()
            if not line.strip():
                return  # the header's end
            if field == b"datafile":
                raise MediaError(f"{name or path}: its numbers lie in another file; save it as one .nrrd")


def read_nrrd(path: Path) -> tuple[NDArray, int]:
    """Read an NRRD file -> (values, components a pixel), axes reversed: (D, H, W) or (D, H, W, components).

    8-bit files come as uint8, others as float32 (whole numbers up to 2^24 unchanged). Raises MediaError.
    """
    import itk  # seconds to load: only who reads NRRD pays

    refuse_detached(path)
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
    return itk.array_from_image(reader.GetOutput()), components


def _unpack(path: Path) -> Path:
    """Unpack .nii.gz into a temporary file: slices of a packed one are read by unpacking from its start each time."""
    handle, name = tempfile.mkstemp(suffix=".nii")
    target = Path(name)
    try:
        with open(handle, "wb") as file, gzip.open(path) as packed:
            shutil.copyfileobj(packed, file, 1 << 20)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        target.unlink()
        raise MediaError(
            f"{path}: truncated, damaged or not packed by gzip ({error}); copy it again from its source"
        ) from error
    except BaseException:
        target.unlink()
        raise
    return target
