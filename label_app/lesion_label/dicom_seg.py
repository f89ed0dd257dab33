"""Masks -> DICOM Segmentation of a series that has a geometry.

dcmqi writes the SEG, for blank pictures at 0, 1, 2 ... mm; then patient, study, geometry and references of the real
ones are put in. So no value of a patient gets into its messages, odd values (a date written 1994.11.05) do not stop it,
and each mask names its picture and, of a multi-frame picture, its frame, which dcmqi leaves out.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from lesion_label.bundle import NAME
from lesion_label.series import Series
from scripts.io.dicom_codes import FINDINGS, MORPHOLOGICALLY_ABNORMAL
from scripts.io.dicom_values import values_as_they_are
from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

TOOL = "itkimage2segimage"
ALGORITHMS = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
_COLOUR = [204, 51, 204]  # magenta, about that of the bundle's own SEG
_PATIENT_GROUPS = (0x0010, 0x0012)  # the patient, also at this study; what was removed of the identity; a trial
_STUDY = (
    *("SpecificCharacterSet", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"),
    *("AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "InstitutionName", "StationName"),
)
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_SECONDS = 300  # that dcmqi may take


def segment_attribute(finding: str = "lesion", algorithm: str = "SEMIAUTOMATIC", name: str = NAME) -> dict[str, Any]:
    """dcmqi's description of a segment.

    Args:
        finding: "lesion", "polyp" or "hemorrhage".
        algorithm: "AUTOMATIC", "SEMIAUTOMATIC" (proposed by the network, corrected by a person) or "MANUAL".
        name: of the algorithm.

    Raises:
        ValueError: another finding or algorithm.
    """
    if finding not in FINDINGS or algorithm not in ALGORITHMS:
        raise ValueError(
            f"finding {finding!r}, algorithm {algorithm!r}: expected one of {', '.join(FINDINGS)}, and one of "
            f"{', '.join(ALGORITHMS)}"
        )
    codes = {"Category": MORPHOLOGICALLY_ABNORMAL, "Type": FINDINGS[finding]}
    return {
        "labelID": 1,
        "SegmentLabel": finding,
        "SegmentDescription": FINDINGS[finding].meaning,
        "SegmentAlgorithmType": algorithm,
        "SegmentAlgorithmName": name,
        "recommendedDisplayRGBValue": _COLOUR,
        **{
            f"SegmentedProperty{kind}CodeSequence": {
                "CodeValue": code.value,
                "CodingSchemeDesignator": code.scheme_designator,
                "CodeMeaning": code.meaning,
            }
            for kind, code in codes.items()
        },
    }


def make_seg(
    series: Series, mask: NDArray[np.uint8], finding: str = "lesion", algorithm: str = "SEMIAUTOMATIC"
) -> Dataset:
    """Write a mask as a SEG of a series, one segment, frames without lesion left out.

    Args:
        series: with a geometry.
        mask: (frames, rows, columns) of the series, above 0 is lesion, not empty.
        finding, algorithm: see segment_attribute.

    Raises:
        MediaError: the series has no geometry, or dcmqi cannot write a SEG for it.
        ValueError: a mask of another shape, or without lesion, or an unknown finding or algorithm.
    """
    segment = segment_attribute(finding, algorithm)
    series.require_geometry()
    if mask.shape != series.shape or not mask.any():
        raise ValueError(f"mask {mask.shape}, {int((mask > 0).sum())} pixels: expected some of {series.shape}")
    description = {
        "ContentCreatorName": "",
        "SeriesDescription": f"{FINDINGS[finding].meaning}, MONAI Label",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "ContentLabel": finding.upper(),
        "ContentDescription": f"{FINDINGS[finding].meaning}, outlined in MONAI Label",
        "BodyPartExamined": "",
        "segmentAttributes": [[segment]],
    }
    with values_as_they_are(), tempfile.TemporaryDirectory(prefix="seg-") as name:
        folder = Path(name)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray((mask > 0).astype(np.uint8)), str(folder / "mask.nrrd"))
        (folder / "seg.json").write_text(json.dumps(description), encoding="utf-8")
        _write_blanks(folder / "pictures", series)
        _run_dcmqi(folder, series.uid)
        seg = dcmread(folder / "seg.dcm")
        _put_in_identity(seg, series.header)
        _put_in_frames(seg, series)
        seg.ContentLabel, seg.ContentDescription = description["ContentLabel"], description["ContentDescription"]
        now = datetime.now()  # to the microsecond, so that the newest of a series is known; dcmqi writes seconds
        seg.ContentDate, seg.ContentTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
        return seg


def _write_blanks(folder: Path, series: Series) -> None:
    """Headers of nobody's pictures, frame k at z = k mm, pixels of 1 mm."""
    folder.mkdir()
    common = Dataset()
    common.SOPClassUID, common.Modality = SecondaryCaptureImageStorage, "OT"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(common, keyword, generate_uid())
    for keyword in _MAY_BE_EMPTY:
        setattr(common, keyword, None)
    common.Rows, common.Columns = series.rows, series.columns
    common.PixelSpacing, common.SliceThickness = [1, 1], 1
    common.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for index in range(len(series.frames)):
        common.SOPInstanceUID, common.InstanceNumber = generate_uid(), index + 1
        common.ImagePositionPatient = [0, 0, index]
        common.add_new("PixelData", "OB", b"\0\0")  # dcmqi looks whether there is some
        blank = FileDataset(None, common, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
        blank.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        blank.file_meta.MediaStorageSOPClassUID = common.SOPClassUID
        blank.file_meta.MediaStorageSOPInstanceUID = common.SOPInstanceUID
        blank.is_little_endian, blank.is_implicit_VR = True, False
        blank.save_as(folder / f"{index}.dcm", write_like_original=False)


def _run_dcmqi(folder: Path, uid: str) -> None:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    tool = shutil.which(TOOL, path=places)
    if tool is None:
        raise MediaError(f"dcmqi's {TOOL} is not installed, no DICOM SEG can be written; pip install dcmqi")
    arguments = ["--inputImageList", folder / "mask.nrrd", "--inputDICOMDirectory", folder / "pictures"]
    arguments += ["--outputDICOM", folder / "seg.dcm", "--inputMetadata", folder / "seg.json"]
    done = subprocess.run(
        [tool, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=_SECONDS
    )
    if done.returncode or not (folder / "seg.dcm").is_file():
        found = [line for line in (done.stdout + done.stderr).splitlines() if "failed" in line or "rror" in line]
        raise MediaError(
            f"series {uid}: dcmqi could not write a SEG (exit code {done.returncode}): "
            f"{'; '.join(found)[:300] or 'no message'}"
        )


def _put_in_identity(seg: Dataset, header: Dataset) -> None:
    """Make it a SEG of the pictures' patient and study; what dcmqi says of a clinical trial goes."""
    for tag in [tag for tag in seg.keys() if tag.group in _PATIENT_GROUPS]:
        del seg[tag]
    for tag in header.keys():
        if tag.group in _PATIENT_GROUPS:
            seg[tag] = deepcopy(header[tag])
    for keyword in _STUDY:
        if keyword in header:
            seg[keyword] = deepcopy(header[keyword])
        elif keyword in seg and keyword not in _MAY_BE_EMPTY:
            del seg[keyword]
    for keyword in _MAY_BE_EMPTY:
        if keyword not in seg:
            setattr(seg, keyword, None)


def _put_in_frames(seg: Dataset, series: Series) -> None:
    """Put the frames where the pictures lie, and name the picture, and the frame of it, that each belongs to."""
    pictures: dict[str, Dataset] = {}
    for groups in seg.PerFrameFunctionalGroupsSequence:
        frame = series.frames[round(float(groups.PlanePositionSequence[0].ImagePositionPatient[2]))]
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
        pictures[frame.sop_instance_uid] = deepcopy(image)
        if frame.number is not None:
            image.ReferencedFrameNumber = frame.number
        image.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
        derivation = Dataset()
        derivation.SourceImageSequence = [image]
        derivation.DerivationCodeSequence = [_code("113076", "Segmentation")]
        groups.DerivationImageSequence = [derivation]
        groups.PlanePositionSequence[0].ImagePositionPatient = _numbers(frame.position)
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    column, row, step = series.spacing
    measures.PixelSpacing = _numbers((row, column))
    (measures.SliceThickness,) = (measures.SpacingBetweenSlices,) = _numbers((step,))
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = _numbers(series.direction.T[:2].ravel())
    seg.FrameOfReferenceUID = series.header.FrameOfReferenceUID
    seg.PositionReferenceIndicator = series.header.get("PositionReferenceIndicator")
    referenced = Dataset()
    referenced.SeriesInstanceUID = series.uid
    referenced.ReferencedInstanceSequence = list(pictures.values())
    seg.ReferencedSeriesSequence = [referenced]


def _numbers(values: Iterable[float]) -> list[str]:
    """As DICOM has them, at most 16 characters each."""
    return [format_number_as_ds(float(value)) for value in values]


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
