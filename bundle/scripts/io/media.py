"""What kind of file is it, and its frames: one door to pictures, videos, DICOM and volumes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from scripts.io.errors import (
    DICOM_SUFFIXES,
    HEAD_BYTES,
    VIDEO_SUFFIXES,
    VOLUME_SUFFIXES,
    MediaError,
    cannot_open,
    media_kind,
)
from scripts.io.picture import IMAGE_SUFFIXES, load_upright, to_rgb8

OPEN_FILES = 4  # kept open by each thread
T = TypeVar("T")


class MediaFile(Protocol):
    """A file with frames."""

    def __len__(self) -> int:
        """Number of frames."""

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` -> (H, W, 3) uint8 RGB, upright. Raises MediaError when it does not decode."""

    def close(self) -> None:
        """Close the file."""


class MovingFile(MediaFile, Protocol):
    """A file whose frames follow each other in time."""

    def time(self, index: int) -> float | None:
        """Seconds from the first frame to frame `index`; None where the file has no frame rate."""


class PictureFile:
    """A picture as a file of one frame."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> np.ndarray:
        """The picture, (H, W, 3) uint8 RGB, upright."""
        if index != 0:
            raise MediaError(f"{self.path}: frame {index} was asked for; a picture has frame 0 alone")
        return to_rgb8(load_upright(self.path), self.path)

    def close(self) -> None:
        """Nothing is kept open."""


def media_type(path: str | PathLike[str]) -> str | None:
    """Tell "picture", "video", "DICOM" or "volume" (NIfTI, NRRD), or None for any other file.

    The suffix decides; a file without a known one is a video or DICOM if its first bytes say so (archives name their
    files IM0001 or by UID).
    """
    name = Path(path).name.lower()
    for suffixes, kind in (
        (IMAGE_SUFFIXES, "picture"),
        (VIDEO_SUFFIXES, "video"),
        (DICOM_SUFFIXES, "DICOM"),
        (VOLUME_SUFFIXES, "volume"),
    ):
        if name.endswith(suffixes):
            return kind
    try:
        with Path(path).open("rb") as stream:
            kind = media_kind(stream.read(HEAD_BYTES))
    except OSError:
        return None
    return kind if kind in ("video", "DICOM") else None


def open_media(path: str | PathLike[str]) -> MediaFile:
    """Open a file, or return it where this thread has it open already (the last OPEN_FILES are kept).

    So frames may be asked for one by one; in rising order each is decoded once. Raises MediaError.
    """
    path = Path(path)
    kind = media_type(path) or "picture"  # whose reader says what is wrong
    return PictureFile(path) if kind == "picture" else keep_open(path, _opener(kind))


def keep_open(path: Path, opener: Callable[[Path], T]) -> T:
    """`opener(path)`, or what it gave before, while this thread keeps it open. Raises MediaError."""
    opened = _opened()
    try:
        if not path.is_file():
            raise MediaError(f"{path}: no such file; check the path, or take its row out of the datalist")
        stat = path.stat()
        key = (opener.__name__, str(path), stat.st_size, stat.st_mtime_ns)
        if key not in opened:
            opened[key] = opener(path)
    except OSError as error:  # no permission, a network drive gone: whoever lists many files must not end with one
        raise cannot_open(path, error) from error
    opened.move_to_end(key)
    while len(opened) > OPEN_FILES:
        opened.popitem(last=False)[1].close()
    return opened[key]


def frame_rate_of(media: MediaFile) -> float | None:
    """Frames/s of a file, None where it has no frame rate."""
    return getattr(getattr(media, "info", media), "fps", None) or None


def display_rate_of(media: MediaFile) -> float | None:
    """Frames/s at which a file asks to be shown, whatever the times of its frames; None where it does not."""
    return getattr(media, "display_fps", None)


def close_media() -> None:
    """Close what this thread has open."""
    opened = _opened()
    while opened:
        opened.popitem()[1].close()


_local = threading.local()
# Never closed here: their decoders wait for threads that exist in the parent alone.
_inherited: list[threading.local] = []


def _forget() -> None:
    """A forked process shares the parent's file positions: it must open its own."""
    global _local
    _inherited.append(_local)
    _local = threading.local()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forget)


def _opened() -> OrderedDict[tuple[str, str, int, int], Any]:
    if not hasattr(_local, "opened"):
        _local.opened = OrderedDict()
    return _local.opened


def _opener(kind: str) -> Callable[[Path], MediaFile]:
    # Imported where needed: a folder of PNG wants neither FFmpeg nor pydicom in memory.
    if kind == "video":
        from scripts.io.video_reader import VideoFile

        return VideoFile
    if kind == "DICOM":
        from scripts.io.dicom_reader import DicomFile

        return DicomFile
    from scripts.io.volume_reader import VolumeFile

    return VolumeFile
