"""De-identification of pixels: rectangles are black in every frame, and nothing else is changed."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
from make_dicom import pictures, write_video_dicom
from make_video import make_clip
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
    JPEGBaseline8Bit,
    RLELossless,
    VideoEndoscopicImageStorage,
)
from telling_sources import saved, telling_source, told

from scripts.io.deidentify import deidentify_file
from scripts.io.dicom_reader import DicomFile
from scripts.io.errors import MediaError


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


@pytest.mark.parametrize(
    ("before", "after"),
    [("ORIGINAL", ["DERIVED"]), (["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"]), ("", [])],
)
def test_a_picture_that_was_painted_over_is_derived(tmp_path: Path, before: str | list[str], after: list[str]) -> None:
    made = telling_source()
    made.ImageType = before
    deidentify_file(saved(tmp_path / "a.dcm", made), tmp_path / "b.dcm", blackout=[(0, 0, 2, 2)])
    found = dcmread(tmp_path / "b.dcm").ImageType
    assert ([found] if isinstance(found, str) and found else list(found or [])) == after


def test_black_is_black_where_zero_means_white(tmp_path: Path) -> None:
    inverted = telling_source(np.zeros((1, 4, 6), np.uint8))
    inverted.PhotometricInterpretation = "MONOCHROME1"
    deidentify_file(saved(tmp_path / "a.dcm", inverted), tmp_path / "b.dcm", blackout=[(1, 1, 2, 2)])
    new = dcmread(tmp_path / "b.dcm")
    assert new.PhotometricInterpretation == "MONOCHROME2"
    np.testing.assert_array_equal(new.pixel_array, fill(np.full((1, 4, 6), 255, np.uint8), (1, 1, 2, 2))[0])


def test_a_video_s_container_is_not_searched_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_clip(tmp_path / "plain.mp4", 5, audio=True)
    with av.open(str(tmp_path / "plain.mp4")) as plain, av.open(str(tmp_path / "told.mp4"), "w") as told_by:
        told_by.metadata["title"] = "Müller"
        streams = {stream.index: told_by.add_stream_from_template(stream) for stream in plain.streams}
        for packet in plain.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                told_by.mux(packet)
    clip = (tmp_path / "told.mp4").read_bytes()
    source = write_video_dicom(tmp_path / "a.dcm", pictures(5, 64, 96), clip=clip)
    deidentify_file(source, tmp_path / "b.dcm", pixels_checked=True)
    assert "Müller".encode() in (tmp_path / "b.dcm").read_bytes(), "the reason for the warning"
    assert "b.dcm: a video stream, copied as it is" in caplog.text and "Müller" not in caplog.text


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


def test_what_a_camera_wrote_into_a_jpeg_goes_and_pixels_stay(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 255, (2, 16, 24, 3), np.uint8)
    exif = Image.Exif()
    exif[0x9003], exif[0x013B] = "2024:05:06 10:00:00", "Oberarzt Otto"  # when, and by whom
    frames = []
    for frame in random:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=90, exif=exif, comment=b"PRIVAT Klinikum")
        frames.append(stream.getvalue() + b"\0" * (len(stream.getvalue()) % 2))
    source = telling_source(random)
    source.PhotometricInterpretation, source.NumberOfFrames = "YBR_FULL_422", 2
    source.PixelData = encapsulate(frames)
    source["PixelData"].is_undefined_length = True
    source.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    path = saved(tmp_path / "camera.dcm", source)
    assert {"Oberarzt", "Klinikum", "PRIVAT"} <= set(told(path))
    deidentify_file(path, tmp_path / "out.dcm")
    assert told(tmp_path / "out.dcm") == [] and b"2024:05:06" not in (tmp_path / "out.dcm").read_bytes()
    with DicomFile(path) as old, DicomFile(tmp_path / "out.dcm") as new:
        for index in range(2):
            np.testing.assert_array_equal(old.frame(index), new.frame(index))
    damaged = telling_source(random)
    damaged.update(source)
    damaged.file_meta = source.file_meta
    damaged.PixelData = encapsulate([frames[0][:200], frames[1]])
    damaged["PixelData"].is_undefined_length = True
    with pytest.raises(MediaError, match="nobody can tell what it holds beside its pixels"):
        deidentify_file(saved(tmp_path / "damaged.dcm", damaged), tmp_path / "none.dcm")
    assert not (tmp_path / "none.dcm").exists()


def test_a_negative_is_shown_as_what_it_became(tmp_path: Path) -> None:
    inverted = telling_source(np.zeros((1, 4, 6), np.uint8))
    inverted.PhotometricInterpretation, inverted.PresentationLUTShape = "MONOCHROME1", "INVERSE"
    inverted.WindowCenter, inverted.WindowWidth = 60, 30
    deidentify_file(saved(tmp_path / "a.dcm", inverted), tmp_path / "b.dcm", blackout=[(1, 1, 2, 2)])
    new = dcmread(tmp_path / "b.dcm")
    assert not [name for name in ("PresentationLUTShape", "WindowCenter", "WindowWidth") if name in new]
