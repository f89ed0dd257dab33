"""The header of a DICOM file, with or without preamble and File Meta Information."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from scripts.io.errors import HEAD_BYTES, MediaError, cannot_open
from scripts.io.pydicom_compat import encoding_of

# pydicom's warnings about values quote them, and in a damaged file all that follows: patient data in logs.
config.settings.reading_validation_mode = config.IGNORE

_FRAME_TIME_VECTOR = 0x00181065
# Storage classes whose pixels are results about pictures, not pictures.
_NO_PICTURES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a DICOM Segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a DICOM Label Map Segmentation",
    "1.2.840.10008.5.1.4.1.1.30": "a DICOM Parametric Map",
}


def open_dicom(path: Path) -> BinaryIO:
    """Open a file that begins as DICOM does, with or without preamble. Raises MediaError."""
    if not path.is_file():
        found = "expected a DICOM file, found a folder" if path.is_dir() else "no such file; check the path"
        raise MediaError(f"{path}: {found}")
    try:
        stream = path.open("rb")
        head = stream.read(HEAD_BYTES)
    except OSError as error:  # of many files it must be the one that is left out
        raise cannot_open(path, error) from error
    stream.seek(0)
    # Without a preamble it begins with group 0002 or 0008
    if head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return stream
    stream.close()
    if not head:
        raise MediaError(f"{path}: the file is empty (0 bytes); copy it again from its source or remove it")
    raise MediaError(
        f"{path}: not a DICOM file (no DICM at byte 128 and no DICOM element at its start); give it the suffix of what "
        "it is, or remove it"
    )


def read_header(stream: BinaryIO, name: str) -> tuple[Dataset, UID]:
    """Read the elements before the pixel data -> (dataset, transfer syntax); the stream is left at Pixel Data.

    Without File Meta the transfer syntax is the uncompressed one that fits the encoding. Of a deflated file the dataset
    holds Pixel Data, because nothing in it can be found without inflating all.

    Raises MediaError: cannot be parsed, or results about pictures (segmentations) in place of pictures.
    """
    try:
        dataset = dcmread(stream, stop_before_pixels=True, force=True)
        stated = dataset.file_meta.get("TransferSyntaxUID")
        if stated:
            syntax = UID(str(stated))
        else:
            implicit, little_endian = encoding_of(dataset)
            syntax = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = syntax = ImplicitVRLittleEndian if implicit else syntax
        if syntax == DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            dataset = dcmread(stream, force=True)
        sop_class = str(dataset.get("SOPClassUID") or "")
    except Exception as error:  # its text may hold values of the header: patient data
        raise MediaError(
            f"{name}: the DICOM header cannot be read ({type(error).__name__}); truncated or damaged: copy the file "
            "again from its source"
        ) from None
    if sop_class in _NO_PICTURES:
        raise MediaError(f"{name}: it is {_NO_PICTURES[sop_class]}, not a picture: take it out of the input")
    return dataset, syntax


def value_of(dataset: Dataset, keyword: str, name: str) -> object:
    """The value of an element, None where it is missing. Raises MediaError for one that cannot be understood."""
    try:
        return dataset.get(keyword)
    except Exception as error:  # pydicom converts on access, with errors of many types; their text holds the value
        raise MediaError(
            f"{name}: {keyword} in the DICOM header is damaged ({type(error).__name__}); copy the file again from its "
            "source"
        ) from None


def whole_number(dataset: Dataset, keyword: str, name: str, default: int = 0) -> int:
    """The value of an element as a whole number; `default` where it is missing, empty or 0. Raises MediaError."""
    value = value_of(dataset, keyword, name)
    if not value:
        return default
    try:
        return int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise MediaError(
            f"{name}: {keyword} in the DICOM header is no whole number; damaged: copy the file again from its source"
        ) from None


def number_of_frames(dataset: Dataset, name: str) -> int:
    """Number of Frames, 1 where the header does not say. Raises MediaError for what is no number above 0."""
    frames = whole_number(dataset, "NumberOfFrames", name, default=1)
    if frames < 1:
        raise MediaError(f"{name}: Number of Frames (0028,0008) is no number above 0; export the file again")
    return frames


def frame_times(dataset: Dataset, frames: int, name: str) -> NDArray[np.float64] | None:
    """Seconds from the first frame to each, (N,) (PS3.3 C.7.6.5.1); None where the header does not say.

    By Frame Time or Frame Time Vector, whichever Frame Increment Pointer names, else by the one that is there; without
    them by Cine Rate, then Recommended Display Frame Rate. How fast a viewer should show the frames says nothing of how
    long they took. Raises MediaError for a damaged element.
    """
    seconds = _number(value_of(dataset, "FrameTime", name)) / 1000
    even = np.arange(frames) * seconds if seconds > 0 else None
    uneven = _summed(value_of(dataset, "FrameTimeVector", name), frames)
    pointer = value_of(dataset, "FrameIncrementPointer", name)
    named = pointer if isinstance(pointer, Iterable) else [pointer]
    for times in (uneven, even) if _FRAME_TIME_VECTOR in named else (even, uneven):
        if times is not None:
            return times
    rate = _first_rate(dataset, ("CineRate", "RecommendedDisplayFrameRate"), name)
    return None if rate is None else np.arange(frames) / rate


def display_rate(dataset: Dataset, name: str) -> float | None:
    """Frames/s at which a viewer should show them: Recommended Display Frame Rate, Cine Rate; None = not said.

    Raises MediaError for a damaged element.
    """
    return _first_rate(dataset, ("RecommendedDisplayFrameRate", "CineRate"), name)


def _summed(vector: object, frames: int) -> NDArray[np.float64] | None:
    """Frame Time Vector, the milliseconds from frame to frame, of which the first is 0 -> seconds, (N,)."""
    if not isinstance(vector, Iterable) or isinstance(vector, str):
        return None
    steps = np.array([_number(step) for step in vector])[1:] / 1000
    if not len(steps) or steps.min() < 0 or not steps.sum() > 0:
        return None
    if len(steps) != frames - 1:  # which frame each belongs to cannot be told
        return np.arange(frames) * steps.mean()
    return np.append(0.0, np.cumsum(steps))


def _first_rate(dataset: Dataset, keywords: Iterable[str], name: str) -> float | None:
    rates = (_number(value_of(dataset, keyword, name)) for keyword in keywords)
    return next((rate for rate in rates if rate > 0), None)


def _number(value: object) -> float:
    """0 for what is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) else 0.0
