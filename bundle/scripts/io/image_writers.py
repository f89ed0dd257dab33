"""MONAI ImageWriters, for `SaveImaged(writer=...)`: lesion mask -> PNG or DICOM Segmentation, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from monai.data import ImageWriter
from monai.utils import ImageMetaKey, MetaKeys
from numpy.typing import NDArray
from PIL import Image

from scripts.io.dicom_codes import SegAlgorithm
from scripts.io.errors import MediaError
from scripts.io.frame_address import split_address
from scripts.io.writers import write_mask_png

logger = logging.getLogger(__name__)


def name_by_address(meta_dict: Mapping[str, Any] | None, saver: Any) -> dict[str, Any]:
    """Give each frame of a file a name of its own, for `SaveImaged(output_name_formatter=name_by_address)`.

    MONAI takes `#12` of `cine.dcm#12` for a part of the suffix, so that all frames would be written to one file; here
    it becomes `cine_frame000012`.
    """
    address = (meta_dict or {}).get(ImageMetaKey.FILENAME_OR_OBJ)
    index = None
    if address is not None:
        path, index = split_address(address)
        address = str(path if index is None else path.with_name(f"{path.stem}_frame{index:06d}{path.suffix}"))
    return {"subject": address or str(saver._data_index), "idx": (meta_dict or {}).get(ImageMetaKey.PATCH_INDEX)}


class _LesionWriter(ImageWriter):
    """Takes a (1, H, W) or (H, W) array to the size of the picture that it belongs to."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("output_dtype", None)  # SaveImage passes both on; a mask has one type and no scale
        kwargs.pop("scale", None)
        super().__init__(**kwargs)
        self.meta: Mapping[str, Any] = {}

    def set_data_array(self, data_array: NDArray | torch.Tensor, channel_dim: int | None = 0, **kwargs: Any) -> None:
        """Take the data: one channel at `channel_dim`, or none. Raises ValueError for anything else."""
        array = data_array.detach().cpu().numpy() if isinstance(data_array, torch.Tensor) else np.asarray(data_array)
        if array.ndim == 3 and channel_dim is not None and array.shape[channel_dim] == 1:
            array = np.take(array, 0, axis=channel_dim)
        if array.ndim != 2:
            raise ValueError(
                f"data of shape {tuple(data_array.shape)}; expected one lesion channel, (1, H, W): choose it first, "
                "e.g. by AsDiscreted(argmax=True)"
            )
        self.data_obj = array

    def set_metadata(self, meta_dict: Mapping[str, Any] | None = None, resample: bool = True, **options: Any) -> None:
        """Bring the data to the picture's `spatial_shape` (height, width), if `resample`."""
        self.meta = meta_dict or {}
        shape = self.meta.get(MetaKeys.SPATIAL_SHAPE)
        if not resample or shape is None:
            return
        height, width = (int(length) for length in tuple(shape)[:2])
        if self.data_obj.shape != (height, width):
            self.data_obj = _resized(self.data_obj, height, width)


class MaskPNGWriter(_LesionWriter):
    """Write a mask as 8-bit grey PNG, 0 background and 255 lesion.

    Values: bool, class index (above 0 is lesion), or floats that are exactly such indices.
    """

    def write(self, filename: PathLike[str] | str, verbose: bool = False, **kwargs: Any) -> None:
        """Write it. Raises ValueError for probabilities, OutputError when it cannot be written."""
        super().write(filename, verbose=verbose)
        write_mask_png(filename, _as_mask(self.data_obj, filename))


class DicomSegWriter(_LesionWriter):
    """Write a mask or probability as DICOM Segmentation of the DICOM file that it was made from.

    The source is `filename_or_obj` of the metadata, `cine.dcm#12` for a frame of several. Each call writes a SEG; use
    scripts.io.dicom_seg.write_seg to put all frames of a clip into one. In JSON configs SaveImaged's writer may be
    `$functools.partial(scripts.io.image_writers.DicomSegWriter, algorithm=@algorithm)`.
    """

    def __init__(
        self, *, algorithm: SegAlgorithm, finding: str = "lesion", kind: str = "BINARY", **kwargs: Any
    ) -> None:
        """See write_seg: kind BINARY takes masks, FRACTIONAL probabilities 0..1."""
        super().__init__(algorithm=algorithm, finding=finding, kind=kind, **kwargs)

    def write(self, filename: PathLike[str] | str, verbose: bool = False, **kwargs: Any) -> None:
        """Write it. Raises MediaError for a source that is no DICOM file, ValueError and OutputError as write_seg."""
        from scripts.io.dicom_header import number_of_frames, open_dicom, read_header
        from scripts.io.dicom_seg import write_seg

        super().write(filename, verbose=verbose)
        address = self.meta.get(ImageMetaKey.FILENAME_OR_OBJ)
        if not address:
            raise MediaError(f"{filename}: the data do not say which DICOM file they come from (filename_or_obj)")
        path, index = split_address(address)
        with open_dicom(path) as stream:
            source, _ = read_header(stream, str(path))
        source.filename = str(path)
        frames = number_of_frames(source, str(path))
        if index is None and frames > 1:
            raise MediaError(f"{path}: it holds {frames} frames; say which one the mask is of: {path.name}#0 ...")
        data = self.data_obj.astype(np.float64) if self.kind == "FRACTIONAL" else _as_mask(self.data_obj, filename)
        write_seg(
            Path(filename), source, {index or 0: data}, finding=self.finding, kind=self.kind, algorithm=self.algorithm
        )


def _as_mask(data: NDArray, filename: PathLike[str] | str) -> NDArray[np.bool_]:
    """Bool, class index, or floats that are whole numbers -> bool. Raises ValueError for probabilities."""
    if data.dtype.kind == "f" and not np.array_equal(data, np.round(data)):
        raise ValueError(
            f"{PurePath(filename).name}: values between the classes (probabilities?); expected a mask: take the arg "
            "max or a threshold first, e.g. by AsDiscreted"
        )
    return data > 0


def _resized(data: NDArray, height: int, width: int) -> NDArray:
    """Nearest for masks, bilinear for probabilities."""
    whole = data.dtype.kind != "f" or np.array_equal(data, np.round(data))
    how = Image.Resampling.NEAREST if whole else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(data.astype(np.float32)).resize((width, height), how))
