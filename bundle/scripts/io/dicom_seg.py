"""Masks -> one DICOM Segmentation (SEG) that the archive files with the patient's study.

Endoscopic pictures have no Frame of Reference: nothing says where in the patient a pixel lies, and nothing is made up
here. PS3.3 A.51 provides for it: Frame of Reference, Pixel Measures, Plane Position and Plane Orientation are required
only where the Derivation Image functional group is absent, and without a Frame of Reference each pixel of the SEG
corresponds to the pixel at its place in the picture that Derivation Image names (A.51.5.1).

For a single-frame source highdicom writes exactly that. It refuses a multi-frame source without Frame of Reference
("Only a single frame is supported ..."), because one has to choose how the frames are indexed. Our choice: ONE
multi-frame SEG, made by highdicom for one frame and extended, so that each of its frames names the source's frame:

- Derivation Image > Source Image > Referenced Frame Number is the number (from 1) of the source's frame;
- Frame Content > Stack ID is "1", In-Stack Position Number is that number again, and the dimensions are
  (Referenced Segment Number, Stack ID, In-Stack Position Number), so that the frames have an order.

A series of single-frame SEG would need no handling of our own, but a clip of a thousand frames would become a thousand
objects in the archive. Geometry that was invented to please a viewer could be measured in.

No value of the source passes through highdicom's constructor, whose log names UIDs and patients: the SEG is made for a
blank source, then the source's references and its Patient and Study modules are put in.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from scripts.io.dicom_codes import MORPHOLOGICALLY_ABNORMAL, SegAlgorithm, finding_code
from scripts.io.dicom_header import number_of_frames
from scripts.io.dicom_seg_pixels import MAX_FRACTIONAL, pack_masks
from scripts.io.dicom_values import values_as_they_are
from scripts.io.errors import MediaError
from scripts.io.writers import whole_file

logger = logging.getLogger(__name__)

_MANUFACTURER = "endoscopic_lesion_segmentation"
_COLOUR = CIELabColor(60, 95, -50)  # about the magenta of the overlays
_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")  # a SEG must name them
_MAY_BE_EMPTY = (  # type 2 of the Patient and General Study modules
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_KEPT_AS_THEY_ARE = (  # of the picture: how its text is encoded, how it lies, and that it was compressed with loss
    *("SpecificCharacterSet", "PatientOrientation", "LossyImageCompression"),
    *("LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
_LAST_IDENTITY_GROUP = 0x0040  # no attribute of the Patient and Study modules has a higher group


@dataclass(frozen=True)
class SegSeries:
    """The series that a SEG goes into; by default a new one. All SEG of a series must be of one study."""

    uid: str = field(default_factory=generate_uid)
    number: int = 300
    instance: int = 1  # number of the SEG within the series, from 1


def write_seg(
    path: str | Path,
    source: Dataset,
    masks: Mapping[int, NDArray],
    *,
    finding: str = "lesion",
    kind: str = "BINARY",
    algorithm: SegAlgorithm,
    series: SegSeries | None = None,
) -> None:
    """Write the masks of a DICOM object's frames as one SEG of the same patient and study.

    Frames without lesion are left out; when there is no lesion at all, the first frame given is kept, empty.

    Args:
        path: target file.
        source: header of the DICOM object that the masks were made from; its pixels are not looked at.
        masks: frame number, from 0 -> (H, W), bool for BINARY, probability 0..1 for FRACTIONAL (stored in steps of
            1/255); H, W are the source's Rows and Columns. Asked for one by one, so they may be made on demand.
        finding: "lesion", "polyp" or "hemorrhage".
        kind: "BINARY" (bits, uncompressed) or "FRACTIONAL" (probability, RLE).
        algorithm: what made the masks.
        series: the series to write into; a new one by default.

    Raises:
        MediaError: the source lacks what a SEG must refer to.
        ValueError: masks that do not fit the source, or an unknown kind or finding.
        OutputError: it cannot be written.
    """
    with values_as_they_are():
        shape, frames = _check_source(source)
    kept, first, pixels = pack_masks(path, masks, kind, shape, frames)
    with values_as_they_are():  # the source's go through unchanged, odd ones too
        blank = _blank_source(shape)
        seg = _single_frame(blank, first, finding, kind, algorithm, series or SegSeries())
        if frames > 1:
            _spread(seg, kept)
            seg["PixelData"].value = pixels
        _put_in_source(seg, source, blank)
        _save(path, seg)


def _check_source(source: Dataset) -> tuple[tuple[int, int], int]:
    """(rows, columns) and number of frames. Raises MediaError where the source lacks what a SEG must refer to."""
    name = getattr(source, "filename", None) or "the DICOM source"
    missing = [keyword for keyword in (*_REFERENCES, "Rows", "Columns") if not source.get(keyword)]
    if missing:
        raise MediaError(
            f"{name}: {', '.join(missing)} missing, without which no DICOM SEG can refer to it; write PNG masks for "
            "this file, or export it again from the archive"
        )
    return (int(source.Rows), int(source.Columns)), number_of_frames(source, str(name))


def _blank_source(shape: tuple[int, int]) -> Dataset:
    """Header of a single-frame picture of the source's size (rows, columns), of nobody, with UIDs of its own."""
    blank = Dataset()
    blank.file_meta = FileMetaDataset()
    blank.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _MAY_BE_EMPTY:
        setattr(blank, keyword, None)
    for keyword in _REFERENCES:
        setattr(blank, keyword, generate_uid())
    blank.SOPClassUID = SecondaryCaptureImageStorage
    blank.Modality = "OT"
    blank.Rows, blank.Columns = shape
    return blank


