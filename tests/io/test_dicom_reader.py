"""Every storage class, transfer syntax and photometric interpretation gives the colours that went in."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from make_dicom import (
    LOSSY,
    SOP_CLASSES,
    VIDEO,
    WRITABLE,
    add_palette,
    make_clip,
    make_header,
    pictures,
    write_dicom,
    write_video_dicom,
)
from PIL import Image
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from scripts.io.dicom_reader import DicomFile
from scripts.io.errors import MediaError

KINDS = [
    (syntax, photometric, planar)
    for syntax, kinds in WRITABLE.items()
    for photometric in kinds
    for planar in ((0, 1) if not syntax.is_encapsulated and photometric in ("RGB", "YBR_FULL") else (0,))
]


def pydicom_rgb(path: Path) -> np.ndarray:
    """What pydicom itself makes of a file, (N, H, W, 3) uint8."""
    dataset = pydicom.dcmread(path)
    plugin = {"decoding_plugin": "pillow"} if dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit else {}
    values = pixel_array(dataset, **plugin)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        values = (values / 257).round().astype(np.uint8) if values.dtype == np.uint16 else values
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = 255 - values
    if dataset.SamplesPerPixel == 1 and dataset.PhotometricInterpretation != "PALETTE COLOR":
        values = np.stack([values] * 3, axis=-1)
    return values.reshape(-1, *values.shape[-3:])


def expected_rgb(frames: np.ndarray, photometric: str) -> np.ndarray:
    """What a reader should show of RGB frames written by write_dicom."""
    red = frames[..., 0]
    if photometric == "PALETTE COLOR":
        return add_palette(make_header(red.shape, photometric, ExplicitVRLittleEndian))[red]
    if photometric.startswith("MONOCHROME"):
        return np.stack([255 - red if photometric == "MONOCHROME1" else red] * 3, axis=-1)
    return frames


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize(("syntax", "photometric", "planar"), KINDS)
def test_every_kind(tmp_path: Path, syntax: UID, photometric: str, planar: int, frames: int) -> None:
    rgb = pictures(frames, 24, 40)
    path = write_dicom(tmp_path / "a b ü.dcm", rgb, photometric=photometric, syntax=syntax, planar=planar)
    with DicomFile(path) as file:
        assert (len(file), file.height, file.width, file.is_video) == (frames, 24, 40, False)
        assert (file.transfer_syntax, file.photometric) == (syntax, photometric)
        found = np.stack([file.frame(index) for index in range(frames)])
    assert found.dtype == np.uint8
    if syntax != ExplicitVRBigEndian or photometric not in ("PALETTE COLOR",):  # pydicom takes its palette for little
        assert difference(found, pydicom_rgb(path)) <= 2
    lossy = 12 if syntax in LOSSY else 3 if photometric.startswith("YBR_FULL") else 0
    if photometric == "YBR_FULL_422":
        lossy = 20  # colours of two neighbours are one
    assert difference(found, expected_rgb(rgb, photometric)) <= lossy


@pytest.mark.parametrize("name", SOP_CLASSES)
def test_every_storage_class(tmp_path: Path, name: str) -> None:
    grey = "Grayscale" in name
    photometric = "MONOCHROME2" if grey else "RGB"
    rgb = pictures(2 if "Multi" in name or "Video" in name else 1)
    path = write_dicom(tmp_path / "a.dcm", rgb, photometric=photometric, sop_class=SOP_CLASSES[name][0])
    file = DicomFile(path)
    assert file.sop_class_uid == SOP_CLASSES[name][0]
    assert difference(file.frame(len(rgb) - 1), expected_rgb(rgb, photometric)[-1]) == 0


@pytest.mark.parametrize("syntax", VIDEO)
@pytest.mark.parametrize("fragments", [1, 3])
def test_video(tmp_path: Path, syntax: UID, fragments: int) -> None:
    frames = np.stack([np.full((48, 64, 3), (20 * number + 20, 100, 200 - 20 * number)) for number in range(8)])
    path = write_video_dicom(tmp_path / "a.dcm", frames.astype(np.uint8), syntax=syntax, fragments=fragments)
    with DicomFile(path) as file:
        assert (len(file), file.height, file.width, file.is_video) == (8, 48, 64, True)
        assert file.fps == pytest.approx(25)
        assert file.time(5) == pytest.approx(0.2)
        for index in (5, 0, 1, 7):
            assert difference(file.frame(index).mean((0, 1)), frames[index, 0, 0]) <= 4
    assert file._stream.closed


def test_video_of_oblong_pixels_keeps_rows_and_columns(tmp_path: Path) -> None:
    frames = np.full((4, 48, 64, 3), 128, np.uint8)
    frames[:, :, 32:] = 20
    clip = make_clip(frames, MPEG4HP41, aspect=(4, 3))
    frame = DicomFile(write_video_dicom(tmp_path / "a.dcm", frames, clip=clip)).frame(0)
    assert difference(frame, frames[0]) < 110  # between the halves, where the video was stretched and shrunk again
    assert difference(frame[:, [0, 29, 35, 63]], frames[0][:, [0, 29, 35, 63]]) <= 6


def test_video_with_another_number_of_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = pictures(6, 48, 64)
    file = DicomFile(write_video_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=7))
    assert len(file) == 6 and "Number of Frames is 7, the video has 6" in caplog.text
    for wrong in (9, 2):
        path = write_video_dicom(tmp_path / "b.dcm", frames, NumberOfFrames=wrong)
        with pytest.raises(MediaError, match=rf"b\.dcm: Number of Frames .* is {wrong}, the video in it has 6"):
            DicomFile(path)


@pytest.mark.parametrize(
    ("elements", "times", "shown_at"),
    [
        # 3 frames of 50 ms, whatever the rate that they are to be shown at
        ({"FrameTime": "50", "CineRate": "30", "RecommendedDisplayFrameRate": "12"}, [0, 0.05, 0.1], 12),
        ({"FrameTime": "50", "CineRate": "30"}, [0, 0.05, 0.1], 30),
        ({"FrameTime": "50", "CineRate": "0"}, [0, 0.05, 0.1], None),
        ({"FrameTime": None, "CineRate": "20", "RecommendedDisplayFrameRate": "10"}, [0, 0.05, 0.1], 10),
        ({"FrameTime": None, "RecommendedDisplayFrameRate": "10"}, [0, 0.1, 0.2], 10),
        ({"FrameTime": None}, None, None),
        # milliseconds from frame to frame: 0, 40, 40 + 260
        ({"FrameTime": None, "FrameTimeVector": [0, 40, 260]}, [0, 0.04, 0.3], None),
        ({"FrameTimeVector": [0, 40, 260], "FrameIncrementPointer": 0x00181065}, [0, 0.04, 0.3], None),
        ({"FrameTimeVector": [0, 40, 260], "FrameIncrementPointer": [0x00540080, 0x00181065]}, [0, 0.04, 0.3], None),
        ({"FrameTimeVector": [0, 40, 260], "FrameIncrementPointer": 0x00181063}, [0, 0.04, 0.08], None),
        ({"FrameTimeVector": [0, 0, 0], "FrameIncrementPointer": 0x00181065}, [0, 0.04, 0.08], None),
        ({"FrameTime": None, "FrameTimeVector": [0, -40, 100], "CineRate": "20"}, [0, 0.05, 0.1], 20),
        # of another number of frames: their mean
        ({"FrameTime": None, "FrameTimeVector": [0, 40, 60, 50, 50]}, [0, 0.05, 0.1], None),
    ],
)
def test_times_of_frames(tmp_path: Path, elements: dict, times: list[float] | None, shown_at: float | None) -> None:
    file = DicomFile(write_dicom(tmp_path / "a.dcm", pictures(3), **elements))
    found = [file.time(index) for index in range(3)]
    assert found == ([None] * 3 if times is None else pytest.approx(times))
    assert file.fps == (None if times is None else pytest.approx(2 / times[-1]))
    assert file.display_fps == shown_at


@pytest.mark.parametrize("table", ["none", "basic", "extended", "wrong"])
def test_frames_in_several_fragments(tmp_path: Path, table: str, caplog: pytest.LogCaptureFixture) -> None:
    rgb = pictures(3)
    source = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", rgb, syntax=JPEG2000Lossless))
    encoded = list(pydicom.encaps.generate_frames(source.PixelData, number_of_frames=3))
    data = encapsulate(encoded, fragments_per_frame=2, has_bot=table in ("basic", "wrong"))
    if table == "wrong":
        data = data[:12] + (6).to_bytes(4, "little") + data[16:]
    if table == "extended":
        data, source.ExtendedOffsetTable, source.ExtendedOffsetTableLengths = encapsulate_extended(encoded)
    source.PixelData = data
    source.save_as(tmp_path / "b.dcm")
    with DicomFile(tmp_path / "b.dcm") as file:
        for index in (2, 0, 1):
            np.testing.assert_array_equal(file.frame(index), rgb[index])
    assert ("offset table of the pixel data is wrong" in caplog.text) == (table == "wrong")


@pytest.mark.parametrize(
    ("photometric", "stored", "marker"),
    [
        ("RGB", "RGB", "none"),
        ("YBR_FULL_422", "YCbCr", "none"),
        *((photometric, "YCbCr", "JFIF") for photometric in ("RGB", "YBR_FULL_422")),
        *((photometric, stored, "Adobe") for photometric in ("RGB", "YBR_FULL_422") for stored in ("RGB", "YCbCr")),
    ],
)
def test_jpeg_colour_spaces(tmp_path: Path, photometric: str, stored: str, marker: str) -> None:
    """JPEG markers tell the colour space; where there are none, and ids are 1, 2, 3, the header does."""
    rgb = np.zeros((32, 48, 3), np.uint8)
    rgb[:16], rgb[16:] = (200, 60, 30), (20, 180, 90)
    jpeg = without_markers(rgb, stored, renumber=marker == "none")
    if marker == "JFIF":
        jpeg = jpeg[:2] + b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + jpeg[2:]
    if marker == "Adobe":
        jpeg = jpeg[:2] + b"\xff\xee\x00\x0eAdobe\0d\0\0\0\0" + bytes([stored == "YCbCr"]) + jpeg[2:]
    dataset = make_header((1, 32, 48, 3), photometric, JPEGBaseline8Bit)
    dataset.PixelData = encapsulate([jpeg])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert difference(DicomFile(tmp_path / "a.dcm").frame(0), rgb) <= 2


def without_markers(rgb: np.ndarray, stored: str, renumber: bool) -> bytes:
    """A JPEG without JFIF and Adobe markers; `renumber` calls its components 1, 2, 3 even if they are R, G, B."""
    target = io.BytesIO()
    Image.fromarray(rgb).save(target, "JPEG", quality=98, subsampling=0, keep_rgb=stored == "RGB")
    data, position = bytearray(target.getvalue()), 2
    while data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big") + 2
        if data[position + 1] in (0xE0, 0xEE):
            del data[position : position + length]
            continue
        if data[position + 1] == 0xC0 and renumber:
            data[position + 10 : position + 19 : 3] = b"\1\2\3"
        position += length
    if renumber:
        data[position + 5 : position + 11 : 2] = b"\1\2\3"
    return bytes(data)


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(tmp_path: Path, bits: int, little_endian: bool) -> None:
    syntax = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    dataset = make_header((1, 16, 16), "PALETTE COLOR", syntax)
    colours = add_palette(dataset, bits, little_endian)
    order = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dataset.PixelData = order.tobytes() if little_endian else order.view(">u2").astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(DicomFile(tmp_path / "a.dcm").frame(0), colours[order])


def test_palette_that_begins_late_and_ends_early(tmp_path: Path) -> None:
    dataset = make_header((1, 1, 4), "PALETTE COLOR", ExplicitVRLittleEndian)
    for name, values in (("Red", b"\x0a\x14\x1e\0"), ("Green", b"\x0b\x15\x1f\0"), ("Blue", b"\x0c\x16\x20\0")):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [3, 100, 8])
        setattr(dataset, f"{name}PaletteColorLookupTableData", values)
    dataset.PixelData = bytes([0, 100, 101, 255])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert DicomFile(tmp_path / "a.dcm").frame(0).tolist() == [[[10, 11, 12], [10, 11, 12], [20, 21, 22], [30, 31, 32]]]


def test_odd_sizes_of_big_endian_words(tmp_path: Path) -> None:
    rgb = pictures(3, 5, 7)  # 105 bytes a frame: frames begin inside a word
    file = DicomFile(write_dicom(tmp_path / "a.dcm", rgb, syntax=ExplicitVRBigEndian))
    for index in (1, 0, 2):
        np.testing.assert_array_equal(file.frame(index), rgb[index])


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_without_preamble_and_file_meta(tmp_path: Path, syntax: UID) -> None:
    rgb = pictures(2)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", rgb, syntax=syntax))
    del dataset.file_meta, dataset.preamble
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    dataset.save_as(tmp_path / "b", enforce_file_format=False, implicit_vr=implicit, little_endian=little)
    assert b"DICM" not in (tmp_path / "b").read_bytes()[:200]
    file = DicomFile(tmp_path / "b")
    assert file.transfer_syntax == syntax
    np.testing.assert_array_equal(file.frame(1), rgb[1])


def test_header_is_whole_and_without_pixels(tmp_path: Path) -> None:
    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless):
        file = DicomFile(write_dicom(tmp_path / "a.dcm", pictures(), syntax=syntax))
        assert file.dataset.PatientID == "SECRET-ID" and "PixelData" not in file.dataset
        assert deepcopy(file.dataset).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("name", sorted(path.name for path in Path(__file__).parents[2].glob("../shared/data/dicom/*")))
def test_real_files(shared_dir: Path, name: str) -> None:
    path = shared_dir / "data/dicom" / name
    syntax = pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
    if not get_decoder(syntax).is_available:  # JPEG lossless: its decoder is not among the required packages
        with pytest.raises(MediaError, match=rf"{name}: transfer syntax {syntax}.*pip install"):
            DicomFile(path)
        return
    with DicomFile(path) as file:
        found = np.stack([file.frame(index) for index in range(len(file))])
    assert difference(found, pydicom_rgb(path)) <= 2
