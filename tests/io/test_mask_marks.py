"""Masks whose files mark lesion by different values are told apart from those that only look so."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from scripts.data.checks import check_files
from scripts.data.errors import DatasetError
from scripts.io.mask_marks import LesionMark, differing_marks, read_marked_mask
from scripts.io.mask_reader import read_mask

RED, GREEN, WHITE = (128, 0, 0), (0, 128, 0), (255, 255, 255)


def mask(path: Path, value: int, colour: tuple[int, int, int] | None = None, background: int = 0) -> str:
    """8 rows of 9 pixels, the left third lesion; an entry of a palette where a colour is given."""
    pixels = np.full((8, 9), background, np.uint8)
    pixels[:, :3] = value
    image = Image.fromarray(pixels)
    if colour is not None:
        image = image.convert("P")
        image.putdata(pixels.ravel().tolist())
        palette = np.zeros((256, 3), np.uint8)
        palette[value] = colour
        image.putpalette(palette.ravel().tolist())
    image.save(path)
    return str(path)


@pytest.mark.parametrize(("value", "mark"), [(0, None), (1, LesionMark(1)), (127, LesionMark(127)), (255, None)])
def test_the_mark_is_the_one_small_value_of_lesion(tmp_path: Path, value: int, mark: LesionMark | None) -> None:
    path = mask(tmp_path / "m.png", value)
    found, marked = read_marked_mask(path)
    assert marked == mark
    assert np.array_equal(found, read_mask(path))


def test_a_palette_entry_has_its_colour(tmp_path: Path) -> None:
    assert read_marked_mask(mask(tmp_path / "m.png", 2, GREEN))[1] == LesionMark(2, GREEN)


def test_colour_and_several_values_have_no_mark(tmp_path: Path) -> None:
    colour = np.zeros((8, 9, 3), np.uint8)
    colour[:, :3] = RED
    Image.fromarray(colour).save(tmp_path / "colour.png")
    assert read_marked_mask(tmp_path / "colour.png")[1] is None
    Image.fromarray(np.arange(72, dtype=np.uint8).reshape(8, 9) * 3).save(tmp_path / "grey.png")
    assert read_marked_mask(tmp_path / "grey.png")[1] is None


@pytest.mark.parametrize(
    ("one", "two", "differ"),
    [
        (LesionMark(1), LesionMark(2), True),
        (LesionMark(1), LesionMark(1), False),
        (LesionMark(1, RED), LesionMark(2, GREEN), True),
        (LesionMark(1, WHITE), LesionMark(0, (254, 255, 255)), False),  # palettes of two colours, numbered by chance
        (LesionMark(1, RED), LesionMark(1, GREEN), False),  # another program's palette, the same class
        (LesionMark(1, RED), LesionMark(2), True),
        (LesionMark(1), None, False),
    ],
)
def test_differing_marks(one: LesionMark, two: LesionMark | None, differ: bool) -> None:
    assert differing_marks({"a": one, "b": None, "c": one, "d": two}) == (("a", "d") if differ else None)


def items(folder: Path, labels: list[str]) -> list[dict]:
    """One picture for each label."""
    for number in range(len(labels)):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"picture{number}.png")
    return [{"image": str(folder / f"picture{number}.png"), "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize("colours", [(None, None), (RED, GREEN)])
def test_classes_that_are_never_in_one_file_are_refused(tmp_path: Path, colours: tuple) -> None:
    labels = [mask(tmp_path / f"m{value}.png", value, colours[value - 1]) for value in (1, 2)]
    with pytest.raises(
        DatasetError, match=r'm2\.png: .* value 2, in .*m1\.png it has 1: .* \{"0": 0, "1": 1, "2": 1\}'
    ):
        check_files(items(tmp_path, labels))
    shares = check_files(items(tmp_path, labels), {0: 0, 1: 1, 2: 0}).lesion_share
    assert [shares[label] for label in labels] == [pytest.approx(1 / 3), 0.0]


def test_one_lesion_saved_by_several_programs_is_taken(tmp_path: Path) -> None:
    labels = [
        mask(tmp_path / "one.png", 1),
        mask(tmp_path / "white.png", 255),
        mask(tmp_path / "grey.png", 160),
        mask(tmp_path / "empty.png", 0),
    ]
    shares = check_files(items(tmp_path, labels)).lesion_share
    assert [round(shares[label], 3) for label in labels] == [0.333, 0.333, 0.333, 0.0]


def test_label_volumes_of_different_labels_are_refused(tmp_path: Path) -> None:
    labels = []
    for label in (1, 2):
        voxels = np.zeros((9, 8, 1), np.uint8)
        voxels[:3] = label
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / f"v{label}.nii")
        labels.append(str(tmp_path / f"v{label}.nii"))
    with pytest.raises(DatasetError, match=r"v2\.nii: lesion has the value 2, in .*v1\.nii it has 1"):
        check_files(items(tmp_path, labels))
