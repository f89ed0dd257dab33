"""A DICOM Segmentation -> the masks of the frames that it refers to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels import iter_pixels
from pydicom.uid import SegmentationStorage

from scripts.io.errors import MediaError


def read_seg(path: str | Path, segment: int = 1) -> dict[int, NDArray]:
    """Read one segment of a SEG that refers to a single DICOM object, e.g. what write_seg wrote.

    Frames without lesion may have been left out by the writer, so not every frame of the source needs to be there.

    Returns:
        frame number of the source, from 0 -> (H, W), bool of a BINARY SEG, float32 0..1 of a FRACTIONAL one.

    Raises:
        MediaError: not a SEG, damaged, of several DICOM objects, or without that segment.
    """
    path = Path(path)
    try:
        seg = dcmread(path)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise MediaError(f"{path}: cannot be read as DICOM ({type(error).__name__}); expected a SEG") from None
    if seg.get("SOPClassUID") != SegmentationStorage:
        raise MediaError(f"{path}: not a DICOM Segmentation; expected a file that write_seg or a SEG editor wrote")
    masks: dict[int, NDArray] = {}
    try:
        numbers = [_source_frame(seg, groups) for groups in seg.PerFrameFunctionalGroupsSequence]
        segments = [_segment(seg, groups) for groups in seg.PerFrameFunctionalGroupsSequence]
        objects = {uid for uid, _ in numbers}
        if len(objects) != 1:
            raise MediaError(f"{path}: it refers to {len(objects)} DICOM objects; expected masks of the frames of one")
        scale = float(seg.MaximumFractionalValue) if seg.SegmentationType == "FRACTIONAL" else None
        for (_, index), number, stored in zip(numbers, segments, _stored_frames(seg), strict=True):
            if number == segment:
                masks[index] = stored > 0 if scale is None else stored.astype(np.float32) / np.float32(scale)
    except MediaError:
        raise
    except Exception as error:  # pydicom raises many kinds for damaged files, and their messages quote values
        raise MediaError(
            f"{path}: damaged or not as a SEG should be ({type(error).__name__}); write or export it again"
        ) from None
    if not masks:
        raise MediaError(f"{path}: no segment {segment}; it has {sorted(set(segments))}")
    return masks


def _stored_frames(seg: Dataset) -> Iterator[NDArray]:
    """Frames as they are stored, (H, W), one after another."""
    if seg.BitsAllocated > 1 or seg.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from iter_pixels(seg)
        return
    # pydicom 3.0 iterates over bits only where frames end with a byte; bits run on from frame to frame.
    size, packed = seg.Rows * seg.Columns, np.frombuffer(seg.PixelData, np.uint8)
    for frame in range(int(seg.NumberOfFrames)):
        first, last = frame * size, (frame + 1) * size
        bits = np.unpackbits(packed[first // 8 : (last + 7) // 8], bitorder="little")[first % 8 :][:size]
        yield bits.reshape(seg.Rows, seg.Columns)


def _source_frame(seg: Dataset, groups: Dataset) -> tuple[str, int]:
    """SOP Instance UID and frame number (from 0) of the source's frame."""
    image = _group("DerivationImageSequence", seg, groups).SourceImageSequence[0]
    number = image.get("ReferencedFrameNumber") or 1
    return image.ReferencedSOPInstanceUID, int(number) - 1


def _segment(seg: Dataset, groups: Dataset) -> int:
    return int(_group("SegmentIdentificationSequence", seg, groups).ReferencedSegmentNumber)


def _group(keyword: str, seg: Dataset, groups: Dataset) -> Dataset:
    """A functional group of a frame, which may be its own or shared by all frames."""
    return (groups if keyword in groups else seg.SharedFunctionalGroupsSequence[0])[keyword].value[0]