def _single_frame(
    blank: Dataset, stored: NDArray[np.uint8], finding: str, kind: str, algorithm: SegAlgorithm, series: SegSeries
) -> Dataset:
    """SEG of one frame (`stored` (H, W) uint8, 0/1 or 0..255), made by highdicom."""
    code = finding_code(finding)
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=code.meaning,
        segmented_property_category=MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=code,
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.DCM.ArtificialIntelligence,
            version=algorithm.version,
            parameters=algorithm.parameters,
        ),
        display_color=_COLOUR,
    )
    fractional = kind == "FRACTIONAL"
    return highdicom.seg.Segmentation(
        source_images=[blank],
        pixel_array=(stored.astype(np.float32) / MAX_FRACTIONAL if fractional else stored.astype(bool))[None],
        segmentation_type=kind,
        fractional_type="PROBABILITY",
        max_fractional_value=MAX_FRACTIONAL,
        segment_descriptions=[segment],
        series_instance_uid=series.uid,
        series_number=series.number,
        series_description=f"{code.meaning}, automatic segmentation",
        sop_instance_uid=generate_uid(),
        instance_number=series.instance,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=algorithm.name,
        software_versions=algorithm.version,
        device_serial_number=algorithm.weights_sha256.lower(),
        content_label=finding.upper(),
        content_description=f"{code.meaning}, outlined by software, not verified",
        transfer_syntax_uid=RLELossless if fractional else ExplicitVRLittleEndian,
        omit_empty_frames=False,
    )


def _spread(seg: Dataset, indices: list[int]) -> None:
    """Turn the SEG of one frame into that of the source's frames `indices` (from 0), all but its Pixel Data."""
    seg.NumberOfFrames = len(indices)
    for keyword, label in (("StackID", "Stack ID"), ("InStackPositionNumber", "In-Stack Position Number")):
        dimension = Dataset()
        dimension.DimensionOrganizationUID = seg.DimensionOrganizationSequence[0].DimensionOrganizationUID
        dimension.DimensionIndexPointer = keyword
        dimension.FunctionalGroupPointer = "FrameContentSequence"
        dimension.DimensionDescriptionLabel = label
        seg.DimensionIndexSequence.append(dimension)
    derivation = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    seg.PerFrameFunctionalGroupsSequence = [_frame_groups(derivation, index + 1) for index in indices]


def _frame_groups(pattern: Dataset, number: int) -> Dataset:
    """Functional groups of the frame that belongs to the source's frame `number` (from 1)."""
    image = Dataset()
    image.update(pattern.SourceImageSequence[0])
    image.ReferencedFrameNumber = number
    derivation = Dataset()
    derivation.DerivationCodeSequence = pattern.DerivationCodeSequence
    derivation.SourceImageSequence = [image]
    content = Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = number
    content.DimensionIndexValues = [1, 1, number]  # PS3.3 C.7.6.17: that of In-Stack Position Number is its value
    groups = Dataset()
    groups.DerivationImageSequence = [derivation]
    groups.FrameContentSequence = [content]
    return groups


def _put_in_source(seg: Dataset, source: Dataset, blank: Dataset) -> None:
    """Refer to the source where the blank one is referred to, and take over its patient and study."""
    real = {blank[keyword].value: source[keyword].value for keyword in _REFERENCES}
    for element in seg.iterall():
        if element.VR == "UI" and element.value in real:
            element.value = real[element.value]
    identity = Dataset()
    for tag in source.keys():
        if tag.group <= _LAST_IDENTITY_GROUP and not tag.is_private:
            try:
                identity.add(deepcopy(source[tag]))
            except Exception:  # whatever pydicom cannot make sense of; the message would quote the value
                logger.warning("a damaged attribute %s of the source was left out of the SEG", tag)
    # Which attributes belong to the two modules highdicom looks up by these.
    identity.SOPClassUID, identity.SOPInstanceUID = SecondaryCaptureImageStorage, seg.SOPInstanceUID
    seg.copy_patient_and_study_information(identity)
    seg.PatientOrientation = None  # required, may be empty
    for keyword in _KEPT_AS_THEY_ARE:
        if keyword in identity:
            seg[keyword] = identity[keyword]


def _save(path: str | Path, seg: Dataset) -> None:
    plain = Dataset()  # highdicom's own class holds an index of frames, which is out of date by now
    plain.update(seg)
    plain.file_meta = seg.file_meta
    with whole_file(path) as partial:
        plain.save_as(partial, enforce_file_format=True)
