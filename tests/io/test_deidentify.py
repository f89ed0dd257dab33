"""De-identification: nothing of the patient is left in the header, and nothing is claimed about the pixels."""

from __future__ import annotations

import csv
import io
import logging
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_sources import PATIENT, make_source
from make_dicom import pictures, write_video_dicom
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import iter_pixels
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    VideoEndoscopicImageStorage,
    VLEndoscopicImageStorage,
)

from scripts.io.deidentify import REPORT, deidentify_file, deidentify_folder
from scripts.io.deidentify_tags import UidMapping
from scripts.io.dicom_reader import DicomFile
from scripts.io.errors import MediaError
from scripts.io.writers import OutputError

SECRETS = ("Müller", "ID-4711", "19500203", "Weiß", "A-12", "20240506", "Klinikum", "Oberarzt", "Schwester", "PRIVAT")


def telling_source(pixels: np.ndarray | None = None, **kwargs: object) -> pydicom.FileDataset:
    """A source that says who the patient is wherever one may say it."""
    source = make_source(pixels, **kwargs)
    source.InstitutionName = "Klinikum Nord"
    source.OperatorsName = "Oberarzt^Otto"
    source.ImageComments = "Müller, geb. 19500203"
    request = Dataset()  # a sequence that the profile removes
    request.RequestedProcedureDescription = "Klinikum: Müller"
    source.RequestAttributesSequence = [request]
    kept = Dataset()  # one that it keeps, with a name inside it
    kept.ReferencedSOPInstanceUID, kept.ReferencedSOPClassUID = source.SOPInstanceUID, VLEndoscopicImageStorage
    kept.PersonName = "Schwester^Sara"
    kept.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "PRIVAT innen")
    source.ReferencedInstanceSequence = [kept]
    source.private_block(0x0013, "MAKER", create=True).add_new(1, "LO", "PRIVAT Müller")
    source.add_new(0x60003000, "OW", b"PRIVAT overlay.")
    source.add_new(0x60000022, "LO", "PRIVAT overlay text")
    return source


def saved(path: Path, source: pydicom.FileDataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source.save_as(path, enforce_file_format=True)
    return path


def told(path: Path) -> list[str]:
    """Which secrets the bytes of a file hold, in Latin-1 or UTF-8."""
    data = path.read_bytes()
    return [s for s in SECRETS if s.encode("latin-1") in data or s.encode() in data]


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


# Pixels


def fill(frames: np.ndarray, rectangle: tuple[int, int, int, int]) -> np.ndarray:
    x, y, width, height = rectangle
    filled = frames.copy()
    filled[:, y : y + height, x : x + width] = 0
    return filled


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, shape, np.uint8)  # nothing is black


def compress(source: pydicom.FileDataset, frames: np.ndarray, syntax: UID) -> None:
    """Without loss, so that the pixels stay."""
    if syntax == RLELossless:
        source.compress(RLELossless, encoding_plugin="pydicom")
    if syntax == JPEG2000Lossless:
        encoded = []
        for frame in frames:
            stream = io.BytesIO()
            # no_jp2: the code stream alone, as DICOM wants it; mct=0: no colour transform
            Image.fromarray(frame).save(stream, "JPEG2000", no_jp2=True, num_resolutions=1, mct=0)
            encoded.append(stream.getvalue() + b"\0" * (len(stream.getvalue()) % 2))
        source.PixelData = encapsulate(encoded)
        source["PixelData"].is_undefined_length = True
        source.file_meta.TransferSyntaxUID = JPEG2000Lossless


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("colour", [True, False])
def test_rectangles_are_black_in_all_frames_and_the_rest_is_unchanged(
    tmp_path: Path, colour: bool, syntax: UID
) -> None:
    frames = noise((3, 10, 12, 3) if colour else (3, 10, 12))
    made = telling_source(frames, sop_class=VideoEndoscopicImageStorage)
    compress(made, frames, syntax)
    rectangles = [(0, 0, 5, 2), (10, 7, 2, 3)]
    done = deidentify_file(saved(tmp_path / "a.dcm", made), tmp_path / "b.dcm", blackout=rectangles)
    assert done.rectangles == tuple(rectangles) and (done.frames, done.rows, done.columns) == (3, 10, 12)
    new = dcmread(tmp_path / "b.dcm")
    expected = fill(fill(frames, rectangles[0]), rectangles[1])
    np.testing.assert_array_equal(np.stack(list(iter_pixels(new))), expected)
    assert new.file_meta.TransferSyntaxUID == (syntax if syntax == ExplicitVRLittleEndian else RLELossless)
    assert told(tmp_path / "b.dcm") == [] and new.BurnedInAnnotation == "YES"


