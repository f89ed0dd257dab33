"""A made-up place in space for DICOM pictures that have none, so that software made for CT accepts them.

An endoscopic picture has no Frame of Reference and no positions: nothing says where in the patient a pixel lies.
dcmqi, 3D Slicer and OHIF write and draw segmentations of pictures with positions only. Here the pixels get square
cells of a stated size, and frame k lies at z = k times that size. It is no measurement, and every copy says so.

GDCM (SimpleITK) takes the positions of a multi-frame picture from its functional groups alone, dcmqi the outermost
level alone, OHIF the functional groups if there are any: multi-frame pictures get both.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.codedict import codes

from scripts.io.dicom_header import number_of_frames, value_of
from scripts.io.errors import MediaError

# Keyword -> functional group that holds it in a multi-frame picture
_GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
}
GEOMETRY = ("FrameOfReferenceUID", *_GROUPS)  # what a writer of segmentations asks for
_AXIAL = [1, 0, 0, 0, 1, 0]  # columns to the patient's left, rows to the back: as pictures lie in Slicer and ITK
SERIES_MARK = " (made-up geometry)"
_LONG_STRING = 64  # characters, the longest text of VR LO
_SHORT_TEXT = 1024  # of VR ST
_SIGNATURES = (0x4FFE0001, 0xFFFAFFFA)  # of the attributes that are changed


@dataclass(frozen=True)
class Place:
    """Where a picture is put.

    Attributes:
        series_uid: Series Instance UID of the copies that lie in one space.
        position: of its first frame, in frames.
        spacing_mm: side of a pixel and distance of frames, mm.
        keep_pixel_spacing: the source's own Pixel Spacing stays.
    """

    series_uid: str
    position: int
    spacing_mm: float
    keep_pixel_spacing: bool = False

    @property
    def frame_of_reference_uid(self) -> str:
        """UID of that space."""
        return derived_uid("frame of reference", self.series_uid)


def derived_uid(*parts: object) -> str:
    """UID (2.25, of 128 bits) that is the same for the same parts."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '|'.join(map(str, parts))).int}"


def missing_geometry(dataset: Dataset, name: str) -> list[str]:
    """Keywords of GEOMETRY without a value, at the outermost level and in functional groups. Raises MediaError."""
    return [
        keyword
        for keyword in GEOMETRY
        if not any(value_of(place, keyword, name) for place in _places(dataset, keyword))
    ]


def pixel_spacing(dataset: Dataset, name: str) -> tuple[float, ...]:
    """Pixel Spacing, mm, of the outermost level or of the functional groups; () where there is no sound one."""
    for place in _places(dataset, "PixelSpacing"):
        try:
            spacing = tuple(float(side) for side in value_of(place, "PixelSpacing", name) or ())  # type: ignore[attr-defined]
        except (TypeError, ValueError):
            continue
        if len(spacing) == 2 and min(spacing) > 0:
            return spacing
    return ()


