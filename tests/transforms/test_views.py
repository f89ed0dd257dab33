"""Views: known geometry against naive warps, colour changes against colorsys and bounds."""

from __future__ import annotations

import colorsys

import pytest
import torch
from torch import Tensor

from scripts.transforms import View, view

GEOMETRIES = {
    "horizontal flip": {"horizontal_flip": 0.5},
    "vertical flip": {"vertical_flip": 0.5},
    "rotation": {"rotation": 25},
    "zoom": {"scale": (0.7, 1.5)},
    "shift": {"translation": 0.1},
    "all": {"horizontal_flip": 0.5, "vertical_flip": 0.5, "rotation": 30, "scale": (0.7, 1.5), "translation": 0.1},
}
geometries = pytest.mark.parametrize("strengths", GEOMETRIES.values(), ids=GEOMETRIES.keys())
COLOUR = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "jitter_probability": 1.0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def frames(count: int = 4, height: int = 64, width: int = 48) -> Tensor:
    return torch.rand(count, 3, height, width)


def ramp(count: int = 4, height: int = 64, width: int = 48) -> Tensor:
    """Row, column and their sum, in 0..1: bilinear interpolation gives straight lines back without error."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([rows, columns, (rows + columns) / 2]).expand(count, 3, height, width).contiguous()


def nearest_warp(label: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Label map (H, W) drawn through a homography pixel by pixel; second, which pixels lie clearly nearest to one."""
    height, width = label.shape
    inverse = torch.linalg.inv(matrix.double())
    result, sure = torch.zeros_like(label), torch.zeros_like(label, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            x, y, _ = (inverse @ torch.tensor([column, row, 1.0], dtype=torch.float64)).tolist()
            sure[row, column] = max(abs(x - round(x)), abs(y - round(y))) < 0.499
            if 0 <= round(x) < width and 0 <= round(y) < height:
                result[row, column] = label[round(y), round(x)]
    return result, sure


def test_nothing_asked_nothing_changed() -> None:
    picture, label = frames(), torch.randint(0, 2, (4, 1, 64, 48))
    result = view()(picture, label)
    assert torch.equal(result.image, picture) and torch.equal(result.label, label)
    assert torch.equal(result.matrix, torch.eye(3).expand(4, 3, 3))
    aligned, valid = result.align(picture)
    torch.testing.assert_close(aligned, picture, atol=2e-5, rtol=0)
    assert valid.eq(1).all() and result.undo(picture)[1].eq(1).all()
    assert view()(picture).label is None


def test_flips_by_hand() -> None:
    picture, label = frames(), torch.randint(0, 2, (4, 1, 64, 48))
    for strengths, axis in (({"horizontal_flip": 1.0}, 3), ({"vertical_flip": 1.0}, 2)):
        result = view(**strengths)(picture, label)
        torch.testing.assert_close(result.image, picture.flip(axis))
        assert torch.equal(result.label, label.flip(axis))
    # Column x goes to 47 - x, row y stays.
    expected = torch.tensor([[-1.0, 0.0, 47.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(view(horizontal_flip=1.0)(picture).matrix, expected.expand(4, 3, 3))


def test_rotation_keeps_the_centre() -> None:
    result = view(rotation=40)(frames())
    centre = torch.tensor([47 / 2, 63 / 2, 1.0])
    torch.testing.assert_close(result.matrix @ centre, centre.expand(4, 3), atol=1e-4, rtol=0)
    angles = torch.rad2deg(torch.atan2(result.matrix[:, 1, 0], result.matrix[:, 0, 0]))
    assert angles.abs().max() <= 40 and angles.unique().numel() == 4


def test_zoom_and_shift_stay_within_their_strengths() -> None:
    result = view(scale=(0.7, 1.5), translation=0.1)(frames(64))
    factor = result.matrix[:, 0, 0]
    assert factor.min() >= 0.7 and factor.max() <= 1.5 and factor.max() - factor.min() > 0.5
    torch.testing.assert_close(result.matrix[:, 1, 1], factor)
    centre = torch.tensor([47 / 2, 63 / 2, 1.0])
    shift = (result.matrix @ centre - centre)[:, :2].abs()
    assert (shift <= 0.1 * torch.tensor([48, 64]) + 1e-4).all() and (shift.amax(0) > 3).all()


@geometries
def test_label_moves_with_the_picture(strengths: dict) -> None:
    label = torch.randint(0, 2, (2, 1, 64, 48)) * 7
    result = view(**strengths)(frames(2), label)
    assert result.label.dtype == torch.int64 and result.label.shape == label.shape
    assert set(result.label.unique().tolist()) <= {0, 7}, "nearest neighbour: no value between classes"
    for index in range(2):
        expected, sure = nearest_warp(label[index, 0], result.matrix[index])
        assert sure.float().mean() > 0.9
        assert torch.equal(result.label[index, 0][sure], expected[sure])


def test_picture_and_label_lie_over_each_other() -> None:
    label = torch.zeros(4, 1, 64, 64, dtype=torch.uint8)
    label[:, :, 20:36, 16:44] = 1
    result = view(**GEOMETRIES["all"])(label.float().expand(-1, 3, -1, -1), label)
    assert result.label.dtype == torch.uint8
    drawn = result.image[:, :1]
    sure = (drawn < 0.05) | (drawn > 0.95)
    assert torch.equal((drawn > 0.5)[sure], result.label.bool()[sure]) and sure.float().mean() > 0.9


@geometries
def test_align_reproduces_the_view(strengths: dict) -> None:
    picture = frames()
    result = view(**strengths)(picture)
    aligned, valid = result.align(picture)
    torch.testing.assert_close(aligned * valid, result.image * valid, atol=5e-5, rtol=0)
    assert set(valid.unique().tolist()) <= {0.0, 1.0} and valid.shape == (4, 1, 64, 48)
    assert valid.mean() > 0.5
    # Outside of the mask the view has made up pixels.
    white, _ = result.align(torch.ones_like(picture))
    torch.testing.assert_close(white * valid, valid.expand_as(white), atol=1e-3, rtol=0)
    assert (white[:, :1][valid == 0] < 1).all()


@geometries
def test_undo_of_align_gives_the_source_back(strengths: dict) -> None:
    picture = ramp()
    result = view(**strengths)(picture)
    returned, valid = result.undo(result.align(picture)[0])
    # A pixel of the rim may hold up to 0.1 % of black, once on each way.
    torch.testing.assert_close(returned * valid, picture * valid, atol=2e-3, rtol=0)
    assert (returned - picture)[valid.expand_as(picture) > 0].abs().mean() < 1e-5
    assert valid.shape == (4, 1, 64, 48) and valid.mean() > 0.4
    torch.testing.assert_close(result.undo(result.image)[0] * valid, picture * valid, atol=2e-3, rtol=0)


def test_flips_are_undone_for_any_picture() -> None:
    picture = frames()
    result = view(horizontal_flip=0.5, vertical_flip=0.5)(picture)
    returned, valid = result.undo(result.image)
    torch.testing.assert_close(returned, picture, atol=5e-5, rtol=0)
    assert valid.eq(1).all()
    assert not torch.equal(result.image, picture), "at least one was flipped"


def test_masks_of_a_shift_by_hand() -> None:
    picture = frames(2)
    matrix = torch.eye(3).repeat(2, 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = 3.0, -5.0  # 3 to the right, 5 up
    shifted = View(picture, None, matrix)
    aligned, valid = shifted.align(picture)
    torch.testing.assert_close(aligned[..., :-5, 3:], picture[..., 5:, :-3], atol=2e-5, rtol=0)
    assert valid[..., :-5, 3:].eq(1).all() and valid.sum() == 2 * 59 * 45
    returned, valid = shifted.undo(aligned)
    torch.testing.assert_close(returned[..., 5:, :-3], picture[..., 5:, :-3], atol=2e-5, rtol=0)
    assert valid[..., 5:, :-3].eq(1).all() and valid.sum() == 2 * 59 * 45


def test_gradient_goes_through_undo() -> None:
    picture = frames(2)
    answer = torch.rand(2, 2, 64, 48, requires_grad=True)
    view(rotation=20)(picture).undo(answer)[0].sum().backward()
    assert answer.grad.isfinite().all() and answer.grad.abs().sum() > 0


def test_colours_stay_in_range_and_leave_geometry_alone() -> None:
    picture, label = frames(16), torch.randint(0, 2, (16, 1, 64, 48))
    picture[:4], picture[4:8] = 0.0, 1.0
    result = view(**COLOUR, hue=0.5, grayscale=0.2, blur_probability=0.5)(picture, label)
    assert result.image.min() >= 0 and result.image.max() <= 1 and result.image.isfinite().all()
    assert torch.equal(result.label, label) and torch.equal(result.matrix, torch.eye(3).expand(16, 3, 3))
    assert not torch.equal(result.image[8:], picture[8:])


def test_grey_stays_grey_without_hue() -> None:
    grey = torch.rand(8, 1, 64, 48).expand(-1, 3, -1, -1).contiguous()
    result = view(**COLOUR, blur_probability=0.5)(grey).image
    torch.testing.assert_close(result.amax(1), result.amin(1), atol=1e-5, rtol=0)
    assert (result - grey).abs().mean() > 0.01


def test_brightness_is_a_factor() -> None:
    picture = frames(16) * 0.5 + 0.1
    factor = view(brightness=0.3, jitter_probability=1.0)(picture).image / picture
    torch.testing.assert_close(factor, factor[:, :1, :1, :1].expand_as(factor), atol=1e-4, rtol=0)
    assert factor.min() >= 0.7 - 1e-4 and factor.max() <= 1.3 + 1e-4 and factor.max() - factor.min() > 0.3


def test_hue_is_in_turns_of_the_colour_circle() -> None:
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1).expand(64, 3, 4, 4).contiguous()
    result = view(hue=0.05, jitter_probability=1.0)(red).image
    shifts = []
    for colour in result[:, :, 0, 0]:
        hue, saturation, value = colorsys.rgb_to_hsv(*colour.tolist())
        shifts.append((hue + 0.5) % 1 - 0.5)
        assert saturation == pytest.approx(0.75, abs=1e-3) and value == pytest.approx(0.8, abs=1e-3)
    assert max(map(abs, shifts)) <= 0.0501 and max(shifts) > 0.035 and min(shifts) < -0.035


def test_grayscale_and_blur_by_hand() -> None:
    picture = frames()
    grey = view(grayscale=1.0)(picture).image
    expected = 0.299 * picture[:, 0] + 0.587 * picture[:, 1] + 0.114 * picture[:, 2]
    torch.testing.assert_close(grey, expected[:, None].expand_as(grey), atol=1e-3, rtol=0)
    dot = torch.zeros(1, 3, 33, 33)
    dot[..., 16, 16] = 1.0
    blurred = view(blur_probability=1.0, blur_sigma=(1.0, 1.0))(dot).image[0, 0]
    # Sigma 1: the neighbour has exp(-1/2) of the centre, the diagonal exp(-1); nothing is lost.
    torch.testing.assert_close(blurred[16, 17] / blurred[16, 16], torch.tensor(0.60653), atol=1e-3, rtol=0)
    torch.testing.assert_close(blurred[17, 17] / blurred[16, 16], torch.tensor(0.36788), atol=1e-3, rtol=0)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-4)


def test_jitter_probability() -> None:
    picture = frames(100, 16, 16)
    result = view(brightness=0.5, jitter_probability=0.4)(picture).image
    changed = (result - picture).flatten(1).abs().amax(1) > 1e-4
    assert 0.22 < changed.float().mean() < 0.58


@pytest.mark.parametrize("strengths", [GEOMETRIES["all"], COLOUR, {**GEOMETRIES["all"], **COLOUR, "hue": 0.1}])
def test_each_picture_its_own_view_and_same_seed_same_view(strengths: dict) -> None:
    picture = frames(1).expand(4, -1, -1, -1).contiguous()
    random_view = view(**strengths)
    torch.manual_seed(3)
    first = random_view(picture)
    for index in range(1, 4):
        assert not torch.allclose(first.image[0], first.image[index])
    torch.manual_seed(3)
    again = random_view(picture)
    assert torch.equal(first.image, again.image) and torch.equal(first.matrix, again.matrix)
    assert not torch.equal(first.image, random_view(picture).image), "the next call draws anew"


def test_the_source_is_not_changed_and_no_gradient_is_kept() -> None:
    picture = frames().requires_grad_()
    before = picture.detach().clone()
    result = view(**GEOMETRIES["all"], **COLOUR)(picture)
    assert torch.equal(picture, before) and not result.image.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_moves_no_pixel(dtype: torch.dtype) -> None:
    """Objectives draw and undo views inside of autocast, in which products of coordinates lose up to two pixels."""
    picture, strengths = ramp(8, 256, 256), {"horizontal_flip": 0.5, "rotation": 20}
    torch.manual_seed(3)
    expected = view(**strengths)(picture)
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype):
        found = view(**strengths)(picture)
        returned, valid = found.undo(found.image)
    assert torch.equal(found.image, expected.image) and torch.equal(found.matrix, expected.matrix)
    assert found.image.dtype == returned.dtype == torch.float32
    assert torch.equal(returned, expected.undo(expected.image)[0])
    # A column of 256 is 1 / 255 of the ramp.
    assert ((returned - picture).abs() * valid).max() < 0.25 / 255