def test_black_is_black_for_ybr_and_palette(tmp_path: Path) -> None:
    ybr = telling_source(np.full((1, 4, 6, 3), 128, np.uint8), photometric="YBR_FULL")  # a grey of 128
    deidentify_file(saved(tmp_path / "ybr.dcm", ybr), tmp_path / "ybr_out.dcm", blackout=[(1, 1, 2, 2)])
    new = dcmread(tmp_path / "ybr_out.dcm")
    assert new.PhotometricInterpretation == "RGB"
    np.testing.assert_array_equal(new.pixel_array, fill(np.full((1, 4, 6, 3), 128, np.uint8), (1, 1, 2, 2))[0])

    palette = telling_source(np.zeros((1, 4, 6), np.uint8))  # index 0 is white, index 1 black
    palette.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(palette, f"{colour}PaletteColorLookupTableData", np.array([65535, 0], "<u2").tobytes())
    deidentify_file(saved(tmp_path / "pal.dcm", palette), tmp_path / "pal_out.dcm", blackout=[(1, 1, 2, 2)])
    new = dcmread(tmp_path / "pal_out.dcm")
    assert "RedPaletteColorLookupTableData" not in new
    np.testing.assert_array_equal(new.pixel_array, fill(np.full((1, 4, 6, 3), 255, np.uint8), (1, 1, 2, 2))[0])


def test_black_is_black_where_zero_means_white(tmp_path: Path) -> None:
    inverted = telling_source(np.zeros((1, 4, 6), np.uint8))
    inverted.PhotometricInterpretation = "MONOCHROME1"
    deidentify_file(saved(tmp_path / "a.dcm", inverted), tmp_path / "b.dcm", blackout=[(1, 1, 2, 2)])
    new = dcmread(tmp_path / "b.dcm")
    assert new.PhotometricInterpretation == "MONOCHROME2"
    np.testing.assert_array_equal(new.pixel_array, fill(np.full((1, 4, 6), 255, np.uint8), (1, 1, 2, 2))[0])


def test_an_encapsulated_video_keeps_its_stream_and_is_not_blacked_out(tmp_path: Path) -> None:
    write_video_dicom(tmp_path / "a.dcm", pictures(5, 32, 48))
    before = dcmread(tmp_path / "a.dcm")
    done = deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm")
    after = dcmread(tmp_path / "b.dcm")
    assert after.PixelData == before.PixelData and after.SOPInstanceUID != before.SOPInstanceUID
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
    assert done.frames == len(DicomFile(tmp_path / "b.dcm")) == 5
    with pytest.raises(MediaError, match="a.dcm: regions of an encapsulated video cannot be blacked out"):
        deidentify_file(tmp_path / "a.dcm", tmp_path / "c.dcm", blackout=[(0, 0, 2, 2)])
    assert not (tmp_path / "c.dcm").exists()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("blackout", [[], [(0, 0, 2, 2)]])
def test_other_encodings_of_the_header(tmp_path: Path, syntax: UID, blackout: list) -> None:
    frames = noise((1, 6, 8, 3))
    made = telling_source(frames)
    plain = Dataset()
    plain.update(made)
    plain.file_meta = made.file_meta
    plain.file_meta.TransferSyntaxUID = syntax
    plain.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    deidentify_file(tmp_path / "a.dcm", tmp_path / "b.dcm", blackout=blackout)
    new = dcmread(tmp_path / "b.dcm")
    assert (new.Rows, new.Columns, new.SamplesPerPixel) == (6, 8, 3)
    expected = fill(frames, blackout[0])[0] if blackout else frames[0]
    np.testing.assert_array_equal(new.pixel_array, expected)
    assert told(tmp_path / "b.dcm") == []


def test_the_copy_is_no_worse_by_dciodvfy(tmp_path: Path, shared_dir: Path) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")

    def errors(path: Path) -> set[str]:
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        return {line for line in said.stderr.splitlines() if "Error" in line}

    for name in ("dwv_nema-vl2_j2kr.dcm", "examples_ybr_color.dcm", "examples_palette.dcm"):
        original = shared_dir / "data" / "dicom" / name
        for blackout in ([], [(0, 0, 40, 20)]):
            deidentify_file(original, tmp_path / name, blackout=blackout)
            assert errors(tmp_path / name) <= errors(original), name


def test_real_gastroscopy_frame(tmp_path: Path, shared_dir: Path) -> None:
    original = shared_dir / "data" / "dicom" / "dwv_nema-vl2_j2kr.dcm"
    before = dcmread(original)
    deidentify_file(original, tmp_path / "out.dcm", blackout=[(0, 0, 250, 486)])
    after = dcmread(tmp_path / "out.dcm")
    assert not after.pixel_array[:, :250].any()
    np.testing.assert_array_equal(after.pixel_array[:, 250:], before.pixel_array[:, 250:])
    data = (tmp_path / "out.dcm").read_bytes()
    for keyword in ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "StudyDate", "StudyID", "StudyDescription"):
        assert str(before[keyword].value).encode() not in data, keyword


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
