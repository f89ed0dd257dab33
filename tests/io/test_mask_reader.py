"""Masks of any two values become 0 and 1; what cannot be told apart is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from monai.transforms import EnsureChannelFirstd, LoadImaged
from PIL import Image

from scripts.io.errors import MediaError
from scripts.io.mask_reader import UNKNOWN, MaskReader, read_mask
from scripts.io.writers import write_mask_png

TRUTH = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)


def save(tmp_path: Path, pixels: np.ndarray, name: str = "m.png", **options: object) -> Path:
    Image.fromarray(pixels).save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (0, 160), (0, 100), (1, 2), (16, 235), (254, 255)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_two_values(tmp_path: Path, low: int, high: int, dtype: type) -> None:
    found = read_mask(save(tmp_path, np.where(TRUTH, high, low).astype(dtype)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, TRUTH)


def test_one_value(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path, np.zeros((2, 3), np.uint8))).tolist() == [[0] * 3] * 2
    assert read_mask(save(tmp_path, np.full((2, 3), 255, np.uint8))).tolist() == [[1] * 3] * 2


def test_many_values_are_cut_above_127(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path, np.array([[0, 127, 128, 255]], np.uint8))).tolist() == [[0, 0, 1, 1]]
    wide = np.array([[0, 32639, 32640, 65535]], np.uint16)  # 127 * 257 = 32639
    assert read_mask(save(tmp_path, wide)).tolist() == [[0, 0, 1, 1]]


def test_bilevel(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mask(save(tmp_path, TRUTH.astype(bool))), TRUTH)


def test_jpeg_rings(tmp_path: Path) -> None:
    truth = np.zeros((48, 64), np.uint8)
    truth[10:30, 13:41] = 1
    for mode in ("L", "RGB"):
        Image.fromarray(truth * 255).convert(mode).save(tmp_path / "m.jpg", quality=90)
        stored = np.array(Image.open(tmp_path / "m.jpg"))
        assert len(np.unique(stored)) > 10  # it does ring
        np.testing.assert_array_equal(read_mask(tmp_path / "m.jpg"), truth)


def test_faint_jpeg_is_empty_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path, np.full((16, 16), 3, np.uint8), "m.jpg")
    assert read_mask(path).max() == 0
    assert "taken as empty" in caplog.text
    caplog.clear()
    assert read_mask(save(tmp_path, np.zeros((16, 16), np.uint8), "e.jpg")).max() == 0
    assert not caplog.text


def test_dim_jpeg(tmp_path: Path) -> None:
    halves = np.zeros((16, 16), np.uint8)
    halves[:, 8:] = 100  # along the 8x8 blocks: exactly two values survive
    assert read_mask(save(tmp_path, halves, "m.jpg", quality=100)).tolist() == [[0] * 8 + [1] * 8] * 16
    ramp = np.tile(np.arange(0, 112, 7, dtype=np.uint8), (16, 1))
    with pytest.raises(MediaError, match=r"r\.jpg.*save the mask as PNG"):
        read_mask(save(tmp_path, ramp, "r.jpg"))


def test_webp_lossless_and_lossy(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mask(save(tmp_path, np.dstack([TRUTH] * 3), "m.webp", lossless=True)), TRUTH)
    big = np.dstack([TRUTH.repeat(16, 0).repeat(16, 1) * 255] * 3)
    np.testing.assert_array_equal(read_mask(save(tmp_path, big, "l.webp", quality=80))[8::16, 8::16], TRUTH)


def test_class_indices_are_not_silently_emptied(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"m\.png: the mask has 3 values \(0, 1, 2\).*value_map"):
        read_mask(save(tmp_path, np.array([[0, 1, 2]], np.uint8)))


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 0, 90), (128, 0, 0)])
def test_colour_by_its_strongest_channel(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    np.testing.assert_array_equal(read_mask(save(tmp_path, TRUTH[..., None] * np.array(colour, np.uint8))), TRUTH)


def test_two_colours_of_one_strength_are_refused(tmp_path: Path) -> None:
    pixels = np.where(TRUTH[..., None] > 0, [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    with pytest.raises(MediaError, match="same strength"):
        read_mask(save(tmp_path, pixels))


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # as labelme paints classes 0 to 3
CVAT = [0, 0, 0, 250, 50, 83, 101, 23, 104]


def _painted(palette: list[int], mode: str) -> Image.Image:
    """A stripe of each colour of a palette."""
    index = np.repeat(np.arange(len(palette) // 3, dtype=np.uint8), 16)[:, None].repeat(16, 1)
    image = Image.fromarray(index, "P")
    image.putpalette(palette)
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
@pytest.mark.parametrize("palette", [VOC, VOC[:9], CVAT])
def test_a_colour_a_class_is_refused(tmp_path: Path, palette: list[int], mode: str) -> None:
    """Their strongest channels are two values, so that all classes were one lesion, or the darker one was lost."""
    _painted(palette, mode).save(tmp_path / "classes.png")
    with pytest.raises(MediaError, match=r"classes\.png: the mask has several colours, \(0, 0, 0\), .*value_map"):
        read_mask(tmp_path / "classes.png")


def test_a_palette_of_classes_is_read_by_a_value_map(tmp_path: Path) -> None:
    _painted(VOC, "P").save(tmp_path / "classes.png")
    assert np.unique(read_mask(tmp_path / "classes.png", {0: 0, 1: 1, 2: 1, 3: 0})).tolist() == [0, 1]


@pytest.mark.parametrize("background", [(0, 0, 0), (0, 0, 90)])
def test_one_colour_with_soft_edges_is_one_lesion(tmp_path: Path, background: tuple[int, int, int]) -> None:
    image = Image.new("RGB", (256, 256), background)
    image.paste((250, 50, 83), (64, 64, 192, 192))
    image.resize((100, 100), Image.Resampling.BILINEAR).save(tmp_path / "soft.png")
    assert read_mask(tmp_path / "soft.png").mean() == pytest.approx(0.25, abs=0.01)


def test_a_coloured_mask_that_was_a_jpeg_once_is_read(tmp_path: Path) -> None:
    image = Image.new("RGB", (256, 256))
    image.paste((255, 0, 0), (64, 64, 192, 192))
    image.save(tmp_path / "once.jpg", quality=75)
    Image.open(tmp_path / "once.jpg").save(tmp_path / "now.png")
    assert read_mask(tmp_path / "now.png").mean() == pytest.approx(0.25, abs=0.01)


def test_alpha(tmp_path: Path) -> None:
    opaque = np.dstack([TRUTH * 255] * 3 + [np.full_like(TRUTH, 255)])
    np.testing.assert_array_equal(read_mask(save(tmp_path, opaque)), TRUTH)
    drawn = np.dstack([np.full_like(TRUTH, 255)] * 3 + [TRUTH * 255])  # white everywhere, cut out by alpha
    np.testing.assert_array_equal(read_mask(save(tmp_path, drawn)), TRUTH)
    np.testing.assert_array_equal(read_mask(save(tmp_path, np.dstack([TRUTH * 200, TRUTH * 0 + 255]))), TRUTH)


@pytest.mark.parametrize(
    "palette",
    [
        [0, 0, 0, 128, 0, 0],  # PASCAL VOC's
        [0, 0, 0, 255, 255, 255],
        [7, 7, 7, 7, 7, 7],  # no telling colours: by index
    ],
)
def test_palette(tmp_path: Path, palette: list[int]) -> None:
    image = Image.fromarray(TRUTH)
    image.putpalette(palette)
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), TRUTH)


def test_palette_with_white_first(tmp_path: Path) -> None:
    image = Image.fromarray(1 - TRUTH)  # index 0 is the lesion, and white
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), TRUTH)


def test_exif_orientation_turns_the_mask_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(read_mask(save(tmp_path, TRUTH * 255, exif=exif)), np.rot90(TRUTH, -1))


@pytest.mark.parametrize("value_map", [{0: 0, 7: 1, 9: 2}, {"0": 0, "7": 1, "9": 2}])
def test_value_map(tmp_path: Path, value_map: dict) -> None:
    pixels = np.array([[0, 7], [9, 0]], np.uint8)
    for stored in (pixels, pixels.astype(np.uint16), np.dstack([pixels] * 3), np.dstack([pixels, pixels])):
        assert read_mask(save(tmp_path, stored), value_map).tolist() == [[0, 1], [2, 0]]


def test_value_map_takes_palette_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", {0: 0, 1: 1, 2: 5}).tolist() == [[0, 1, 5]]


def test_value_map_errors(tmp_path: Path) -> None:
    path = save(tmp_path, np.array([[0, 7, 8]], np.uint8))
    with pytest.raises(MediaError, match=r"m\.png: the mask has values 8 that value_map"):
        read_mask(path, {0: 0, 7: 1})
    with pytest.raises(ValueError, match=r"0\.\.255"):
        read_mask(path, {0: 0, 7: 256, 8: 1})
    with pytest.raises(MediaError, match="colour mask"):
        read_mask(save(tmp_path, np.array([[[0, 1, 2]]], np.uint8)), {0: 0})


def test_float_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="save it as 8-bit"):
        read_mask(save(tmp_path, np.array([[0.0, 1.0]], np.float32), "m.tif"))


def test_reader_in_monai(tmp_path: Path) -> None:
    path = str(save(tmp_path, TRUTH * 255))
    item = LoadImaged("label", reader=MaskReader)({"label": path})
    assert item["label"].shape == (2, 3)
    item = EnsureChannelFirstd("label")(item)["label"]
    assert item.shape == (1, 2, 3)
    np.testing.assert_array_equal(item[0].numpy(), TRUTH)
    assert item.meta["filename_or_obj"] == path
    mapped = LoadImaged("label", reader=MaskReader(value_map={0: 3, 255: 4}))({"label": path})["label"]
    np.testing.assert_array_equal(mapped.numpy(), TRUTH + 3)


def test_what_a_mined_mask_does_not_know_is_background_but_for_who_looks_for_it(tmp_path: Path) -> None:
    mask, unknown = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    mask[1:3, 1:4], unknown[4:, 5:] = True, True
    write_mask_png(tmp_path / "mined.png", mask, unknown)
    assert np.array_equal(read_mask(tmp_path / "mined.png"), mask)
    load = LoadImaged("pseudo_label", reader=MaskReader, unknown=True)
    found = np.asarray(load({"pseudo_label": tmp_path / "mined.png"})["pseudo_label"])
    assert np.array_equal(found == 1, mask) and np.array_equal(found == UNKNOWN, unknown)


@pytest.mark.parametrize("values", [[0, 255], [0, 127], [127], [0, 1], [0, 126, 255], [0, 127, 200], [0, 60, 127, 255]])
def test_other_masks_have_no_unknown_pixels(tmp_path: Path, values: list[int]) -> None:
    pixels = np.resize(np.array(values, np.uint8), (5, 8))
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    load = LoadImaged("label", reader=MaskReader, unknown=True)
    assert np.array_equal(np.asarray(load({"label": tmp_path / "mask.png"})["label"]), read_mask(tmp_path / "mask.png"))


def test_real_masks(shared_dir: Path) -> None:
    for folder in ("kvasir_seg", "wce_bleeding"):
        for path in sorted((shared_dir / "data" / folder / "masks").iterdir())[:10]:
            reference = np.array(Image.open(path).convert("L")) > 127
            assert set(np.unique(read_mask(path))) <= {0, 1}
            assert (read_mask(path) != reference).mean() < 1e-3


@pytest.mark.parametrize("colour", [(200, 30, 30), (0, 0, 0), (128, 0, 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_lesion_drawn_on_transparent_white_is_not_turned_round(
    tmp_path: Path, mode: str, colour: tuple[int, int, int]
) -> None:
    pixels = np.where(TRUTH[..., None] > 0, (*colour, 255), (255, 255, 255, 0)).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "LA":
        image = image.convert("LA")
    if mode == "P":
        image = Image.fromarray(TRUTH)
        image.putpalette([255, 255, 255, *colour])
        image.info["transparency"] = 0
    image.save(tmp_path / "m.png")
    with pytest.raises(MediaError, match=r"m\.png: the strongest colour of the mask \(255\) is transparent everywhere"):
        read_mask(tmp_path / "m.png")


def test_a_transparent_background_that_is_dark_does_no_harm(tmp_path: Path) -> None:
    pixels = np.where(TRUTH[..., None] > 0, (200, 30, 30, 255), (0, 0, 0, 0)).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(save(tmp_path, pixels)), TRUTH)
    nothing = np.dstack([TRUTH * 90, TRUTH * 0])  # a program that leaves alpha at 0
    np.testing.assert_array_equal(read_mask(save(tmp_path, nothing)), TRUTH)


def test_a_value_map_does_not_cut_fractions_off(tmp_path: Path) -> None:
    Image.fromarray(np.where(TRUTH > 0, 0.9, 0.0).astype(np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(MediaError, match=r"m\.tif: the mask has the value 0\.9; value_map names whole numbers"):
        read_mask(tmp_path / "m.tif", {0: 0, 1: 1})
    Image.fromarray(TRUTH.astype(np.float32)).save(tmp_path / "whole.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "whole.tif", {0: 0, 1: 1}), TRUTH)
