"""Every kind of picture comes out upright RGB; everything else is refused with a cure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image, ImageFile

from scripts.io.errors import MediaError, media_kind
from scripts.io.image_reader import RGBReader, read_rgb

# 2 rows, 3 columns, no two pixels alike: any flip, turn or channel swap shows
RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)
GREY = np.array([[0, 100, 200], [50, 150, 255]], np.uint8)


def blocks(scale: int = 16) -> np.ndarray:
    """RGB enlarged so that lossy formats keep each block's centre, (32, 48, 3)."""
    return RGB.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_lossless_formats_are_exact(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, lossless=True)
    assert read_rgb(path).dtype == np.uint8
    np.testing.assert_array_equal(read_rgb(path), RGB)


def test_jpeg_keeps_colours(tmp_path: Path) -> None:
    Image.fromarray(blocks()).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    assert np.abs(read_rgb(tmp_path / "a.jpg")[8::16, 8::16].astype(int) - RGB).max() <= 6


def test_grey_is_repeated(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.stack([GREY] * 3, 2))


def test_bilevel_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_by_257(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 257 * 100], [257 * 254 + 128, 257 * 254 + 129, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert read_rgb(tmp_path / f"a.{suffix}")[..., 1].tolist() == [[0, 1, 100], [254, 255, 255]]


def test_8_bit_values_in_a_16_bit_file_stay(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png")[..., 0], GREY)


def test_12_bit_values_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").max() == 16
    assert "12-bit" in caplog.text


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    alpha = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "rgba.png"), RGB)
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "la.png"), np.stack([GREY] * 3, 2))


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 255, 128])])
@pytest.mark.filterwarnings("error")
def test_palette_is_looked_up(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode=None)
    image = image.convert("L")
    image.putpalette([9, 8, 7, 60, 50, 40, 255, 0, 1])
    image.save(tmp_path / "a.png", **({} if transparency is None else {"transparency": transparency}))
    assert read_rgb(tmp_path / "a.png").tolist() == [[[9, 8, 7], [60, 50, 40], [255, 0, 1]]]


def test_cmyk(tmp_path: Path) -> None:
    # pure cyan, magenta, yellow, black ink in blocks; TIFF is exact, JPEG stores CMYK inverted and lossily
    ink = (
        np.array([[[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]], np.uint8)
        .repeat(16, 0)
        .repeat(16, 1)
    )
    for name in ("a.tif", "a.jpg"):
        Image.fromarray(ink, mode="CMYK").save(tmp_path / name)
        found = read_rgb(tmp_path / name)[8, 8::16].astype(int)
        assert np.abs(found - [[0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0]]).max() <= 8


# EXIF's eight orientations: what a viewer must do to the stored array to see it upright
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    np.testing.assert_array_equal(read_rgb(tmp_path / f"a.{suffix}"), UPRIGHT[orientation](RGB))


def test_exif_orientation_of_jpeg(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(blocks()).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    found = read_rgb(tmp_path / "a.jpg")
    assert found.shape == (48, 32, 3)
    assert np.abs(found[8::16, 8::16].astype(int) - np.rot90(RGB, -1)).max() <= 6


def test_reader_in_monai(tmp_path: Path) -> None:
    path = str(tmp_path / "a.png")
    Image.fromarray(RGB).save(path)
    item = Compose([LoadImaged("image", reader=RGBReader), EnsureChannelFirstd("image")])({"image": path})["image"]
    assert item.shape == (3, 2, 3)
    np.testing.assert_array_equal(item.numpy(), RGB.transpose(2, 0, 1))
    assert torch.equal(item.affine, torch.eye(4, dtype=item.affine.dtype))
    assert item.meta["filename_or_obj"] == path
    assert list(item.meta["spatial_shape"]) == [2, 3]
    assert LoadImaged("image", reader=RGBReader)({"image": path})["image"].meta["original_channel_dim"] == -1


def test_reader_by_name_as_in_a_config(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    load = LoadImaged("image", reader="scripts.io.image_reader.RGBReader", ensure_channel_first=True)
    assert load({"image": str(tmp_path / "a.png")})["image"].shape == (3, 2, 3)


def test_monai_does_not_fall_back_to_its_own_readers(shared_dir: Path) -> None:
    load = LoadImaged("image", reader=RGBReader)
    assert load({"image": str(shared_dir / "data/dicom/SC_rgb.dcm")})["image"].shape == (100, 100, 3)
    with pytest.raises(MediaError, match="SC_rgb_jpeg_gdcm"):  # MONAI's ITKReader might open it
        load({"image": str(shared_dir / "data/dicom/SC_rgb_jpeg_gdcm.dcm")})


def test_reader_refuses_several_files() -> None:
    reader = RGBReader()
    with pytest.raises(MediaError, match="2 files"):
        reader.get_data(reader.read(["a.png", "b.png"]))


def test_verify_suffix() -> None:
    assert RGBReader().verify_suffix(["a.PNG", "b.jpeg"])
    assert not RGBReader().verify_suffix(["a.png", "b.txt"])


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.png: no such file"):
        read_rgb(tmp_path / "gone.png")
    with pytest.raises(MediaError, match="found a folder"):
        read_rgb(tmp_path)
    (tmp_path / "empty.png").touch()
    with pytest.raises(MediaError, match=r"empty\.png: the file is empty"):
        read_rgb(tmp_path / "empty.png")


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, share: float, tolerant: bool) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)  # as some libraries do on import
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(noise).save(path)
    read_rgb(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaError, match=rf"half\.{suffix}"):
        read_rgb(path)


def test_damaged_png(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[2000:2010] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(MediaError, match="truncated or damaged"):
        read_rgb(path)


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>404</html>")
    with pytest.raises(MediaError, match=r"page\.png: not an image"):
        read_rgb(tmp_path / "page.png")
    (tmp_path / "lfs.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(MediaError, match="git lfs pull"):
        read_rgb(tmp_path / "lfs.png")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypisom", "video"),
        (b"\0\0\0\x20ftypheic", "HEIF"),
        (b"\0\0\0\x08wide", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"RIFF\0\0\0\0WEBPVP8 ", None),
        (b"\x1aE\xdf\xa3", "video"),
        (b"\0\0\x01\xba", "video"),
        (b"FLV\x01", "video"),
        (b"\x30\x26\xb2\x75", "video"),
        ((b"\x47" + bytes(187)) * 2, "video"),
        (b"GGG" + bytes(300), None),
        (bytes(128) + b"DICM", "DICOM"),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"", None),
    ],
)
def test_media_kind(head: bytes, kind: str | None) -> None:
    assert media_kind(head) == kind


def test_video_named_png(tmp_path: Path, shared_dir: Path) -> None:
    path = tmp_path / "clip.png"
    path.write_bytes((shared_dir / "data/video/nasal/nasal_04.mp4").read_bytes())
    with pytest.raises(MediaError, match=r"clip\.png: it is a video.*ffmpeg"):
        read_rgb(path)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    for name in ("a.tif", "a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(MediaError, match="2 frames"):
            read_rgb(tmp_path / name)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5]], np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="save it as 8-bit"):
        read_rgb(tmp_path / "a.tif")


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="scale the picture down"):
        read_rgb(tmp_path / "a.png")


def test_photograph_with_preview(tmp_path: Path) -> None:
    photograph, preview = Image.fromarray(blocks()), Image.fromarray(blocks(4))
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_rgb(tmp_path / "a.jpg").shape == (32, 48, 3)
