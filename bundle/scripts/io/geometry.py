"""Where the frames of a file lie in space: the affine that 3D Slicer, ITK and MONAI Label take the file to have.

A mask that goes back to a viewer lies over its picture only if both have the same affine in the viewer's eyes. Viewers
read with ITK, so ITK is asked where a format leaves room: GDCM, its DICOM reader, takes no Pixel Spacing of VL
Endoscopic images, functional groups of some storage classes only, and 1 mm between frames where another might take the
slice thickness.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.io.errors import MediaError
from scripts.io.frame_address import split_address
from scripts.io.media import media_type, open_media
from scripts.io.picture_geometry import picture_affine

logger = logging.getLogger(__name__)

#: LPS (DICOM, ITK: x to the left, y to the back) <-> RAS (NIfTI, MONAI: x to the right, y to the front)
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Without any of these a DICOM file has no geometry, and ITK (seconds to load) need not be asked.
_DICOM_GEOMETRY = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("NominalScannedPixelSpacing", "PixelAspectRatio", "SpacingBetweenSlices", "SequenceOfUltrasoundRegions"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)


def read_affine(address: str | PathLike[str]) -> NDArray[np.float64]:
    """Affine of a file, (4, 4): index (column, row, frame, 1) -> position in RAS, mm, as MONAI means it.

    Pictures, videos and DICOM without geometry get what Slicer and ITK assume: the first pixel at the origin, 1 mm
    from pixel to pixel (see picture_affine for JPEG and TIFF), columns along L, rows along P, frames along S. NIfTI
    (sform, else qform), NRRD and DICOM have their own. Axes that a file does not describe are 1 mm long.
    Of a frame (`volume.nii.gz#3`) it is the affine of that frame alone, whose index is then 0.

    Raises MediaError: as the file's reader does.
    """
    path, index = split_address(address)
    affine = _read(path)
    affine[:, 3] += (index or 0) * affine[:, 2]
    return affine


def _read(path: Path) -> NDArray[np.float64]:
    kind = media_type(path)
    if kind == "volume":
        return _nrrd_affine(path) if path.name.lower().endswith(".nrrd") else _nifti_affine(path)
    if kind == "DICOM":
        return _dicom_affine(path)
    if kind == "picture":
        return LPS_RAS @ picture_affine(path)
    return LPS_RAS.copy()


def _nifti_affine(path: Path) -> NDArray[np.float64]:
    try:
        header = nib.load(path).header
    except Exception as error:  # nibabel's, gzip's, zlib's and Python's own
        raise MediaError(
            f"{path}: not a NIfTI file, or its header is damaged ({type(error).__name__}); copy it again from its "
            "source, or give it the suffix of what it is"
        ) from error
    if int(header["sform_code"]) == int(header["qform_code"]) == 0:  # nibabel would centre it and mirror x
        sides = (*header.get_zooms()[:3], 1.0, 1.0)[:3]
        return LPS_RAS @ np.diag([*map(float, sides), 1.0])
    return np.array(header.get_best_affine(), float)


def _nrrd_affine(path: Path) -> NDArray[np.float64]:
    import itk  # seconds to load: only who needs it pays

    try:
        header = itk.NrrdImageIO.New(FileName=str(path))
        header.ReadImageInformation()
    except RuntimeError as error:
        raise MediaError(
            f"{path}: not an NRRD file that can be read; truncated or damaged: copy it again from its source"
        ) from error
    sizes = [header.GetDimensions(axis) for axis in range(header.GetNumberOfDimensions())]
    # Colours may be an axis like the others, the first or the last: then the file says nothing of space.
    plain = header.GetNumberOfComponents() == 1 and len(sizes) > 2 and sizes[0] == 3
    return _itk_affine(header, range(1, len(sizes)) if plain and sizes[-1] != 3 else range(len(sizes)))


def _dicom_affine(path: Path) -> NDArray[np.float64]:
    dataset = open_media(path).dataset  # type: ignore[attr-defined]
    if not any(keyword in dataset for keyword in _DICOM_GEOMETRY):
        return LPS_RAS.copy()
    import itk

    try:
        header = itk.GDCMImageIO.New(FileName=str(path))
        header.ReadImageInformation()
    except RuntimeError:  # its text may hold values of the header
        logger.warning("%s: ITK cannot read it, viewers built on ITK neither; taken as without geometry", path)
        return LPS_RAS.copy()
    return _itk_affine(header, range(header.GetNumberOfDimensions()))


def _itk_affine(header: Any, axes: Sequence[int]) -> NDArray[np.float64]:
    """Direction, spacing and origin (LPS) of the first three of `axes` -> (4, 4) RAS."""
    affine = np.eye(4)
    for column, axis in enumerate(axes[:3]):
        direction = np.zeros(3)
        found = list(header.GetDirection(axis))[axes[0] :][:3]
        direction[: len(found)] = found
        affine[:3, column] = direction * header.GetSpacing(axis)
        affine[column, 3] = header.GetOrigin(axis)
    return LPS_RAS @ affine
