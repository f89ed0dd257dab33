"""A DICOM file that cannot be read right says so, with its name, what was found and the cure."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from make_dicom import LOSSY, WRITABLE, make_clip, make_header, pictures, write_dicom, write_video_dicom
from pydicom.pixels import get_decoder
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from scripts.io.dicom_reader import DicomFile
from scripts.io.errors import MediaError

SYNTAXES = [syntax for syntax in WRITABLE if syntax not in LOSSY] + [JPEGBaseline8Bit]


def fails(path: Path, match: str) -> None:
    """Opening or reading any frame raises MediaError with this text, the file's name and nothing about the patient."""
    with pytest.raises(MediaError, match=match) as caught, DicomFile(path) as file:
        for index in range(len(file)):
            file.frame(index)
    assert path.name in str(caught.value)
    assert "SECRET" not in str(caught.value).upper()


def patched(path: Path, element: int, value: bytes) -> Path:
    """Overwrite a short explicit little-endian US element in place."""
    data = path.read_bytes()
    at = data.index(struct.pack("<HH", element >> 16, element & 0xFFFF) + b"US\2\0")
    path.write_bytes(data[: at + 8] + value + data[at + 10 :])
    return path


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_truncated(tmp_path: Path, syntax: UID, share: float) -> None:
    path = write_dicom(
        tmp_path / "half.dcm", np.random.default_rng(0).integers(0, 255, (3, 24, 40, 3), np.uint8), syntax=syntax
    )
    DicomFile(path).frame(2)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    fails(path, "truncated|cannot be read|no pixel data")


def test_decoder_failures_are_not_logged_as_tracebacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures(1, 24, 40), syntax=JPEG2000Lossless)
    fails(patched(path, 0x00280010, struct.pack("<H", 23)), "frame 0 does not decode")
    assert "Traceback" not in caplog.text


def test_truncated_video(tmp_path: Path) -> None:
    path = write_video_dicom(tmp_path / "half.dcm", pictures(6, 48, 64))
    path.write_bytes(path.read_bytes()[:-700])
    fails(path, "truncated")
    whole = make_clip(pictures(6, 48, 64), MPEG4HP41)
    fails(write_video_dicom(tmp_path / "moov.dcm", pictures(6, 48, 64), clip=whole[:600]), r"moov\.dcm")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, RLELossless])
def test_a_damaged_frame_is_named_and_the_others_are_read(tmp_path: Path, syntax: UID) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures(3), syntax=syntax)
    dataset = pydicom.dcmread(path)
    encoded = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=3))
    encoded[1] = encoded[1][: len(encoded[1]) // 8 * 2]
    dataset.PixelData = pydicom.encaps.encapsulate(encoded)
    dataset.save_as(path)
    file = DicomFile(path)
    for index in (0, 2):
        file.frame(index)
    with pytest.raises(MediaError, match=rf"a\.dcm: frame 1 does not decode \(transfer syntax {syntax}"):
        file.frame(1)


def test_no_pixel_data(tmp_path: Path) -> None:
    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        header = make_header((1, 24, 40, 3), "RGB", syntax)
        header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        fails(tmp_path / "a.dcm", r"no pixel data \(storage class VL Endoscopic Image Storage\)")
    header = make_header((1, 24, 40, 3), "RGB", RLELossless)
    header.PixelData = struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE0DD, 0)
    header["PixelData"].VR = "OB"
    header.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    fails(tmp_path / "b.dcm", "without a single fragment")


def test_not_a_picture_at_all(tmp_path: Path) -> None:
    header = make_header((1, 24, 40, 3), "RGB", ExplicitVRLittleEndian)
    for keyword in ("Rows", "Columns", "PhotometricInterpretation"):
        delattr(header, keyword)
    header.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    fails(tmp_path / "report.dcm", "no Rows, Columns, PhotometricInterpretation in the header")


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("wrong", [2, 4, 9])
def test_number_of_frames_that_does_not_fit(tmp_path: Path, syntax: UID, wrong: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures(3), syntax=syntax, NumberOfFrames=wrong)
    fails(path, rf"Number of Frames \(0028,0008\) (is )?{wrong}")


