"""DICOM Segmentation -> the mask of a series, whoever wrote it: dcmqi, the bundle, 3D Slicer, OHIF."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from lesion_label.series import Series
from scripts.io.dicom_codes import FINDINGS
from scripts.io.errors import MediaError


def is_label(seg: Dataset) -> bool:
    """Whether a SEG outlines lesions and a person has had a hand in it; what a network proposed is no label."""
    kinds = {segment.get("SegmentAlgorithmType") for segment in _lesion_segments(seg)}
    return bool(kinds) and "AUTOMATIC" not in kinds


def _lesion_segments(seg: Dataset) -> list[Dataset]:
    known = {code.value for code in FINDINGS.values()}
    return [
        segment
        for segment in seg.get("SegmentSequence") or ()
        if any(code.get("CodeValue") in known for code in segment.get("SegmentedPropertyTypeCodeSequence") or ())
    ]


def read_seg(seg: Dataset, series: Series) -> NDArray[np.uint8]:
    """Lesions of a SEG -> mask of the series, (frames, rows, columns), 0/1.

    Frames are found by the picture that they name, else by their position.

    Raises:
        MediaError: its pixels cannot be read, or they fit no frame.
    """
    try:
        stored = seg.pixel_array
    except Exception as error:  # its text may hold values of the header
        raise MediaError(
            f"SEG {seg.get('SeriesInstanceUID')}: its pixels cannot be read ({type(error).__name__}); take it off the "
            "server, or store it again"
        ) from None
    if (int(seg.Rows), int(seg.Columns)) != (series.rows, series.columns):
        raise MediaError(
            f"SEG {seg.SeriesInstanceUID}: {seg.Rows} x {seg.Columns} pixels, series {series.uid} has "
            f"{series.rows} x {series.columns}; segment it again at the size of the pictures"
        )
    numbers = {int(segment.SegmentNumber) for segment in _lesion_segments(seg)}
    named = {(frame.sop_instance_uid, frame.number): index for index, frame in enumerate(series.frames)}
    shared = list(seg.get("SharedFunctionalGroupsSequence") or ())
    pixels = stored.reshape(-1, series.rows, series.columns)
    highest = int(seg.get("MaximumFractionalValue") or 1) if seg.get("SegmentationType") == "FRACTIONAL" else 1
    mask = np.zeros(series.shape, np.uint8)
    for groups, drawn in zip(seg.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        segment = _of(groups, shared, "SegmentIdentificationSequence")
        if segment is not None and int(segment.ReferencedSegmentNumber) not in numbers:
            continue
        index = _frame_of(groups, shared, named, series)
        if index is None:
            raise MediaError(
                f"SEG {seg.SeriesInstanceUID}: a frame belongs to no picture of series {series.uid}; take the "
                "SEG off the server, or store the pictures it was made for"
            )
        mask[index] |= (2 * drawn.astype(int) > highest).astype(np.uint8)
    return mask


def _of(groups: Dataset, shared: list[Dataset], keyword: str) -> Dataset | None:
    """The first item of a functional group, of the frame or shared; None where there is none."""
    return next((item for place in (groups, *shared) for item in place.get(keyword) or ()), None)


def _frame_of(groups: Dataset, shared: list[Dataset], named: dict[Any, int], series: Series) -> int | None:
    derivation = _of(groups, shared, "DerivationImageSequence")
    for image in (derivation.get("SourceImageSequence") if derivation is not None else None) or ():
        number = image.get("ReferencedFrameNumber")
        for key in ((image.ReferencedSOPInstanceUID, int(number) if number else None),):
            if key in named:
                return named[key]
        if (image.ReferencedSOPInstanceUID, None) in named:  # a single-frame picture may be called its frame 1
            return named[image.ReferencedSOPInstanceUID, None]
    position = _of(groups, shared, "PlanePositionSequence")
    return None if position is None or series.missing else series.index_of(position.ImagePositionPatient)
