"""CutMix: the size of its boxes, and its mixing against a naive loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.transforms import CutMix


def edges(box: Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left and right (exclusive) of what is True in (H, W)."""
    rows, columns = box.any(1).nonzero().flatten(), box.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (96, 32)])
def test_boxes_are_filled_rectangles_of_2_to_40_percent(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    boxes = CutMix(probability=1.0).draw(torch.zeros(300, 3, *shape))
    assert boxes.shape == (300, 1, *shape) and boxes.dtype == torch.bool
    places = set()
    for box in boxes[:, 0]:
        top, bottom, left, right = edges(box)
        height, width = bottom - top, right - left
        assert int(box.sum()) == height * width, "one rectangle without holes"
        # Each side is rounded by at most half a pixel.
        assert (height + 0.5) * (width + 0.5) >= 0.02 * box.numel()
        assert (height - 0.5) * (width - 0.5) <= 0.4 * box.numel()
        assert 0.3 <= (width + 0.5) / (height - 0.5) and (width - 0.5) / (height + 0.5) <= 1 / 0.3
        places.add((top, left))
    assert len(places) > 200, "each picture has its own box"
    shares = boxes.float().mean((1, 2, 3))
    assert shares.min() < 0.05 and shares.max() > 0.3, "the whole range is drawn"
    covered = boxes[:, 0].any(0)
    assert covered[0].any() and covered[-1].any() and covered[:, 0].any() and covered[:, -1].any(), "up to the border"


def test_fixed_area_and_aspect_by_hand() -> None:
    # 25 % of 64 x 64 at aspect 1 is 32 x 32; at aspect 4 it is 64 wide and 16 high.
    for aspect, sides in ((1.0, (32, 32)), (4.0, (16, 64))):
        boxes = CutMix(1.0, area=(0.25, 0.25), aspect=(aspect, aspect)).draw(torch.zeros(5, 3, 64, 64))
        for box in boxes[:, 0]:
            top, bottom, left, right = edges(box)
            assert (bottom - top, right - left) == sides


def test_probability() -> None:
    torch.manual_seed(0)
    picture = torch.zeros(200, 1, 64, 64)
    assert not CutMix(0.0).draw(picture).any()
    assert CutMix(1.0).draw(picture).flatten(1).any(1).all()
    share = CutMix(0.5).draw(picture).flatten(1).any(1).float().mean()
    assert 0.38 < share < 0.62, "200 draws: 3.4 standard deviations"


def test_mix_like_a_naive_loop_and_alike_for_all_maps() -> None:
    torch.manual_seed(0)
    picture, label = torch.rand(3, 3, 64, 48), torch.randint(0, 2, (3, 1, 64, 48))
    weight = torch.rand(3, 1, 64, 48)
    cutmix = CutMix(1.0)
    boxes = cutmix.draw(picture)
    for values in (picture, label, weight):
        mixed = cutmix.mix(values, boxes)
        expected = values.clone()
        for index in range(3):
            top, bottom, left, right = edges(boxes[index, 0])
            for row in range(top, bottom):
                for column in range(left, right):
                    expected[index, :, row, column] = values[2 - index, :, row, column]
        assert torch.equal(mixed, expected) and mixed.dtype == values.dtype
    assert torch.equal(cutmix.mix(picture, boxes)[1], picture[1]), "the middle one is its own partner"


def test_same_seed_same_boxes() -> None:
    picture = torch.zeros(4, 3, 64, 64)
    torch.manual_seed(7)
    first = CutMix(0.5).draw(picture)
    torch.manual_seed(7)
    assert torch.equal(first, CutMix(0.5).draw(picture))
    assert not torch.equal(first, CutMix(0.5).draw(picture))
