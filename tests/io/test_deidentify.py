"""De-identification: nothing of the patient is left in the header, and nothing is claimed about the pixels."""

from __future__ import annotations

import csv
import logging
import shutil
import warnings
from pathlib import Path

import pydicom
import pytest
from dicom_sources import PATIENT
from PIL import Image
from pydicom import dcmread
from pydicom.uid import (
    UID,
    VLEndoscopicImageStorage,
)
from telling_sources import SECRETS, saved, telling_source, told

from scripts.io.deidentify import REPORT, deidentify_file, deidentify_folder
from scripts.io.deidentify_tags import UidMapping
from scripts.io.errors import MediaError
from scripts.io.writers import OutputError

UNREADABLE = [path for path in Path("/sys/bus").glob("*/drivers_probe") if path.stat().st_mode & 0o777 == 0o200]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(tmp_path / "in" / "MÜLLER 1.dcm", telling_source())


def test_nothing_of_the_patient_is_left(tmp_path: Path, source: Path) -> None:
    assert told(source) == list(SECRETS)  # the test can fail
    deidentify_file(source, tmp_path / "out.dcm")
    assert told(tmp_path / "out.dcm") == []
    old, new = dcmread(source), dcmread(tmp_path / "out.dcm")
    for uid in (old.SOPInstanceUID, old.StudyInstanceUID, old.SeriesInstanceUID):
        assert uid.encode() not in (tmp_path / "out.dcm").read_bytes()
    assert new.SOPClassUID == old.SOPClassUID and new.PixelData == old.PixelData
    assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID
    kept = new.ReferencedInstanceSequence[0]
    assert kept.ReferencedSOPInstanceUID == new.SOPInstanceUID  # still refers to the same object
    assert kept.ReferencedSOPClassUID == VLEndoscopicImageStorage
    assert not [element for element in new.iterall() if element.tag.is_private or element.tag.group == 0x6000]


def test_uids_links_and_free_text_that_the_table_does_not_know(tmp_path: Path) -> None:
    source = telling_source()
    source.SOPInstanceUIDOfConcatenationSource = "1.2.3.99"
    source.RetrieveURL = "https://pacs.example.org/rs/studies/1.2.3"
    source.TrackingID = "Müller, left"
    source.CodingSchemeUID = "1.2.3.4.5"
    extraction = pydicom.Dataset()
    extraction.MultiFrameSourceSOPInstanceUID = source.SOPInstanceUID
    source.FrameExtractionSequence = [extraction]
    deidentify_file(saved(tmp_path / "in.dcm", source), tmp_path / "out.dcm")
    new = dcmread(tmp_path / "out.dcm")
    assert new.SOPInstanceUIDOfConcatenationSource.startswith("2.25.") and "RetrieveURL" not in new
    assert new.FrameExtractionSequence[0].MultiFrameSourceSOPInstanceUID == new.SOPInstanceUID
    assert not new.TrackingID and new.SOPClassUID == source.SOPClassUID and new.CodingSchemeUID == "1.2.3.4.5"


