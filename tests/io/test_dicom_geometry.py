"""Made-up geometry: what software needs is there, says that it is made up, and all else is the original's."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_sources import MULTI_FRAME, PATIENT, SINGLE_FRAME, make_source
from make_dicom import LOSSY, SOP_CLASSES, WRITABLE, pictures, write_dicom, write_video_dicom
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, VLEndoscopicImageStorage, generate_uid

from scripts.io.dicom_geometry import GEOMETRY, Place, add_geometry, derived_uid, missing_geometry
from scripts.io.errors import MediaError
from scripts.io.geometry_copies import REPORT, GeometryCopies, add_geometry_folder
from scripts.io.writers import OutputError

FILM = SOP_CLASSES["Multi-frame True Color SC"][0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def run(source: Path, **options: float) -> tuple[GeometryCopies, list[dict[str, str]]]:
    """Copy into `out` beside it -> what became of it, geometry.csv."""
    result = add_geometry_folder(source, source.parent / "out", **options)
    with (source.parent / "out" / REPORT).open(encoding="utf-8") as file:
        return result, list(csv.DictReader(file))


def copy_of(source: Path, name: str) -> Dataset:
    return dcmread(source.parent / "out" / name)


def errors_of(path: Path) -> set[str]:
    """What dciodvfy calls an error."""
    shown = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr
    return {line for line in shown.splitlines() if line.startswith("Error")}


def test_a_picture_gets_a_place_and_says_so(source: Path) -> None:
    write_dicom(source / "a.dcm", pictures(), SeriesDescription="Gastroscopy", ImageType=["ORIGINAL", "PRIMARY"])
    original = dcmread(source / "a.dcm")
    run(source)
    copy = copy_of(source, "a.dcm")
    assert copy.PixelSpacing == [1, 1] and copy.SliceThickness == 1
    assert copy.ImagePositionPatient == [0, 0, 0] and copy.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert copy.FrameOfReferenceUID and missing_geometry(copy, "a.dcm") == []
    assert "made up" in copy.DerivationDescription and "no measurement" in copy.DerivationDescription
    assert copy.SeriesDescription == "Gastroscopy (made-up geometry)" and copy.ImageType == ["DERIVED", "PRIMARY"]
    named = copy.SourceImageSequence[0]
    assert named.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert named.ReferencedSOPClassUID == original.SOPClassUID and named.SpatialLocationsPreserved == "YES"
    assert copy.ReferencedSeriesSequence[0].SeriesInstanceUID == original.SeriesInstanceUID
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert copy[keyword].value != original[keyword].value and UID(copy[keyword].value).is_valid
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID


@pytest.mark.parametrize("syntax", WRITABLE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("frames", [1, 3])
def test_nothing_else_is_changed(source: Path, syntax: UID, frames: int) -> None:
    """All transfer syntaxes: the pixel data are the same bytes, and every attribute that is not named here stays."""
    photometric = WRITABLE[syntax][0]
    written = write_dicom(
        source / "a.dcm",
        pictures(frames),
        syntax=syntax,
        photometric=photometric,
        sop_class=FILM if frames > 1 else VLEndoscopicImageStorage,
    )
    before = hashlib.sha256(written.read_bytes()).hexdigest()
    run(source)
    original, copy = dcmread(written), copy_of(source, "a.dcm")
    assert hashlib.sha256(written.read_bytes()).hexdigest() == before
    assert copy.file_meta.TransferSyntaxUID == syntax
    assert copy.PixelData == original.PixelData
    assert np.array_equal(copy.pixel_array, original.pixel_array) or syntax in LOSSY
    changed = {element.keyword for element in original if element.keyword not in copy or copy[element.tag] != element}
    assert changed == {"SOPInstanceUID", "SeriesInstanceUID"}
    added = {element.keyword for element in copy if element.keyword not in original}
    functional = {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "SpacingBetweenSlices"}
    assert added - {"ContentDate", "ContentTime"} == {
        *GEOMETRY, "PositionReferenceIndicator", "DerivationDescription", "SeriesDescription", "SourceImageSequence",
        "ReferencedSeriesSequence", *(functional if frames > 1 else ()),
    }  # fmt: skip


def test_a_series_is_one_stack_in_the_order_of_its_numbers(source: Path) -> None:
    series, study = generate_uid(), generate_uid()
    for name, number in (("b", 10), ("a", 11), ("c", 2)):
        write_dicom(
            source / f"{name}.dcm", pictures(), SeriesInstanceUID=series, StudyInstanceUID=study, InstanceNumber=number
        )
    write_dicom(source / "other.dcm", pictures(), StudyInstanceUID=study)
    run(source, spacing_mm=2.5)
    copies = {name: copy_of(source, f"{name}.dcm") for name in ("a", "b", "c", "other")}
    depths = {name: float(copy.ImagePositionPatient[2]) for name, copy in copies.items()}
    assert depths == {"c": 0, "b": 2.5, "a": 5, "other": 0}  # without gaps: a gap would be a missing slice
    stack = {copies[name].SeriesInstanceUID for name in "abc"}
    assert len(stack) == 1 and copies["other"].SeriesInstanceUID not in stack
    assert len({copy.FrameOfReferenceUID for copy in copies.values()}) == 2
    assert {copy.StudyInstanceUID for copy in copies.values()} == {study}  # the patient's study stays


def test_what_cannot_lie_in_one_volume_gets_a_series_of_its_own(source: Path) -> None:
    series = generate_uid()
    for name, frames in {
        "small": pictures(1, 20, 30),
        "large": pictures(1, 24, 40),
        "film": pictures(3, 24, 40),
    }.items():
        write_dicom(source / f"{name}.dcm", frames, SeriesInstanceUID=series)
    write_dicom(source / "film2.dcm", pictures(2, 24, 40), SeriesInstanceUID=series)
    run(source)
    names = ("small", "large", "film", "film2")
    assert len({copy_of(source, f"{name}.dcm").SeriesInstanceUID for name in names}) == 4


def test_frames_lie_behind_each_other_and_itk_agrees(source: Path) -> None:
    import itk  # seconds to load

    write_dicom(source / "film.dcm", pictures(3), sop_class=FILM)
    run(source, spacing_mm=0.5)
    copy = copy_of(source, "film.dcm")
    groups = copy.PerFrameFunctionalGroupsSequence
    assert [float(each.PlanePositionSequence[0].ImagePositionPatient[2]) for each in groups] == [0, 0.5, 1]
    assert [each.FrameContentSequence[0].InStackPositionNumber for each in groups] == [1, 2, 3]
    reader = itk.GDCMImageIO.New(FileName=str(source.parent / "out" / "film.dcm"))
    reader.ReadImageInformation()
    assert [reader.GetSpacing(axis) for axis in range(3)] == [0.5, 0.5, 0.5]
    assert [reader.GetOrigin(axis) for axis in range(3)] == [0, 0, 0]
    assert np.array_equal([reader.GetDirection(axis) for axis in range(3)], np.eye(3))


@pytest.mark.parametrize("sop_class", {**SINGLE_FRAME, **MULTI_FRAME}.values(), ids=lambda uid: uid.name)
def test_dciodvfy_finds_no_new_error(source: Path, sop_class: UID) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    frames = 1 if sop_class in SINGLE_FRAME.values() else 3
    made = make_source(pictures(frames), sop_class)
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.PixelAspectRatio = [4, 3]
    made.save_as(source / "a.dcm", enforce_file_format=True)
    run(source)
    assert errors_of(source.parent / "out" / "a.dcm") - errors_of(source / "a.dcm") == set()


def test_what_dciodvfy_would_find(source: Path) -> None:
    """That test can fail."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    made = make_source(pictures(3), MULTI_FRAME["Multi-frame True Color SC"])
    made.save_as(source / "a.dcm", enforce_file_format=True)
    run(source)
    copy = copy_of(source, "a.dcm")
    del copy.ContentDate  # required beside functional groups
    copy.save_as(source / "b.dcm", enforce_file_format=True)
    (new,) = errors_of(source / "b.dcm") - errors_of(source / "a.dcm")
    assert "ContentDate" in new


