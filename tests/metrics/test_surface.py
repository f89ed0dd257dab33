"""HD95 and surface Dice: by hand, against brute force over all pairs of outline pixels, and against MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from scripts.metrics.surface import outline, outline_points, surface_figures


def blob(seed: int, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    return field > np.quantile(field, 0.8)


def square(size: int, top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def naive_outline(mask: np.ndarray) -> np.ndarray:
    result = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            inside = 0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1]
            result[y, x] |= not inside or not mask[y + dy, x + dx]
    return result


def test_squares_three_pixels_apart() -> None:
    # 5 x 5 squares, one moved 3 px: both right and left sides (5 px each) lie 3 px from the other outline.
    hd95, surface_dice = surface_figures(square(20, 5, 8, 5), square(20, 5, 5, 5), tolerance=2)
    assert hd95 == pytest.approx(3)
    # Of 16 outline pixels of each, those over 2 px away: the far side (5 px) alone, its neighbours are 2 px away.
    assert surface_dice == pytest.approx(22 / 32)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        pytest.param(square(30, 0, 0, 0), square(30, 0, 0, 0), (0.0, 1.0), id="both empty"),
        pytest.param(square(30, 0, 0, 0), square(30, 4, 4, 9), (math.hypot(30, 30), 0.0), id="missed"),
        pytest.param(square(30, 4, 4, 9), square(30, 0, 0, 0), (math.hypot(30, 30), 0.0), id="false alarm"),
        pytest.param(square(30, 4, 4, 9), square(30, 4, 4, 9), (0.0, 1.0), id="perfect"),
        pytest.param(square(30, 0, 0, 30), square(30, 0, 0, 30), (0.0, 1.0), id="all lesion"),
    ],
)
def test_extremes(prediction, truth, expected) -> None:
    assert surface_figures(prediction, truth, 2.0) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_outline_equals_a_naive_loop(seed: int) -> None:
    mask = blob(seed)
    np.testing.assert_array_equal(outline(mask), naive_outline(mask))
    np.testing.assert_array_equal(outline_points(mask), np.argwhere(naive_outline(mask)))


@pytest.mark.parametrize("seed", range(4))
def test_equals_brute_force(seed: int) -> None:
    prediction, truth = blob(seed), blob(seed + 100)
    distances = cdist(np.argwhere(naive_outline(prediction)), np.argwhere(naive_outline(truth)))
    to_truth, to_prediction = distances.min(axis=1), distances.min(axis=0)
    both = np.concatenate([to_truth, to_prediction])
    hd95, surface_dice = surface_figures(prediction, truth, 2.0)
    assert hd95 == pytest.approx(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))
    assert surface_dice == pytest.approx((both <= 2.0).mean())


@pytest.mark.parametrize("tolerance", [0.0, 2.0, 5.0])
def test_equals_monai(tolerance: float) -> None:
    prediction, truth = blob(7), blob(8)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    hd95, surface_dice = surface_figures(prediction, truth, tolerance)
    theirs = compute_hausdorff_distance(*tensors, include_background=True, percentile=95)
    assert hd95 == pytest.approx(theirs.item(), rel=1e-5)
    theirs = compute_surface_dice(*tensors, [tolerance], include_background=True)
    assert surface_dice == pytest.approx(theirs.item(), rel=1e-5)


def test_symmetric_and_the_same_wherever_the_masks_lie() -> None:
    prediction, truth = blob(9), blob(10)
    expected = surface_figures(prediction, truth, 2.0)
    assert surface_figures(truth, prediction, 2.0) == pytest.approx(expected)
    inner = [np.pad(mask, 3) for mask in (prediction, truth)]
    assert surface_figures(*inner, 2.0) == pytest.approx(expected)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        surface_figures(blob(0), blob(0).T, 2.0)
    with pytest.raises(ValueError, match="-1 pixels"):
        surface_figures(blob(0), blob(0), -1)
