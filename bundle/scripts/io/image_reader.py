"""One frame of any file -> 8-bit RGB, for LoadImaged and for everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple

from scripts.io.errors import DICOM_SUFFIXES, VIDEO_SUFFIXES, VOLUME_SUFFIXES, MediaError
from scripts.io.frame_address import split_address
from scripts.io.media import PictureFile, open_media
from scripts.io.picture import IMAGE_SUFFIXES


def read_rgb(address: str | PathLike[str]) -> np.ndarray:
    """Read a picture, or one frame of a video, DICOM file or volume (`clip.mp4#12`) -> (H, W, 3) uint8 RGB, upright.

    The number may be left out where the file has one frame alone.
    Raises MediaError: cannot be read, no such frame, or a file of several frames and none named.
    """
    path, index = split_address(address)
    media = open_media(path)
    if isinstance(media, PictureFile):
        return media.frame(index or 0)
    if index is None and len(media) != 1:
        raise MediaError(f"{path}: it holds {len(media)} frames; say which one: {path.name}#0 to #{len(media) - 1}")
    if index is not None and index >= len(media):
        raise MediaError(f"{path}: frame {index} was asked for, it holds {len(media)} (0 to {len(media) - 1})")
    return media.frame(index or 0)


class RGBReader(ImageReader):
    """Read one frame for LoadImaged -> (H, W, 3) uint8 RGB, height first, identity affine.

    The name may be an address, `clip.mp4#12`. LoadImaged answers an exception in `read` by trying MONAI's other
    readers, which swap the axes: a silent fallback. So `read` only passes the path on, and `get_data`, whose errors are
    raised, does the work.
    """

    def verify_suffix(self, filename: Sequence[PathLike[str] | str] | PathLike[str] | str) -> bool:
        """Say whether every file name ends like a picture's, a video's, a DICOM file's or a volume's."""
        known = IMAGE_SUFFIXES + VIDEO_SUFFIXES + DICOM_SUFFIXES + VOLUME_SUFFIXES
        return all(split_address(name)[0].name.lower().endswith(known) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike[str] | str] | PathLike[str] | str, **kwargs: object) -> Path:
        """Pass the path of the one file on to get_data."""
        names = ensure_tuple(data)
        return Path(names[0]) if len(names) == 1 else Path(f"<{len(names)} files; one was expected>")

    def get_data(self, img: Path) -> tuple[np.ndarray, dict]:
        """Decode -> ((H, W, 3) uint8, metadata). Raises MediaError."""
        pixels = read_rgb(img)
        return pixels, media_metadata(pixels, channel_dim=-1)


def media_metadata(pixels: np.ndarray, channel_dim: float) -> dict:
    """Metadata that MONAI's MetaTensor wants: spatial_shape (H, W), identity affine, original_channel_dim."""
    return {
        MetaKeys.AFFINE: np.eye(4),
        MetaKeys.SPATIAL_SHAPE: np.asarray(pixels.shape[:2]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: channel_dim,
    }