def test_a_single_frame_file_with_two_frames(tmp_path: Path) -> None:
    for syntax in (ExplicitVRLittleEndian, JPEG2000Lossless):
        path = write_dicom(tmp_path / "a.dcm", pictures(2), syntax=syntax, NumberOfFrames=None)
        fails(path, r"Number of Frames \(0028,0008\)")


def test_negative_number_of_frames(tmp_path: Path) -> None:
    fails(write_dicom(tmp_path / "a.dcm", pictures(), NumberOfFrames="-1"), "no number above 0")


def test_padding_after_the_last_frame_is_no_frame(tmp_path: Path) -> None:
    rgb = pictures(2)
    path = write_dicom(tmp_path / "a.dcm", rgb, PixelData=rgb.tobytes() + bytes(100))
    np.testing.assert_array_equal(DicomFile(path).frame(1), rgb[1])


def test_16_bit_colour_and_grey(tmp_path: Path) -> None:
    deep = {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    path = write_dicom(tmp_path / "a.dcm", pictures(), PixelData=bytes(2 * pictures().size), **deep)
    fails(path, "16-bit colour .*expected 8 bits a sample.*8-bit RGB")
    path = write_dicom(tmp_path / "b.dcm", pictures(), photometric="MONOCHROME2", PixelData=bytes(24 * 40 * 2), **deep)
    fails(path, "16-bit grey")
    path = write_dicom(
        tmp_path / "c.dcm", pictures(), PixelData=bytes(2 * pictures().size), BitsAllocated=16, BitsStored=12
    )
    fails(path, "12-bit colour")


def test_8_bits_in_16_allocated(tmp_path: Path) -> None:
    rgb = pictures()
    path = write_dicom(tmp_path / "a.dcm", rgb, PixelData=rgb.astype("<u2").tobytes(), BitsAllocated=16)
    np.testing.assert_array_equal(DicomFile(path).frame(0), rgb[0])


@pytest.mark.parametrize(
    ("elements", "match"),
    [
        ({"PhotometricInterpretation": "CMYK"}, "'CMYK' is not supported"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "3 samples a pixel do not fit"),
        ({"PixelRepresentation": 1}, "signed pixel values"),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}, "holds no palette"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "it is a DICOM Segmentation, not a picture"),
    ],
)
def test_what_is_no_8_bit_picture(tmp_path: Path, elements: dict, match: str) -> None:
    fails(write_dicom(tmp_path / "a.dcm", pictures(), **elements), match)


def test_palette_that_is_too_short(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", pictures(), photometric="PALETTE COLOR", GreenPaletteColorLookupTableData=b"\1\2"
    )
    fails(path, "green table has 2 bytes for 256 colours")


def test_missing_decoder(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = get_decoder(JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})  # as where pylibjpeg-libjpeg and GDCM are not installed
    path = shared_dir / "data/dicom/SC_rgb_jpeg_gdcm.dcm"
    fails(path, r"1\.2\.840\.10008\.1\.2\.4\.70 \(JPEG Lossless.*pip install pylibjpeg pylibjpeg-libjpeg`")


@pytest.mark.parametrize(
    ("syntax", "match"),
    [
        ("1.2.840.10008.1.2.4.110", r"2\.4\.110 \(.*no decoder among the packages"),
        ("1.2.3.4", r"1\.2\.3\.4 \(unknown to pydicom\)"),
    ],
)
def test_transfer_syntaxes_that_nothing_decodes(tmp_path: Path, syntax: str, match: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures(), syntax=JPEG2000Lossless)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
    fails(path, match)


def test_transfer_syntax_that_contradicts_the_pixels(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures(), syntax=JPEG2000Lossless)
    path.write_bytes(path.read_bytes().replace(JPEG2000Lossless.encode(), b"1.2.840.10008.1.2.1\0\0\0"))
    fails(path, "the pixel data are compressed, transfer syntax .* says otherwise")
    path = write_dicom(tmp_path / "b.dcm", pictures())
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    fails(path, "the pixel data are uncompressed")