def test_it_says_what_was_done_and_no_more(tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = deidentify_file(source, tmp_path / "out.dcm")
    new = dcmread(tmp_path / "out.dcm")
    assert new.PatientIdentityRemoved == "YES"
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in new.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM")]  # Basic Profile; not 113101, Clean Pixel Data Option
    assert new.BurnedInAnnotation == done.burned_in_annotation == "YES"
    assert "pixels were not searched" in caplog.text
    assert not [secret for secret in SECRETS if secret in caplog.text]
    deidentify_file(source, tmp_path / "looked_at.dcm", pixels_checked=True)
    assert dcmread(tmp_path / "looked_at.dcm").BurnedInAnnotation == "NO"


def test_burnt_in_claim_of_the_source_is_not_believed(tmp_path: Path) -> None:
    claimed = telling_source()
    claimed.BurnedInAnnotation = "NO"
    deidentify_file(saved(tmp_path / "a.dcm", claimed), tmp_path / "b.dcm")
    assert dcmread(tmp_path / "b.dcm").BurnedInAnnotation == "YES"


def test_uids_and_pseudonyms_are_consistent_and_secret() -> None:
    mapping, other = UidMapping(b"key"), UidMapping()
    new = mapping.uid("1.2.3.4")
    assert new == mapping.uid("1.2.3.4\0") == UidMapping(b"key").uid("1.2.3.4")
    assert new not in (other.uid("1.2.3.4"), mapping.uid("1.2.3.5"))
    assert UID(new).is_valid and new.startswith("2.25.")
    assert mapping.uid(VLEndoscopicImageStorage) == VLEndoscopicImageStorage and mapping.uid("") == ""
    assert mapping.pseudonym("a") != mapping.pseudonym("b") and UidMapping().pseudonym("a") != mapping.pseudonym("a")


def test_patients_without_an_id_are_told_apart_by_their_names(tmp_path: Path) -> None:
    """The issuer alone would make one patient of a hospital's."""
    mapping, found = UidMapping(b"key"), []
    patients = [("", "Müller^A"), (" ", "Müller^A"), (None, "Müller^B"), ("", ""), ("7", "Müller^A"), ("7", "Müller^C")]
    for number, (patient_id, name) in enumerate(patients):
        made = telling_source()
        made.IssuerOfPatientID, made.PatientID, made.PatientName = "CLINIC", patient_id, name
        target = tmp_path / f"{number}.dcm"
        deidentify_file(saved(tmp_path / "in" / target.name, made), target, mapping=mapping)
        found.append(dcmread(target).PatientID)
    assert found[0] == found[1] != "" and found[4] == found[5] and not found[3]
    assert len(set(found)) == 4


# Folders


def make_folder(folder: Path, files: int) -> Path:
    for number in range(files):
        made = telling_source()
        if number == 1:
            made.PatientID = made.PatientName = "Anders"
        saved(folder / f"sub {number % 2}" / f"MÜLLER {number}.dcm", made)
    return folder


def test_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder(tmp_path / "in", 3)
    first = dcmread(folder / "sub 0" / "MÜLLER 0.dcm")
    second = telling_source()
    second.StudyInstanceUID = first.StudyInstanceUID
    saved(folder / "sub 0" / "MÜLLER 9.dcm", second)
    (folder / "notes.txt").write_text("left out")
    result = deidentify_folder(folder, tmp_path / "out", blackout=[(0, 0, 2, 1)])
    names = [f"image_{number:05d}.dcm" for number in range(1, 5)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [REPORT, *names]
    assert [copy.file for copy in result.written] == names and not result.failed
    copies = [dcmread(tmp_path / "out" / name) for name in names]
    # In the order of the old names: 0, 2, 9 (sub 0), then 1 (sub 1), which is another patient's.
    assert copies[0].StudyInstanceUID == copies[2].StudyInstanceUID != copies[1].StudyInstanceUID
    assert copies[0].PatientID == copies[1].PatientID == copies[2].PatientID != copies[3].PatientID
    with (tmp_path / "out" / REPORT).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {
        "file": "image_00001.dcm",
        "frames": "1",
        "rows": "6",
        "columns": "8",
        "blacked_out_x_y_width_height": "0 0 2 1",
        "burned_in_annotation": "YES",
    }
    for name in (REPORT, *names):
        assert told(tmp_path / "out" / name) == []
        assert "MÜLLER" not in (tmp_path / "out" / name).read_bytes().decode("latin-1")
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_a_broken_file_is_left_out_and_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", 2)
    whole = (folder / "sub 0" / "MÜLLER 0.dcm").read_bytes()
    (folder / "half.dcm").write_bytes(whole[:-100])
    result = deidentify_folder(folder, tmp_path / "out")
    assert len(result.written) == 2
    assert [path.name for path, _ in result.failed] == ["half.dcm"] and "truncated" in result.failed[0][1]
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 2


@pytest.mark.skipif(not UNREADABLE, reason="needs a file of Linux's /sys that nobody can read")
def test_a_file_that_may_not_be_read_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_folder(tmp_path / "in", 2)
    (folder / "locked.dcm").symlink_to(UNREADABLE[0])
    result = deidentify_folder(folder, tmp_path / "out")
    assert len(result.written) == 2
    assert [path.name for path, _ in result.failed] == ["locked.dcm"] and "permissions" in result.failed[0][1]
    assert "locked.dcm" in caplog.text and "locked" not in (tmp_path / "out" / REPORT).read_text()


def test_a_secret_gives_the_same_names_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", 1)
    uids = []
    for name, secret in (("a", b"k"), ("b", b"k"), ("c", None)):
        deidentify_folder(folder, tmp_path / name, secret=secret)
        copy = dcmread(tmp_path / name / "image_00001.dcm")
        uids.append((copy.SOPInstanceUID, copy.PatientID))
    assert uids[0] == uids[1] and uids[0][0] != uids[2][0] and uids[0][1] != uids[2][1]


# Bad input


@pytest.mark.parametrize("rectangle", [(7, 0, 2, 1), (0, 5, 1, 2), (-1, 0, 2, 2), (0, 0, 0, 2), (0, 0, 2, -1)])
def test_a_rectangle_outside_the_picture_is_refused(tmp_path: Path, source: Path, rectangle: tuple) -> None:
    with pytest.raises(MediaError, match=r"is not inside the picture, 8 x 6 pixels"):
        deidentify_file(source, tmp_path / "out.dcm", blackout=[rectangle])
    assert not (tmp_path / "out.dcm").exists()


def test_pictures_and_videos_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="a.png: not DICOM"):
        deidentify_file(tmp_path / "a.png", tmp_path / "out.dcm")
    folder = make_folder(tmp_path / "in", 1)
    shutil.copy(tmp_path / "a.png", folder / "a.png")
    (folder / "b.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    with pytest.raises(MediaError, match=r"2 files are not DICOM \(a.png, b.mp4\)"):
        deidentify_folder(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_dicom_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    with pytest.raises(MediaError, match="text.dcm: not a DICOM file"):
        deidentify_file(tmp_path / "text.dcm", tmp_path / "out.dcm")
    report = telling_source()
    del report.PixelData
    with pytest.raises(MediaError, match="no pixel data"):
        deidentify_file(saved(tmp_path / "report.dcm", report), tmp_path / "out.dcm")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no DICOM file in it"):
        deidentify_folder(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(MediaError, match="no such folder"):
        deidentify_folder(tmp_path / "gone", tmp_path / "out")


def test_outputs_that_would_do_harm_are_refused(tmp_path: Path, source: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(OutputError, match="the source itself"):
        deidentify_file(source, source)
    for inside in (source.parent, source.parent / "out"):
        with pytest.raises(OutputError, match="inside the folder that is read"):
            deidentify_folder(source.parent, inside)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "image_00001.dcm").write_bytes(b"old")
    with pytest.raises(OutputError, match="not empty"):
        deidentify_folder(source.parent, tmp_path / "full")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="taken: cannot be written"):
        deidentify_file(source, tmp_path / "taken")
    assert source.read_bytes() == before


def test_errors_and_warnings_quote_no_attribute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = telling_source()
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.PatientBirthDate = "Müller 1950"  # pydicom would log the value that is no date
        made.StudyInstanceUID = "1.02.ID-4711"
        path = saved(tmp_path / "odd.dcm", made)
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        deidentify_file(path, tmp_path / "out.dcm", blackout=[(0, 0, 1, 1)])
    assert not [secret for secret in SECRETS if secret in caplog.text]
    assert all(str(value) not in caplog.text for value in PATIENT.values())


def test_an_attribute_that_cannot_be_copied_leaves_the_file_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message may hold the value, so it is not told."""
    import scripts.io.deidentify as module

    folder, clean, seen = make_folder(tmp_path / "in", 3), module.clean_header, []

    def fails_once(dataset: pydicom.Dataset, mapping: UidMapping) -> None:
        seen.append(dataset)
        if len(seen) == 2:
            raise ValueError(f"Expected total bytes to be even, received {dataset.PatientName!r}")
        clean(dataset, mapping)

    monkeypatch.setattr(module, "clean_header", fails_once)
    result = deidentify_folder(folder, tmp_path / "out")
    assert len(result.written) == 2 and len(result.failed) == 1
    assert "an attribute cannot be copied (ValueError)" in result.failed[0][1]
    assert (tmp_path / "out" / REPORT).is_file()
    assert not [secret for secret in SECRETS if secret in caplog.text]
