"""DICOM Segmentation: what is written is what was given, of the right patient, and right by the standard."""

from __future__ import annotations

import logging
import resource
import shutil
import subprocess
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dicom_sources import MULTI_FRAME, PATIENT, SINGLE_FRAME, make_source
from pydicom import Dataset, dcmread
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage, VideoEndoscopicImageStorage

from scripts.io.dicom_codes import FINDINGS, MORPHOLOGICALLY_ABNORMAL, SegAlgorithm
from scripts.io.dicom_seg import SegSeries, write_seg
from scripts.io.dicom_seg_reader import read_seg
from scripts.io.errors import MediaError
from scripts.io.writers import OutputError

ALGORITHM = SegAlgorithm("endoscopic_lesion_segmentation", "0.3.0", "ab" * 32, 0.5)


def complaints(path: Path) -> list[str]:
    """Errors that dciodvfy finds."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    lines = (said.stdout + said.stderr).splitlines()
    assert "Segmentation" in lines  # it took the file for what it is
    return [line for line in lines if "Error" in line]


def checkered(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) > 0.6


# What comes back


@pytest.mark.parametrize("shape", [(6, 8), (5, 7), (1, 1)])
def test_binary_mask_of_a_single_frame_comes_back(tmp_path: Path, shape: tuple[int, int]) -> None:
    mask = checkered(shape, 1) | np.eye(*shape, dtype=bool)
    source = make_source(shape=(1, *shape))
    write_seg(tmp_path / "seg.dcm", source, {0: mask}, algorithm=ALGORITHM)
    read = read_seg(tmp_path / "seg.dcm")
    assert list(read) == [0] and read[0].dtype == bool
    np.testing.assert_array_equal(read[0], mask)
    by_highdicom = highdicom.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance([source.SOPInstanceUID])
    np.testing.assert_array_equal(by_highdicom[0, :, :, 0], mask)


def test_bits_of_several_frames_run_on_without_a_gap(tmp_path: Path) -> None:
    # 3 x 3 frames, 9 bits each, lowest bit first: frame 0 all ones, frame 2 only its first pixel.
    first, third = np.ones((3, 3), bool), np.zeros((3, 3), bool)
    third[0, 0] = True
    source = make_source(shape=(3, 3, 3), sop_class=VideoEndoscopicImageStorage)
    masks = {2: third, 0: first, 1: np.zeros((3, 3), bool)}
    write_seg(tmp_path / "seg.dcm", source, masks, algorithm=ALGORITHM)
    seg = dcmread(tmp_path / "seg.dcm")
    assert seg.PixelData == bytes([0b11111111, 0b00000011, 0b00000000, 0])  # 18 bits, filled up to an even length
    assert seg.NumberOfFrames == 2 and seg.Rows == seg.Columns == 3 and seg.BitsAllocated == 1
    read = read_seg(tmp_path / "seg.dcm")
    assert list(read) == [0, 2]  # the empty frame is left out
    np.testing.assert_array_equal(read[2], third)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_frames_refer_to_the_frames_of_the_source(tmp_path: Path, kind: str) -> None:
    masks = {index: checkered((5, 7), index) for index in (1, 3, 8)}
    if kind == "FRACTIONAL":
        masks = {index: mask * np.float32(index / 10) for index, mask in masks.items()}
    source = make_source(shape=(9, 5, 7), sop_class=VideoEndoscopicImageStorage)
    write_seg(tmp_path / "seg.dcm", source, masks, kind=kind, algorithm=ALGORITHM)
    read = read_seg(tmp_path / "seg.dcm")
    assert list(read) == [1, 3, 8]
    for index, mask in masks.items():
        np.testing.assert_allclose(read[index].astype(float), mask.astype(float), atol=0.5 / 255 + 1e-6)
    seg = dcmread(tmp_path / "seg.dcm")
    assert "FrameOfReferenceUID" not in seg
    pointers = [(item.FunctionalGroupPointer, item.DimensionIndexPointer) for item in seg.DimensionIndexSequence]
    assert pointers == [(0x0062000A, 0x0062000B), (0x00209111, 0x00209056), (0x00209111, 0x00209057)]
    for groups, number in zip(seg.PerFrameFunctionalGroupsSequence, (2, 4, 9), strict=True):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (
            source.SOPClassUID,
            source.SOPInstanceUID,
        )
        assert image.ReferencedFrameNumber == number
        content = groups.FrameContentSequence[0]
        assert (content.StackID, content.InStackPositionNumber) == ("1", number)
        assert list(content.DimensionIndexValues) == [1, 1, number]
    # An independent reader finds the same pixels by the same frame numbers.
    by_highdicom = highdicom.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_frame(
        source.SOPInstanceUID, [2, 4, 9]
    )
    for place, index in enumerate(masks):
        np.testing.assert_allclose(by_highdicom[place, :, :, 0], read[index], atol=1e-6)


def test_probabilities_are_stored_in_steps_of_a_255th(tmp_path: Path) -> None:
    probability = np.array([[0.0, 1.0, 0.5, 0.2], [1 / 255, 0.4 / 255, 0.6 / 255, 254.4 / 255]])
    write_seg(
        tmp_path / "s.dcm", make_source(shape=(1, 2, 4)), {0: probability}, kind="FRACTIONAL", algorithm=ALGORITHM
    )
    seg = dcmread(tmp_path / "s.dcm")
    assert (seg.SegmentationFractionalType, seg.MaximumFractionalValue) == ("PROBABILITY", 255)
    np.testing.assert_array_equal(seg.pixel_array, [[0, 255, 128, 51], [1, 0, 1, 254]])
    np.testing.assert_allclose(read_seg(tmp_path / "s.dcm")[0][0, 2], 128 / 255)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_without_lesion_one_empty_frame_is_kept(tmp_path: Path, kind: str) -> None:
    empty = np.zeros((6, 8), bool if kind == "BINARY" else float)
    source = make_source(shape=(4, 6, 8), sop_class=VideoEndoscopicImageStorage)
    write_seg(tmp_path / "seg.dcm", source, {3: empty, 1: empty}, kind=kind, algorithm=ALGORITHM)
    read = read_seg(tmp_path / "seg.dcm")
    assert list(read) == [1] and not read[1].any()
    assert not complaints(tmp_path / "seg.dcm")


# Whose it is and what it says


def test_patient_and_study_are_kept_and_the_rest_is_new(tmp_path: Path) -> None:
    source = make_source()
    before = source.to_json()
    write_seg(tmp_path / "seg.dcm", source, {0: checkered((6, 8), 0)}, algorithm=ALGORITHM)
    assert source.to_json() == before
    seg = dcmread(tmp_path / "seg.dcm")
    for keyword in (*PATIENT, "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription"):
        assert seg[keyword].value == source[keyword].value, keyword
    for keyword in ("AccessionNumber", "ReferringPhysicianName"):
        assert seg[keyword].value == source[keyword].value, keyword
    assert seg.Modality == "SEG" and seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert seg.SOPInstanceUID == seg.file_meta.MediaStorageSOPInstanceUID != source.SOPInstanceUID
    series = seg.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    named = {element.value for element in seg.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert named == {source.SOPInstanceUID}


def test_a_series_can_be_shared(tmp_path: Path) -> None:
    source, shared = make_source(), SegSeries(number=7)
    for instance in (1, 2):
        series = SegSeries(shared.uid, shared.number, instance)
        write_seg(tmp_path / f"{instance}.dcm", source, {0: np.ones((6, 8), bool)}, algorithm=ALGORITHM, series=series)
    first, second = dcmread(tmp_path / "1.dcm"), dcmread(tmp_path / "2.dcm")
    assert first.SeriesInstanceUID == second.SeriesInstanceUID and first.SOPInstanceUID != second.SOPInstanceUID
    assert (second.SeriesNumber, second.InstanceNumber) == (7, 2)


def test_codes_are_those_of_the_standard() -> None:
    # pydicom's tables are made from PS3.16: CID 7150 holds categories, CID 7151 types of segments.
    assert "MorphologicallyAbnormalStructure" in cid_concepts[7150]["SCT"]
    assert MORPHOLOGICALLY_ABNORMAL == codes.SCT.MorphologicallyAbnormalStructure
    assert {"Lesion", "Hemorrhage"} <= set(cid_concepts[7151]["SCT"])
    assert FINDINGS["lesion"] == codes.SCT.Lesion and FINDINGS["hemorrhage"] == codes.SCT.Hemorrhage
    assert FINDINGS["polyp"].value == "41329004"  # SNOMED CT: Polyp (morphologic abnormality)


def test_segment_names_finding_and_algorithm(tmp_path: Path) -> None:
    write_seg(
        tmp_path / "seg.dcm", make_source(), {0: np.ones((6, 8), bool)}, finding="hemorrhage", algorithm=ALGORITHM
    )
    seg = dcmread(tmp_path / "seg.dcm")
    segment = seg.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "50960005"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("endoscopic_lesion_segmentation", "0.3.0")
    assert algorithm.AlgorithmParameters == f"weights_sha256={'ab' * 32},threshold=0.5"
    assert (seg.ContentLabel, seg.SoftwareVersions) == ("HEMORRHAGE", "0.3.0")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("sop_class", [*SINGLE_FRAME, *MULTI_FRAME])
def test_dciodvfy_finds_no_error(tmp_path: Path, sop_class: str, kind: str) -> None:
    uid = (SINGLE_FRAME | MULTI_FRAME)[sop_class]
    frames = 1 if sop_class in SINGLE_FRAME else 4
    masks = {i: checkered((6, 8), i) * (True if kind == "BINARY" else np.float32(0.7)) for i in range(frames) if i != 2}
    path = tmp_path / "Änne  seg.dcm"
    write_seg(path, make_source(shape=(frames, 6, 8), sop_class=uid), masks, kind=kind, algorithm=ALGORITHM)
    assert not complaints(path)


# Bad input


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Rows", "Columns"]
)
def test_a_source_without_what_must_be_referred_to_is_refused(tmp_path: Path, keyword: str) -> None:
    source = make_source()
    source.filename = tmp_path / "source.dcm"
    delattr(source, keyword)
    with pytest.raises(MediaError, match=f"source.dcm: {keyword} missing") as caught:
        write_seg(tmp_path / "seg.dcm", source, {0: np.ones((6, 8), bool)}, algorithm=ALGORITHM)
    assert not any(str(value) in str(caught.value) for value in PATIENT.values())
    assert not list(tmp_path.iterdir())


def test_absent_patient_attributes_are_written_empty(tmp_path: Path) -> None:
    source = make_source()
    for keyword in (*PATIENT, "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        delattr(source, keyword)
    write_seg(tmp_path / "seg.dcm", source, {0: np.ones((6, 8), bool)}, algorithm=ALGORITHM)
    seg = dcmread(tmp_path / "seg.dcm")
    assert seg.PatientName == "" and seg["PatientID"].value in ("", None)
    assert not complaints(tmp_path / "seg.dcm")


def test_odd_values_go_through_and_nothing_of_the_patient_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_source()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.PatientName = "Nobody in particular"  # highdicom logs a name without carets
        source.PatientBirthDate = "1950.02.03"
        source.StudyInstanceUID = "999.05.1"
        source.save_as(tmp_path / "source.dcm")
    caplog.clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        source = dcmread(tmp_path / "source.dcm")
        write_seg(tmp_path / "seg.dcm", source, {0: np.ones((6, 8), bool)}, algorithm=ALGORITHM)
    secrets = ["Nobody", "ID-4711", "1950", "999.05.1", "Weiß", "A-12", source.SOPInstanceUID]
    assert "highdicom" in caplog.text  # it does log, if one lets it
    assert not [secret for secret in secrets if secret in caplog.text]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = dcmread(tmp_path / "seg.dcm")
        assert seg.PatientName == "Nobody in particular"
        assert (seg.PatientBirthDate, seg.StudyInstanceUID) == ("1950.02.03", "999.05.1")


@pytest.mark.parametrize(
    ("masks", "kind", "complaint"),
    [
        ({}, "BINARY", "no mask"),
        ({0: np.ones((8, 6), bool)}, "BINARY", r"is \(8, 6\), the source \(6, 8\)"),
        ({0: np.ones((6, 8), np.uint8)}, "BINARY", "uint8, expected bool"),
        ({0: np.ones((6, 8), bool)}, "FRACTIONAL", "bool.* expected probabilities"),
        ({0: np.full((6, 8), 1.01)}, "FRACTIONAL", "1.01"),
        ({0: np.full((6, 8), np.nan)}, "FRACTIONAL", "nan"),
        ({1: np.ones((6, 8), bool)}, "BINARY", "mask of frame 1, but the source has frames 0 to 0"),
        ({0: np.ones((6, 8), bool)}, "LABELMAP", "expected one of BINARY, FRACTIONAL"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, masks: dict, kind: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_seg(tmp_path / "seg.dcm", make_source(), masks, kind=kind, algorithm=ALGORITHM)
    assert not list(tmp_path.iterdir())


def test_unknown_finding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'ulcer' has no code; expected one of lesion"):
        write_seg(tmp_path / "s.dcm", make_source(), {0: np.ones((6, 8), bool)}, finding="ulcer", algorithm=ALGORITHM)


@pytest.mark.parametrize(
    "values",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\\b"},
        {"version": "ü"},
        {"weights_sha256": "12"},
        {"threshold": 1.5},
    ],
)
def test_algorithm_that_dicom_cannot_hold_is_refused(values: dict) -> None:
    good = {"name": "n", "version": "1", "weights_sha256": "0" * 64, "threshold": 0.5}
    SegAlgorithm(**good)
    with pytest.raises(ValueError, match=next(iter(values))):
        SegAlgorithm(**good | values)


def test_disk_full_leaves_nothing(tmp_path: Path) -> None:
    source = make_source(shape=(1, 512, 512))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # the file would have 32 kB of bits
    try:
        with pytest.raises(OutputError, match="seg.dcm: cannot be written"):
            write_seg(tmp_path / "seg.dcm", source, {0: np.ones((512, 512), bool)}, algorithm=ALGORITHM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_read_seg_names_what_is_wrong(tmp_path: Path) -> None:
    make_source().save_as(tmp_path / "picture.dcm", enforce_file_format=True)
    with pytest.raises(MediaError, match="picture.dcm: not a DICOM Segmentation"):
        read_seg(tmp_path / "picture.dcm")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(MediaError, match="text.dcm: cannot be read as DICOM"):
        read_seg(tmp_path / "text.dcm")
    write_seg(tmp_path / "seg.dcm", make_source(), {0: np.ones((6, 8), bool)}, algorithm=ALGORITHM)
    with pytest.raises(MediaError, match=r"no segment 2; it has \[1\]"):
        read_seg(tmp_path / "seg.dcm", segment=2)
    whole = (tmp_path / "seg.dcm").read_bytes()
    (tmp_path / "half.dcm").write_bytes(whole[: len(whole) * 3 // 5])
    with pytest.raises(MediaError, match="half.dcm: "):
        read_seg(tmp_path / "half.dcm")


# Real files


def test_real_gastroscopy_frame(tmp_path: Path, shared_dir: Path) -> None:
    source = dcmread(shared_dir / "data" / "dicom" / "dwv_nema-vl2_j2kr.dcm", stop_before_pixels=True)
    mask = checkered((source.Rows, source.Columns), 3)
    write_seg(tmp_path / "seg.dcm", source, {0: mask}, finding="polyp", algorithm=ALGORITHM)
    assert not complaints(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm")[0], mask)
    assert dcmread(tmp_path / "seg.dcm").PatientName == source.PatientName


def test_real_file_of_thirty_frames(tmp_path: Path, shared_dir: Path) -> None:
    source: Dataset = dcmread(shared_dir / "data" / "dicom" / "examples_ybr_color.dcm", stop_before_pixels=True)
    assert source.NumberOfFrames == 30
    masks = {index: checkered((source.Rows, source.Columns), index) for index in range(0, 30, 4)}
    write_seg(tmp_path / "seg.dcm", source, masks, algorithm=ALGORITHM)
    assert not complaints(tmp_path / "seg.dcm")
    read = read_seg(tmp_path / "seg.dcm")
    assert list(read) == list(masks) and all((read[index] == masks[index]).all() for index in masks)


def test_multi_frame_of_a_single_frame_class_still_names_its_frames(tmp_path: Path) -> None:
    # Such files exist, against the standard; the reference has to name the frame all the same.
    source = make_source(shape=(2, 6, 8), sop_class=SecondaryCaptureImageStorage)
    source.NumberOfFrames = 2
    write_seg(tmp_path / "seg.dcm", source, {1: np.ones((6, 8), bool)}, algorithm=ALGORITHM)
    assert list(read_seg(tmp_path / "seg.dcm")) == [1]
