"""GrabCut and the random walker: what they find, that they repeat, and what every segmenter refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scripts.pseudo_labels import PromptableSegmenter, SegmenterError, build_segmenter
from scripts.pseudo_labels.masks import iou
from scripts.pseudo_labels.promptable import NEGATIVE, NO_POINT, POSITIVE, stability_score
from scripts.pseudo_labels.small_picture import BACKGROUND, OBJECT, UNKNOWN, SmallPicture, trimap

NAMES = ("grabcut", "random_walker")


def disc(height: int = 180, width: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """A dark red disc on pink with noise, and its mask."""
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - 80) ** 2 + (columns - 110) ** 2 < 35**2
    picture = np.array([205, 140, 120]) + np.random.default_rng(0).integers(-12, 12, (height, width, 3))
    picture[mask] -= 70
    return picture.clip(0, 255).astype(np.uint8), mask


@pytest.fixture(params=NAMES)
def segmenter(request: pytest.FixtureRequest) -> PromptableSegmenter:
    return build_segmenter(request.param)


def test_a_rough_mask_and_a_box_find_the_disc(segmenter: PromptableSegmenter) -> None:
    picture, truth = disc()
    # Too small by three pixels all around, and soft, as a student's mask is.
    probability = ndimage.gaussian_filter(ndimage.binary_erosion(truth, iterations=3).astype(float), 4).clip(0.01, 0.99)
    rough, logits = probability > 0.5, np.log(probability / (1 - probability))[None]
    segmenter.set_image(picture)
    found = segmenter.predict(boxes=np.array([[65.0, 35.0, 160.0, 128.0]]), mask_logits=logits)
    assert found.masks.shape == (1, 180, 240) and found.masks.dtype == bool
    assert iou(found.masks[0], truth) > 0.95 > 0.9 > iou(rough, truth)
    assert 0.5 < found.predicted_iou[0] <= 1 and 0 <= found.stability[0] <= 1
    again = segmenter.predict(boxes=np.array([[65.0, 35.0, 160.0, 128.0]]), mask_logits=found.logits)
    assert iou(again.masks[0], truth) > 0.95, "its own answer can be given back"


def test_points_say_which_part(segmenter: PromptableSegmenter) -> None:
    picture, truth = disc()
    segmenter.set_image(picture)
    box = np.array([[60.0, 30.0, 165.0, 130.0]])
    points, labels = np.array([[[110.5, 80.5], [68.5, 40.5], [0, 0]]]), np.array([[POSITIVE, NEGATIVE, NO_POINT]])
    inside = segmenter.predict(points, labels, box)
    assert iou(inside.masks[0], truth) > 0.8
    other = segmenter.predict(points, np.array([[NEGATIVE, POSITIVE, NO_POINT]]), box)
    assert not other.masks[0][80, 110] and other.masks[0][40, 68]


def test_prompts_are_independent_and_repeat(segmenter: PromptableSegmenter) -> None:
    picture, truth = disc()
    boxes = np.array([[70.0, 40.0, 150.0, 120.0], [10.0, 10.0, 60.0, 60.0]])
    logits = np.stack([np.where(truth, 2.0, -2.0), np.full(truth.shape, -1.0)])
    logits[1, 20:40, 20:40] = 1.0
    segmenter.set_image(picture)
    together = segmenter.predict(boxes=boxes, mask_logits=logits)
    for k in range(2):
        segmenter.set_image(picture)
        alone = segmenter.predict(boxes=boxes[k : k + 1], mask_logits=logits[k : k + 1])
        assert np.array_equal(alone.masks[0], together.masks[k])
        assert alone.predicted_iou[0] == together.predicted_iou[k]


@pytest.mark.parametrize("shape", [(1, 60), (60, 1), (1, 1), (5, 900), (2, 2)])
def test_thin_and_tiny_pictures(segmenter: PromptableSegmenter, shape: tuple[int, int]) -> None:
    height, width = shape
    segmenter.set_image(np.full((height, width, 3), 90, np.uint8))
    found = segmenter.predict(
        np.array([[[width / 2, height / 2]]]),
        np.array([[POSITIVE]]),
        np.array([[0.0, 0.0, width, height]]),
        np.full((1, height, width), 2.0),
    )
    assert found.masks.shape == (1, height, width) and np.isfinite(found.logits).all()


def test_no_prompt_is_no_mask(segmenter: PromptableSegmenter) -> None:
    segmenter.set_image(disc()[0])
    assert segmenter.predict(boxes=np.zeros((0, 4))).masks.shape == (0, 180, 240)


BOX = np.array([[10.0, 10.0, 50.0, 50.0]])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompt"),
        ({"points": np.zeros((1, 1, 2))}, "belong together"),
        ({"points": np.zeros((1, 2, 2)), "labels": np.ones((1, 1))}, "need labels"),
        ({"points": np.zeros((1, 1, 2)), "labels": np.full((1, 1), 7)}, "labels other than"),
        ({"points": np.full((1, 1, 2), 999.0), "labels": np.ones((1, 1))}, "outside of the picture"),
        ({"boxes": np.array([[50.0, 10.0, 10.0, 50.0]])}, "is empty or outside"),
        ({"boxes": np.array([[10.0, 10.0, 500.0, 50.0]])}, "is empty or outside"),
        ({"boxes": np.array([10.0, 10.0, 50.0, 50.0])}, r"boxes of shape \(4,\)"),
        ({"boxes": np.array([[np.nan, 10.0, 50.0, 50.0]])}, "not finite"),
        ({"boxes": BOX, "mask_logits": np.zeros((2, 8, 8))}, "unequal numbers"),
    ],
)
def test_prompts_that_do_not_fit(prompts: dict, message: str) -> None:
    segmenter = build_segmenter("grabcut")
    segmenter.set_image(disc()[0])
    with pytest.raises(SegmenterError, match=message):
        segmenter.predict(**prompts)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_pictures_that_are_none(picture: np.ndarray) -> None:
    with pytest.raises(SegmenterError, match=r"frame.png: shape .* expected \(H, W, 3\) uint8"):
        build_segmenter("grabcut").set_image(picture, "frame.png")


def test_a_prompt_without_a_picture() -> None:
    with pytest.raises(SegmenterError, match="call set_image"):
        build_segmenter("grabcut").predict(boxes=BOX)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "grabcat"}, "did you mean 'grabcut'"),
        ({"name": "sam"}, "needs --sam_weights"),
        ({"name": "grabcut", "weights": "x"}, "give --segmenter sam"),
    ],
)
def test_segmenters_by_name(options: dict, message: str) -> None:
    with pytest.raises(SegmenterError, match=message):
        build_segmenter(**options)


def test_stability_by_hand() -> None:
    logits = np.array([[[2.0, 1.5, 0.5, -0.5, -2.0]], [[3.0, 3.0, -3.0, -3.0, -3.0]], [[-2.0] * 5]])
    np.testing.assert_allclose(stability_score(logits), [2 / 4, 1.0, 0.0])


def test_the_small_grid_and_back() -> None:
    picture, truth = disc(400, 300)
    small = SmallPicture.of(picture, 100)
    assert small.shape == (100, 75) and small.pixel(299.9, 399.9) == (99, 74) and small.pixel(110, 80) == (20, 27)
    assert small.box(np.array([100.0, 200.0, 200.0, 300.0])) == (slice(50, 75), slice(25, 50))
    logits = small.shrink(np.where(truth, 4.0, -4.0))
    assert iou(small.restore(logits), truth) > 0.97
    assert SmallPicture.of(picture, 1000).pixels is picture, "never enlarged"


def test_a_trimap_leaves_the_border_open() -> None:
    probability = ndimage.gaussian_filter(disc()[1].astype(float), 4).clip(0.001, 0.999)
    found = trimap(np.log(probability / (1 - probability)))
    assert found[80, 110] == OBJECT and found[0, 0] == BACKGROUND and found[80, 110 + 36] == UNKNOWN
    assert not (found[probability < 0.5] == OBJECT).any() and not (found[probability > 0.5] == BACKGROUND).any()
    assert (trimap(np.full((4, 4), -9.0)) == BACKGROUND).all(), "no mask, no object"