def test_picture_of_another_size_than_the_header_says(tmp_path: Path) -> None:
    for syntax in (JPEGBaseline8Bit, JPEG2000Lossless):
        path = write_dicom(tmp_path / "a.dcm", pictures(1, 24, 40), syntax=syntax)
        fails(patched(path, 0x00280010, struct.pack("<H", 23)), "frame 0 does not decode")
    path = write_video_dicom(tmp_path / "v.dcm", pictures(6, 48, 64))
    fails(patched(path, 0x00280010, struct.pack("<H", 46)), "frames are 48 x 64 pixels, Rows x Columns 46 x 64")


def test_missing_empty_and_foreign(tmp_path: Path) -> None:
    fails(tmp_path / "gone.dcm", "no such file")
    fails(tmp_path, "found a folder")
    (tmp_path / "empty.dcm").touch()
    fails(tmp_path / "empty.dcm", "the file is empty")
    (tmp_path / "picture.dcm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    fails(tmp_path / "picture.dcm", "not a DICOM file")
    (tmp_path / "zeros.dcm").write_bytes(bytes(128) + b"DICM")
    fails(tmp_path / "zeros.dcm", "in the header: truncated|cannot be read")
    (tmp_path / "noise.dcm").write_bytes(bytes(128) + b"DICM" + np.random.default_rng(1).bytes(2000))
    fails(tmp_path / "noise.dcm", "header")


def test_frame_outside(tmp_path: Path) -> None:
    file = DicomFile(write_dicom(tmp_path / "a.dcm", pictures(3)))
    for index in (-1, 3):
        with pytest.raises(MediaError, match=rf"frame {index} was asked for; the file has frames 0\.\.2"):
            file.frame(index)


@pytest.mark.parametrize(
    ("element", "match"),
    [
        (b"\x28\0\x00\x01US\2\0", "BitsAllocated in the DICOM header is damaged"),
        (b"\x28\0\x11\0US\2\0", "Columns in the DICOM header is damaged"),
    ],
)
def test_damaged_header_elements(tmp_path: Path, element: bytes, match: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures())
    data = path.read_bytes()
    assert data.count(element) == 1
    path.write_bytes(data.replace(element, element[:4] + b"U\xe6\2\0"))  # a value representation that does not exist
    fails(path, match)


def test_two_numbers_of_rows(tmp_path: Path) -> None:
    fails(write_dicom(tmp_path / "a.dcm", pictures(), Rows=[24, 24]), "Rows in the DICOM header is no whole number")


def test_random_damage_is_a_media_error_or_a_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Bytes of header and pixels overwritten at random: no error of another type, nothing about the patient in logs."""
    random = np.random.default_rng(0)
    refused = 0
    for syntax, photometric in ((ExplicitVRLittleEndian, "PALETTE COLOR"), (RLELossless, "RGB")):
        path = write_dicom(tmp_path / "a.dcm", pictures(2), photometric=photometric, syntax=syntax)
        whole = path.read_bytes()
        for _ in range(100):
            data = bytearray(whole)
            for position in random.integers(132, 1400, 3):
                data[position] = random.integers(256)
            path.write_bytes(data)
            try:
                with DicomFile(path) as file:
                    assert file.frame(0).shape == (file.height, file.width, 3)
            except MediaError as error:
                refused += 1
                assert "SECRET" not in str(error).upper()
    assert 20 < refused < 200
    assert not [
        text for text in [caplog.text, *(str(warning.message) for warning in recwarn)] if "ecret" in text.lower()
    ]


def test_memory_is_that_of_a_frame(tmp_path: Path) -> None:
    import tracemalloc

    rgb = np.zeros((40, 200, 200, 3), np.uint8)  # 4.8 MB, 0.12 MB a frame
    for syntax in (ExplicitVRLittleEndian, RLELossless):
        path = write_dicom(tmp_path / "a.dcm", rgb, syntax=syntax)
        tracemalloc.start()
        with DicomFile(path) as file:
            for index in range(len(file)):
                file.frame(index)
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
        tracemalloc.stop()
