"""Prompts of a probability map, on masks whose answer can be read off the page."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scripts.pseudo_labels import PromptBuilder
from scripts.pseudo_labels.masks import bounds, expected_iou, innermost, iou
from scripts.pseudo_labels.promptable import NEGATIVE, NO_POINT, POSITIVE


def two_lesions() -> np.ndarray:
    """100 x 200: a sure square (rows 20-39, columns 30-49) and a less sure bar (rows 60-69, columns 100-179)."""
    probability = np.full((100, 200), 0.02)
    probability[20:40, 30:50] = 0.9
    probability[60:70, 100:180] = 0.7
    return probability


def test_each_lesion_has_a_box_with_its_margin() -> None:
    prompts = PromptBuilder(margin=0.1)(two_lesions())
    np.testing.assert_allclose(prompts.boxes, [[28, 18, 52, 42], [92, 59, 188, 71]])
    assert [one.sum() for one in prompts.components] == [400, 800], "the most probable first"


def test_a_box_stays_in_the_picture() -> None:
    probability = np.zeros((10, 12))
    probability[0:10, 6:12] = 1.0
    np.testing.assert_allclose(PromptBuilder(margin=0.5)(probability).boxes, [[3, 0, 12, 10]])


def test_points_are_inside_their_own_lesion_and_outside_of_all_others() -> None:
    prompts = PromptBuilder()(two_lesions())
    whole = prompts.components.any(axis=0)
    for k, component in enumerate(prompts.components):
        (x, y) = prompts.points[k, k]
        assert prompts.labels[k, k] == POSITIVE and component[int(y), int(x)]
        assert (
            prompts.labels[k, 1 - k] == NEGATIVE
            and prompts.components[1 - k][tuple(prompts.points[k, 1 - k][::-1].astype(int))]
        )
        beyond = prompts.points[k, 2:][prompts.labels[k, 2:] == NEGATIVE]
        assert len(beyond) == 4 and not any(whole[int(y), int(x)] for x, y in beyond)
        x0, y0, x1, y1 = prompts.boxes[k]
        assert all(x < x0 or x >= x1 or y < y0 or y >= y1 for x, y in beyond)


def test_points_beyond_the_picture_are_no_points() -> None:
    probability = np.zeros((10, 12))
    probability[0:10, 6:12] = 1.0
    prompts = PromptBuilder()(probability)
    assert prompts.labels[0].tolist() == [POSITIVE, NEGATIVE, NO_POINT, NO_POINT, NO_POINT]


def test_the_point_of_a_ring_is_on_the_ring() -> None:
    rows, columns = np.mgrid[:61, :61]
    distance = np.hypot(rows - 30, columns - 30)
    ring = (distance < 28) & (distance > 15)
    x, y = innermost(ring)
    assert ring[int(y), int(x)] and not ring[30, 30], "the centroid is in the hole"
    depth = ndimage.distance_transform_edt(ring)
    assert depth[int(y), int(x)] == depth.max()


def test_rough_masks_are_logits_of_their_own_lesion_alone() -> None:
    prompts = PromptBuilder(clip=2.0)(two_lesions())
    square, bar = prompts.mask_logits
    assert square[30, 40] == pytest.approx(2.0) and square[65, 120] == pytest.approx(-2.0)
    assert bar[65, 120] == pytest.approx(np.log(0.7 / 0.3), abs=1e-6) and bar[30, 40] == pytest.approx(-2.0)
    assert square[0, 0] == pytest.approx(-2.0), "log(.02 / .98) is -3.9"


@pytest.mark.parametrize("left", ["box", "points", "mask"])
def test_each_kind_can_be_switched_off(left: str) -> None:
    prompts = PromptBuilder(**{name: name == left for name in ("box", "points", "mask")})(two_lesions())
    found = {"box": prompts.boxes, "points": prompts.points, "mask": prompts.mask_logits}
    assert [name for name, value in found.items() if value is not None] == [left]
    assert (prompts.labels is None) == (left != "points")


def test_without_negatives_a_point_is_alone() -> None:
    prompts = PromptBuilder(negatives=False)(two_lesions())
    assert prompts.points.shape == (2, 1, 2) and (prompts.labels == POSITIVE).all()


def test_specks_are_no_lesions_and_the_surest_are_kept() -> None:
    probability = np.zeros((100, 100))
    for k in range(8):
        probability[10 * k : 10 * k + 5, 0:5] = 0.6 + 0.04 * k
    probability[95, 95] = 0.99
    prompts = PromptBuilder(most=3, smallest_share=0.001)(probability)
    assert [round(float(probability[one].mean()), 2) for one in prompts.components] == [0.88, 0.84, 0.8]
    assert [prompts.left[10 * k, 0] > 0 for k in range(8)] == [True] * 5 + [False] * 3 and prompts.left[95, 95] == 0
    assert len(np.unique(prompts.left)) == 6


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (7, 3)])
def test_thin_pictures(shape: tuple[int, int]) -> None:
    prompts = PromptBuilder()(np.ones(shape))
    height, width = shape
    np.testing.assert_allclose(prompts.boxes, [[0, 0, width, height]])
    assert prompts.labels[0, 0] == POSITIVE and (prompts.labels[0, 1:] == NO_POINT).all()
    assert bounds(prompts.components[0]) == (slice(0, height), slice(0, width))


def test_nothing_seen_is_no_prompt() -> None:
    prompts = PromptBuilder()(np.zeros((20, 30)))
    assert len(prompts) == 0 and prompts.components.shape == (0, 20, 30)
    assert prompts.boxes.shape == (0, 4) and prompts.points.shape[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": False, "points": False, "mask": False}, "no prompt is left"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"most": 0}, "most is 0"),
        ({"margin": -0.1}, "margin -0.1"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptBuilder(**options)


def test_overlap_by_hand() -> None:
    first, second = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    first[0, :3] = second[0, 1:] = True
    assert iou(first, second) == pytest.approx(2 / 4)
    assert iou(~np.ones((2, 2), bool), ~np.ones((2, 2), bool)) == 1.0
    probability = np.array([[0.9, 0.8, 0.2, 0.1]])
    assert expected_iou(probability, probability > 0.5) == pytest.approx(1.7 / 2.3)


def test_expected_iou_is_that_of_truths_drawn_from_the_probability() -> None:
    random = np.random.default_rng(0)
    probability = random.random((30, 30))
    mask = probability > 0.5
    drawn = [iou(mask, random.random((30, 30)) < probability) for _ in range(400)]
    assert expected_iou(probability, mask) == pytest.approx(np.mean(drawn), abs=0.01)