def _places(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    yield dataset
    if group := _GROUPS.get(keyword):
        for shared in (*_items(dataset, "SharedFunctionalGroupsSequence"), *_first_frame(dataset)):
            yield from _items(shared, group)


def _items(dataset: Dataset, keyword: str) -> Iterable[Dataset]:
    return dataset.get(keyword) or ()


def _first_frame(dataset: Dataset) -> Iterable[Dataset]:
    return list(_items(dataset, "PerFrameFunctionalGroupsSequence"))[:1]


def add_geometry(dataset: Dataset, place: Place, name: str) -> None:
    """Turn a picture's dataset, in place, into that of its copy with made-up geometry; pixel data are not touched.

    It gets UIDs of its own, made of the old ones, and names the original in Source Image Sequence and Referenced Series
    Sequence. Patient and study stay.

    Args:
        dataset: of a picture with Study, Series and SOP Instance UID.
        place: where it is put.
        name: of the file, for messages.

    Raises:
        MediaError: functional groups that do not fit the number of frames.
    """
    frames = number_of_frames(dataset, name)
    spacing = list(pixel_spacing(dataset, name)) if place.keep_pixel_spacing else _cell(dataset, place.spacing_mm, name)
    _refer_to_original(dataset)
    _describe(dataset, place)
    dataset.SeriesInstanceUID = place.series_uid
    dataset.SOPInstanceUID = derived_uid("picture", place.series_uid, dataset.SOPInstanceUID)
    dataset.FrameOfReferenceUID = place.frame_of_reference_uid
    dataset.PositionReferenceIndicator = None
    dataset.PixelSpacing = spacing
    dataset.SliceThickness = place.spacing_mm
    dataset.ImageOrientationPatient = _AXIAL
    dataset.ImagePositionPatient = _position(place, 0)
    dataset.pop("PixelAspectRatio", None)  # Pixel Spacing says it
    if frames > 1:
        dataset.SpacingBetweenSlices = place.spacing_mm
        _place_frames(dataset, place, spacing, frames, name)
    for tag in _SIGNATURES:
        dataset.pop(tag, None)


def _cell(dataset: Dataset, spacing_mm: float, name: str) -> list[float]:
    """[height, width] of a pixel, mm."""
    try:
        height, width = (float(side) for side in value_of(dataset, "PixelAspectRatio", name) or (1, 1))
    except (TypeError, ValueError):
        height = width = 1.0
    return [round(spacing_mm * height / width, 6) if height > 0 < width else spacing_mm, spacing_mm]


def _position(place: Place, frame: int) -> list[float]:
    return [0, 0, round((place.position + frame) * place.spacing_mm, 6)]  # DICOM has 16 characters for it


def _refer_to_original(dataset: Dataset) -> None:
    original = Dataset()
    original.ReferencedSOPClassUID, original.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    instances = Dataset()
    instances.ReferencedInstanceSequence = [original]
    instances.SeriesInstanceUID = dataset.SeriesInstanceUID
    dataset.ReferencedSeriesSequence = [instances]
    source = Dataset()
    source.update(original)
    source.SpatialLocationsPreserved = "YES"  # the same pixel at the same place in the picture
    purpose, meaning = Dataset(), codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator = meaning.value, meaning.scheme_designator
    purpose.CodeMeaning = meaning.meaning
    source.PurposeOfReferenceCodeSequence = [purpose]
    dataset.SourceImageSequence = [source]


def _describe(dataset: Dataset, place: Place) -> None:
    pixels = "Pixel Spacing is the original's" if place.keep_pixel_spacing else f"pixels of {place.spacing_mm:g} mm"
    text = (
        f"Geometry made up by endoscopic_lesion_segmentation, so that segmentations can be stored: {pixels}, frames "
        f"{place.spacing_mm:g} mm apart. Positions and distances are no measurement. Pixel data unchanged."
    )
    before = str(dataset.get("DerivationDescription") or "")
    dataset.DerivationDescription = f"{text} Before: {before}"[:_SHORT_TEXT] if before else text
    series = str(dataset.get("SeriesDescription") or "")
    dataset.SeriesDescription = (series[: _LONG_STRING - len(SERIES_MARK)] + SERIES_MARK).strip()
    kinds = dataset.get("ImageType")
    if kinds and not isinstance(kinds, str):
        dataset.ImageType = ["DERIVED", *list(kinds)[1:]]


def _place_frames(dataset: Dataset, place: Place, spacing: list[float], frames: int, name: str) -> None:
    """Give each frame its position in the functional groups, which are kept where there are some."""
    shared = list(_items(dataset, "SharedFunctionalGroupsSequence")) or [Dataset()]
    each = list(_items(dataset, "PerFrameFunctionalGroupsSequence")) or [Dataset() for _ in range(frames)]
    if len(each) != frames or len(shared) != 1:
        raise MediaError(
            f"{name}: functional groups for {len(each)} frames, Number of Frames (0028,0008) is {frames}; the header "
            "is wrong: export the file again from its source"
        )
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = spacing
    measures.SliceThickness = measures.SpacingBetweenSlices = place.spacing_mm
    orientation.ImageOrientationPatient = _AXIAL
    shared[0].PixelMeasuresSequence, shared[0].PlaneOrientationSequence = [measures], [orientation]
    for number, groups in enumerate(each):
        position = Dataset()
        position.ImagePositionPatient = _position(place, number)
        groups.PlanePositionSequence = [position]
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            groups.pop(keyword, None)
        if "FrameContentSequence" not in groups:
            content = Dataset()
            content.StackID, content.InStackPositionNumber = "1", number + 1
            groups.FrameContentSequence = [content]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = shared, each
    for keyword, fallback in (("ContentDate", "StudyDate"), ("ContentTime", "StudyTime"), ("InstanceNumber", None)):
        if not dataset.get(keyword):  # required beside functional groups
            setattr(dataset, keyword, dataset.get(fallback) if fallback else 1)