def test_a_second_run_gives_the_same_and_other_pictures_another_series(source: Path) -> None:
    series = generate_uid()
    for number in (1, 2):
        write_dicom(source / f"{number}.dcm", pictures(), SeriesInstanceUID=series, InstanceNumber=number)
    run(source)
    once = (source.parent / "out").rename(source.parent / "once")
    run(source)
    for number in (1, 2):
        assert (once / f"{number}.dcm").read_bytes() == (source.parent / "out" / f"{number}.dcm").read_bytes()
    shutil.rmtree(source.parent / "out")
    write_dicom(source / "0.dcm", pictures(), SeriesInstanceUID=series, InstanceNumber=0)
    run(source)  # they lie elsewhere now, so they are other objects
    old, new = dcmread(once / "1.dcm"), copy_of(source, "1.dcm")
    assert old.ImagePositionPatient != new.ImagePositionPatient
    assert old.SOPInstanceUID != new.SOPInstanceUID and old.SeriesInstanceUID != new.SeriesInstanceUID


def test_derived_uids() -> None:
    assert derived_uid("a", "b") == derived_uid("a", "b") != derived_uid("ab", "")
    assert UID(derived_uid("x")).is_valid and derived_uid("x").startswith("2.25.")


def test_a_measured_pixel_spacing_stays(source: Path) -> None:
    series = generate_uid()
    for number in (1, 2):
        write_dicom(
            source / f"{number}.dcm",
            pictures(),
            SeriesInstanceUID=series,
            InstanceNumber=number,
            PixelSpacing=[0.3, 0.4],
        )
    _, rows = run(source)
    copy = copy_of(source, "2.dcm")
    assert copy.PixelSpacing == [0.3, 0.4] and copy.ImagePositionPatient == [0, 0, 1]
    assert "Pixel Spacing is the original's" in copy.DerivationDescription
    assert rows[0]["made_up"] == "FrameOfReferenceUID SliceThickness ImageOrientationPatient ImagePositionPatient"


