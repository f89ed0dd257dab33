"""A label file as a client saves it -> the mask of a series, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from lesion_label.series import Series
from scripts.io.errors import MediaError
from scripts.io.volume_file import refuse_detached

_RAW = ".bin"  # OHIF: the voxels without a header, one byte each
_READ = (".nii", ".nii.gz", ".nrrd", ".png", ".tif", ".tiff")
_LOST = 0.01  # share of the lesion that may fall beside the series' grid


def read_label(path: Path, series: Series, name: str = "") -> NDArray[np.uint8]:
    """Read .nii, .nii.gz, .nrrd, .png, .tif or raw .bin -> (frames, rows, columns) uint8, 0 background, 1 lesion.

    A label on another grid (mirrored axes, another frame order) is brought to the series' own by its positions; one
    without positions (.png, .tif, .bin) must have the series' shape.

    Args:
        path: the file.
        series: what it is a label of.
        name: what the client calls the file, for messages.

    Raises:
        MediaError: not readable, several classes, or a grid that is not the series'.
    """
    name = name or path.name
    if path.suffix == _RAW:
        values = np.fromfile(path, np.uint8)
        if values.size != np.prod(series.shape):
            raise MediaError(f"{name}: {values.size} bytes; expected one for each pixel of {_say(series)}")
        return _binary(values.reshape(series.shape), name)
    unreadable = MediaError(f"{name}: not a label that can be read; expected .nii.gz, .nrrd, .png, .tif or .bin")
    if not path.name.lower().endswith(_READ):
        raise unreadable
    refuse_detached(path, name)
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        raise unreadable from None
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() not in (2, 3):
        raise MediaError(
            f"{name}: {image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} values in each pixel; "
            "expected a label map, one value in each pixel (in 3D Slicer: export the segmentation as a label map)"
        )
    if image.GetDimension() == 2:
        image = SimpleITK.JoinSeries(image)
        if image.GetSize()[::-1] != series.shape:
            raise MediaError(f"{name}: {image.GetSize()[::-1]}; expected the shape of {_say(series)}")
        series.place(image)
    mask = _binary(SimpleITK.GetArrayFromImage(image), name)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    if mask.shape == series.shape and np.allclose(direction, series.direction, atol=1e-3):
        return mask
    return _resample(image, mask, series, name)


def _binary(values: NDArray, name: str) -> NDArray[np.uint8]:
    found = np.unique(values)
    if len(found[found != 0]) > 1:
        raise MediaError(
            f"{name}: {len(found[found != 0])} values beside 0; expected 0 and one other value, the lesion: this model "
            "knows one class"
        )
    return (values != 0).astype(np.uint8)


def _resample(image: SimpleITK.Image, mask: NDArray[np.uint8], series: Series, name: str) -> NDArray[np.uint8]:
    binary = SimpleITK.GetImageFromArray(mask)
    binary.CopyInformation(image)
    grid = series.place(SimpleITK.Image(series.shape[::-1], SimpleITK.sitkUInt8))
    found = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(binary, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    )
    if abs(int(found.sum()) - int(mask.sum())) > _LOST * mask.sum():
        raise MediaError(
            f"{name}: it is {mask.shape} and lies elsewhere than {_say(series)}: {int(mask.sum())} lesion pixels, "
            f"{int(found.sum())} of them on its grid; save the label in the geometry of the picture"
        )
    return found.astype(np.uint8)


def _say(series: Series) -> str:
    return f"series {series.uid}, {series.shape} (frames, rows, columns)"
