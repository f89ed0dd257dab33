"""All frames of a file -> 8-bit RGB and their place in space, for LoadImaged and for everybody else."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple
from numpy.typing import NDArray

from scripts.io.errors import MediaError
from scripts.io.frame_address import split_address
from scripts.io.geometry import read_affine
from scripts.io.media import media_type, open_media

MAX_FRAMES = 1000
MAX_BYTES = 4 * 1024**3  # of decoded pixels


def read_frames(
    address: str | PathLike[str], max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read every frame of a picture, video, DICOM file or RGB volume, or of a folder with one DICOM series.

    `clip.mp4#12` is that frame alone. A series is a folder of single-frame DICOM files, in the order of their Instance
    Number.

    Args:
        max_frames: more are refused.
        max_bytes: of decoded pixels; more are refused.

    Returns:
        (D, H, W, 3) uint8 RGB, upright; (4, 4) index (column, row, frame) -> position in RAS, mm, see read_affine.

    Raises:
        MediaError: cannot be read, too many frames, or a folder that is not one series.
    """
    path, index = split_address(address)
    if path.is_dir():
        from scripts.io.dicom_series import read_series  # pydicom, only where it is needed

        files, affine = read_series(path)
        return _stack(files, str(path), max_frames, max_bytes), affine
    media = open_media(path)
    if index is not None and index >= len(media):
        raise MediaError(f"{path}: frame {index} was asked for, it holds {len(media)} (0 to {len(media) - 1})")
    wanted = range(len(media)) if index is None else range(index, index + 1)
    return _stack([(path, number) for number in wanted], str(path), max_frames, max_bytes), read_affine(address)


def _stack(frames: Sequence[tuple[Path, int]], name: str, max_frames: int, max_bytes: int) -> NDArray[np.uint8]:
    """Decode (file, number of frame), one after the other -> (D, H, W, 3)."""
    if not frames:
        raise MediaError(f"{name}: it holds no frame; copy it again from its source")
    if len(frames) > max_frames:
        raise MediaError(
            f"{name}: {len(frames)} frames, at most {max_frames} are read at once; cut out the part that you mean, "
            f"name one frame ({Path(name).name}#0), or run inference.json on it, which reads frame by frame"
        )
    first = open_media(frames[0][0]).frame(frames[0][1])
    if first.nbytes * len(frames) > max_bytes:
        raise MediaError(
            f"{name}: {len(frames)} frames of {first.shape[1]} x {first.shape[0]} pixels need "
            f"{first.nbytes * len(frames) / 2**30:.1f} GiB, at most {max_bytes / 2**30:.1f} GiB are read at once; "
            "cut out the part that you mean, or run inference.json on it, which reads frame by frame"
        )
    pixels = np.empty((len(frames), *first.shape), np.uint8)
    pixels[0] = first
    for number, (path, index) in enumerate(frames[1:], 1):
        frame = open_media(path).frame(index)
        if frame.shape != first.shape:
            raise MediaError(
                f"{path}: frame {index} is {frame.shape[1]} x {frame.shape[0]} pixels, the first of {name} "
                f"{first.shape[1]} x {first.shape[0]}; frames of one file must have one size: export it again"
            )
        pixels[number] = frame
    return pixels


class FramesReader(ImageReader):
    """Read all frames of one file for LoadImaged(ensure_channel_first=True) -> MetaTensor (3, D, H, W) uint8 RGB.

    The metadata are those of the volume as annotation tools index it, (column, row, frame): spatial_shape (W, H, D),
    affine and original_affine (4, 4) in RAS. The tensor's own order is frames first, so that transforms of single
    pictures work on it; MONAI's spatial transforms, which follow the affine, are not for it.

    Like RGBReader, `read` only passes the path on, since LoadImaged answers an exception there by other readers.

    Args:
        max_frames, max_bytes: see read_frames.
    """

    def __init__(self, max_frames: int = MAX_FRAMES, max_bytes: int = MAX_BYTES) -> None:
        self.max_frames = int(max_frames)
        self.max_bytes = int(max_bytes)

    def verify_suffix(self, filename: Sequence[PathLike[str] | str] | PathLike[str] | str) -> bool:
        """Say whether every file is a picture, video, DICOM file or volume, or a folder."""
        paths = [split_address(name)[0] for name in ensure_tuple(filename)]
        return all(path.is_dir() or media_type(path) is not None for path in paths)

    def read(self, data: Sequence[PathLike[str] | str] | PathLike[str] | str, **kwargs: object) -> Path:
        """Pass the path of the one file on to get_data."""
        names = ensure_tuple(data)
        return Path(names[0]) if len(names) == 1 else Path(f"<{len(names)} files; one was expected>")

    def get_data(self, img: Path) -> tuple[NDArray[np.uint8], dict]:
        """Decode -> ((D, H, W, 3) uint8, metadata). Raises MediaError."""
        pixels, affine = read_frames(img, self.max_frames, self.max_bytes)
        frames, height, width = pixels.shape[:3]
        return pixels, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array([width, height, frames]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1,
        }