def test_a_measured_pixel_spacing_of_the_functional_groups_stays(source: Path) -> None:
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.1, 0.2]
    shared.PixelMeasuresSequence = [measures]
    write_dicom(source / "a.dcm", pictures(3), SharedFunctionalGroupsSequence=[shared])
    _, (row,) = run(source)
    copy = copy_of(source, "a.dcm")
    (group,) = copy.SharedFunctionalGroupsSequence
    assert copy.PixelSpacing == group.PixelMeasuresSequence[0].PixelSpacing == [0.1, 0.2]
    assert "PixelSpacing" not in row["made_up"] and "Pixel Spacing is the original's" in copy.DerivationDescription


def test_pixels_that_are_not_square(source: Path) -> None:
    write_dicom(source / "a.dcm", pictures(), PixelAspectRatio=[4, 3])  # height : width
    run(source)
    copy = copy_of(source, "a.dcm")
    assert [float(side) for side in copy.PixelSpacing] == [1.333333, 1] and "PixelAspectRatio" not in copy


def test_real_positions_are_not_mixed_with_made_up_ones(source: Path) -> None:
    write_dicom(source / "a.dcm", pictures(), FrameOfReferenceUID="1.2.3", ImagePositionPatient=[7, 8, 9])
    run(source)
    copy = copy_of(source, "a.dcm")
    assert copy.FrameOfReferenceUID != "1.2.3" and copy.ImagePositionPatient == [0, 0, 0]


def test_what_was_said_before_stays(source: Path) -> None:
    write_dicom(source / "a.dcm", pictures(), DerivationDescription="Cropped", SeriesDescription="x" * 64)
    run(source)
    copy = copy_of(source, "a.dcm")
    assert copy.DerivationDescription.endswith("Before: Cropped")
    assert len(copy.SeriesDescription) == 64 and copy.SeriesDescription.endswith("x (made-up geometry)")


