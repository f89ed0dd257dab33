"""Text that is part of a DICOM picture (name, date, clinic), painted over where a person says it stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from scripts.io.dicom_reader import DicomFile
from scripts.io.dicom_rle import run_lengths
from scripts.io.errors import MediaError

Rectangle = tuple[int, int, int, int]  # x and y of the upper left pixel, width, height, in pixels
_LARGEST_PIXEL_DATA = 2**32 - 2  # bytes that an uncompressed element can hold
_NOT_ANY_MORE = (  # attributes of the encoding that was
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "SmallestImagePixelValue", "LargestImagePixelValue"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *("PaletteColorLookupTableUID", "PixelDataProviderURL"),
)
_OF_OTHER_VALUES = (  # how to show grey values that were inverted since
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence"),
    *("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType", "PresentationLUTShape"),
)


def check_rectangles(rectangles: Sequence[Rectangle], height: int, width: int, name: str) -> None:
    """Raise MediaError unless every rectangle has an area and lies wholly inside the picture."""
    for rectangle in rectangles:
        x, y, across, down = rectangle
        if across < 1 or down < 1 or x < 0 or y < 0 or x + across > width or y + down > height:
            raise MediaError(
                f"{name}: rectangle {tuple(rectangle)} (x, y, width, height) is not inside the picture, {width} x "
                f"{height} pixels; give one that is, or treat pictures of other sizes in a call of their own"
            )


def black_out(dataset: Dataset, media: DicomFile, rectangles: Sequence[Rectangle]) -> UID:
    """Put the file's frames, black within the rectangles, into `dataset`; return their transfer syntax.

    They are stored as 8-bit RGB, or grey where the source is grey, without loss: RLE for a compressed source, else
    uncompressed. Pixels outside the rectangles are those that the file decodes to.

    Args:
        dataset: header to put them into, changed in place.
        media: the source, open.
        rectangles: (x, y, width, height) in pixels, the same for all frames.

    Raises:
        MediaError: a rectangle outside the picture, a video, a frame that does not decode, or more than 4 GiB.
    """
    name = str(media.path)
    check_rectangles(rectangles, media.height, media.width, name)
    if media.is_video:
        raise MediaError(
            f"{name}: regions of an encapsulated video cannot be blacked out without encoding it anew; convert it to a "
            "multi-frame picture first, or leave the rectangles out"
        )
    compressed, grey = media.transfer_syntax.is_encapsulated, media.photometric.startswith("MONOCHROME")
    syntax = RLELossless if compressed else ExplicitVRLittleEndian
    size = len(media) * media.height * media.width * (1 if grey else 3)
    if not compressed and size > _LARGEST_PIXEL_DATA:
        raise MediaError(f"{name}: {size} bytes of pixels, an uncompressed DICOM object holds 4 GiB; split it first")
    frames = []
    for index in range(len(media)):
        frame = media.frame(index).copy()
        for x, y, across, down in rectangles:
            frame[y : y + down, x : x + across] = 0
        frame = np.ascontiguousarray(frame[..., 0]) if grey else frame
        frames.append(run_lengths(frame) if compressed else frame.tobytes())
    inverted = _OF_OTHER_VALUES if media.photometric == "MONOCHROME1" else ()
    for keyword in (*_NOT_ANY_MORE, *inverted):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SamplesPerPixel = 1 if grey else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if grey else "RGB"
    if not grey:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if kind := dataset.get("ImageType"):
        values = [kind] if isinstance(kind, str) else list(kind)  # pydicom gives one value as it is
        dataset.ImageType = ["DERIVED", *values[1:]]
    data = encapsulate(frames, has_bot=False) if compressed else b"".join(frames)
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = compressed
    return syntax