def test_files_with_geometry_are_not_copied(source: Path) -> None:
    write_dicom(source / "a.dcm", pictures())
    write_dicom(source / "film.dcm", pictures(3), sop_class=FILM)
    run(source)
    first = (source.parent / "out").rename(source.parent / "again")
    (first / REPORT).unlink()
    result, rows = run(first)
    assert (result.copied, result.skipped, result.failed) == (0, 2, [])
    assert {row["done"] for row in rows} == {"skipped: has geometry"}
    assert [path.name for path in (source.parent / "out").iterdir()] == [REPORT]
    film = dcmread(first / "film.dcm")  # in functional groups alone, as enhanced pictures have it
    for keyword in GEOMETRY[1:]:
        delattr(film, keyword)
    assert missing_geometry(film, "film.dcm") == []


def test_the_table(source: Path) -> None:
    (source / "sub").mkdir()
    write_dicom(source / "sub" / "film.dcm", pictures(3), sop_class=FILM)
    write_dicom(source / "plain", pictures())  # without a suffix
    result, rows = run(source)
    assert result.copied == 2 and [row["file"] for row in rows] == ["plain", "sub/film.dcm"]
    film = rows[1]
    assert (film["done"], film["frames"], film["rows"], film["columns"]) == ("copied", "3", "24", "40")
    assert film["made_up"].split() == list(GEOMETRY) and film["first_z_mm"] == "0"
    assert film["new_series"] == copy_of(source, "sub/film.dcm").SeriesInstanceUID
    assert (source.parent / "out" / "plain.dcm").exists()


def test_what_cannot_be_copied_is_left_out_with_its_reason(source: Path) -> None:
    write_dicom(source / "good.dcm", pictures())
    shutil.copy(source / "good.dcm", source / "twin.dcm")
    write_video_dicom(source / "video.dcm", pictures(8, 64, 64))
    (source / "cut.dcm").write_bytes((source / "good.dcm").read_bytes()[:-500])
    write_dicom(source / "anonymous.dcm", pictures(), StudyInstanceUID=None)
    film = dcmread(write_dicom(source / "groups.dcm", pictures(3), sop_class=FILM))
    film.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
    film.save_as(source / "groups.dcm")
    result, rows = run(source)
    reasons = dict(result.failed)
    assert result.copied == 1 and [row["file"] for row in rows] == ["good.dcm"]
    assert "has the SOP Instance UID of good.dcm" in reasons["twin.dcm"]
    assert "a video (MPEG-4" in reasons["video.dcm"] and "extract its frames" in reasons["video.dcm"]
    assert "truncated" in reasons["cut.dcm"]
    assert "StudyInstanceUID missing" in reasons["anonymous.dcm"]
    assert "functional groups for 2 frames, Number of Frames (0028,0008) is 3" in reasons["groups.dcm"]
    assert sorted(path.name for path in (source.parent / "out").iterdir()) == [REPORT, "good.dcm"]


def test_the_log_names_no_patient(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = make_source(pictures())
    made.save_as(source / "a.dcm", enforce_file_format=True)
    (source / "b.dcm").write_bytes((source / "a.dcm").read_bytes()[:-500])
    with caplog.at_level("DEBUG"):
        run(source)
    assert "left out" in caplog.text
    assert not [secret for secret in ("Müller", *list(PATIENT.values())[1:3]) if secret in caplog.text]
    assert copy_of(source, "a.dcm").PatientName == PATIENT["PatientName"]  # the copies are the patient's


@pytest.mark.parametrize(
    ("output", "message"), [("in/out", "inside the folder that is read"), ("full", "not empty; give a new output_dir")]
)
def test_output_folders_that_are_refused(source: Path, output: str, message: str) -> None:
    write_dicom(source / "a.dcm", pictures())
    (source.parent / "full").mkdir()
    (source.parent / "full" / "x").touch()
    with pytest.raises(OutputError, match=message):
        add_geometry_folder(source, source.parent / output)


def test_a_folder_of_other_things_is_refused(source: Path) -> None:
    (source / "a.png").write_bytes(b"x")
    with pytest.raises(MediaError, match=r"not DICOM \(a.png\); only DICOM can be given a geometry here"):
        add_geometry_folder(source, source.parent / "out")
    assert not (source.parent / "out").exists()


def test_an_odd_date_goes_through_unchanged(source: Path) -> None:
    made = make_source(pictures())
    made.save_as(source / "a.dcm", enforce_file_format=True)
    data = (source / "a.dcm").read_bytes()
    (source / "a.dcm").write_bytes(data.replace(b"20240506", b"2024.5.6"))
    run(source)
    assert dcmread(source.parent / "out" / "a.dcm").get_item("StudyDate").value == b"2024.5.6"


@pytest.mark.parametrize("frames", [1, 3])
def test_dcmqi_writes_a_seg_for_a_copy_and_none_for_the_original(source: Path, frames: int) -> None:
    """What other software, Slicer or plain MONAI Label, does with the copies."""
    tool = Path(__file__).resolve().parents[2] / ".venv-label" / "bin" / "itkimage2segimage"
    if not tool.exists():
        pytest.skip("dcmqi is not installed: run label_app/install.sh")
    write_dicom(source / "a.dcm", pictures(frames), sop_class=FILM if frames > 1 else VLEndoscopicImageStorage)
    run(source)
    mask = np.zeros((40, 24, frames), np.uint8)
    mask[5:9, 3:5, -1] = 1
    nib.save(nib.Nifti1Image(mask, np.diag([-1.0, -1.0, 1.0, 1.0])), source.parent / "mask.nii.gz")
    code = {"CodeValue": "52988006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lesion"}
    segment = {"labelID": 1, "SegmentAlgorithmType": "MANUAL", "SegmentedPropertyCategoryCodeSequence": code}
    text = json.dumps({"segmentAttributes": [[{**segment, "SegmentedPropertyTypeCodeSequence": code}]]})
    (source.parent / "seg.json").write_text(text)
    arguments = ["--inputImageList", source.parent / "mask.nii.gz", "--inputMetadata", source.parent / "seg.json"]
    done = {}
    for folder in (source, source.parent / "out"):
        command = [tool, *arguments, "--inputDICOMDirectory", folder, "--outputDICOM", folder.parent / "seg.dcm"]
        done[folder.name] = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done["in"].returncode != 0 and "Tag not found" in done["in"].stdout + done["in"].stderr
    assert done["out"].returncode == 0
    seg = dcmread(source.parent / "seg.dcm")
    assert seg.FrameOfReferenceUID == copy_of(source, "a.dcm").FrameOfReferenceUID
    (groups,) = seg.PerFrameFunctionalGroupsSequence
    assert groups.PlanePositionSequence[0].ImagePositionPatient == [0, 0, frames - 1]
    assert seg.pixel_array.sum() == 8 and seg.pixel_array[3:5, 5:9].all()


def test_real_files(source: Path, shared_dir: Path) -> None:
    """JPEG 2000, palette, a JPEG film of 30 frames: the pixel data stay, byte for byte."""
    names = {"dwv_nema-vl2_j2kr.dcm": 1, "examples_palette.dcm": 1, "examples_ybr_color.dcm": 30, "US1_J2KR.dcm": 1}
    for name in names:
        shutil.copy(shared_dir / "data" / "dicom" / name, source)
    result, _ = run(source)
    assert result.copied == 4
    for name, frames in names.items():
        original, copy = dcmread(source / name), copy_of(source, name)
        assert copy.PixelData == original.PixelData and missing_geometry(copy, name) == []
        assert len(copy.get("PerFrameFunctionalGroupsSequence", [0])) == frames


def test_a_place_further_back() -> None:
    made = make_source(pictures(2), MULTI_FRAME["Ultrasound Multi-frame"])
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    add_geometry(made, Place("1.2.3", 4, 0.5), "x.dcm")
    assert made.ImagePositionPatient == [0, 0, 2]
    assert made.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient == [0, 0, 2.5]
    assert made.FrameOfReferenceUID == Place("1.2.3", 0, 9.0).frame_of_reference_uid


def test_two_names_that_differ_by_their_suffix_get_two_copies(source: Path) -> None:
    for name in ("IM1", "IM1.dcm"):
        write_dicom(source / name, pictures())
    result, rows = run(source)
    assert result.copied == len(rows) == 2
    assert sorted(path.name for path in (source.parent / "out").glob("*.dcm")) == ["IM1.dcm", "IM1_2.dcm"]
