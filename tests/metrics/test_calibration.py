"""ECE by hand and by a loop, the lesion band by a loop, the temperature by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.metrics.calibration import (
    bin_sums,
    calibration_error,
    fit_temperature,
    lesion_band,
    sample_band,
    scale,
)


def test_ece_by_hand() -> None:
    # Bin 0.9..1: mean .9, three of four right; bin .1..: mean .1, none of four is lesion -> .5*.15 + .5*.1
    probability = np.array([0.9] * 4 + [0.1] * 4)
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
    assert calibration_error(bin_sums(probability, truth)) == pytest.approx(0.125)


def test_the_last_bin_holds_one() -> None:
    sums = bin_sums(np.array([0.0, 1.0]), np.array([False, True]), bins=4)
    np.testing.assert_array_equal(sums, [[1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]])


def test_ece_equals_a_naive_loop_and_bins_add_up() -> None:
    random = np.random.default_rng(0)
    probability, truth = random.random(500), random.random(500) > 0.5
    expected = 0.0
    for k in range(15):
        inside = (probability >= k / 15) & (probability < (k + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(probability[inside].mean() - truth[inside].mean())
    halves = bin_sums(probability[:200], truth[:200]) + bin_sums(probability[200:], truth[200:])
    assert calibration_error(halves) == pytest.approx(expected)


def test_ece_without_pixels_is_nan() -> None:
    assert np.isnan(calibration_error(bin_sums(np.empty(0), np.empty(0, dtype=bool))))


def test_extremes() -> None:
    ones, truth = np.ones(10), np.zeros(10, dtype=bool)
    assert calibration_error(bin_sums(ones, ~truth)) == 0
    assert calibration_error(bin_sums(ones, truth)) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_scaling_is_softmax_of_divided_logits(temperature: float) -> None:
    logits = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.softmax(logits / temperature, dim=1)[:, 1].numpy()
    np.testing.assert_allclose(scale(torch.softmax(logits, dim=1)[:, 1].numpy(), temperature), expected, rtol=1e-6)


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5])
def test_temperature_is_found_and_mends_the_error(true_temperature: float) -> None:
    random = np.random.default_rng(1)
    calibrated = random.random(40000)
    truth = random.random(40000) < calibrated
    distorted = scale(calibrated, 1 / true_temperature)
    found = fit_temperature(distorted, truth)
    assert found == pytest.approx(true_temperature, rel=0.05)
    assert calibration_error(bin_sums(scale(distorted, found), truth)) < 0.02


def test_temperature_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="No pixel lies in the lesion band"):
        fit_temperature(np.empty(0), np.empty(0, dtype=bool))


def test_band_equals_a_naive_loop() -> None:
    truth = np.zeros((40, 60), dtype=bool)
    truth[10:25, 12:30] = True
    prediction = np.roll(truth, 20, axis=1)
    reach = 3  # 0.04 of a diagonal of 72.1 px
    expected = np.zeros_like(truth)
    for mask in (truth, prediction):
        for y, x in np.argwhere(mask):
            if mask[y - 1 : y + 2, x].all() and mask[y, x - 1 : x + 2].all():
                continue
            expected[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    np.testing.assert_array_equal(lesion_band(prediction, truth, share=0.04), expected)


def test_band_of_a_frame_without_anything_is_empty() -> None:
    nothing = np.zeros((20, 20), dtype=bool)
    assert not lesion_band(nothing, nothing).any()
    probability, truth = sample_band("a.png", np.full((20, 20), 0.2), nothing)
    assert len(probability) == len(truth) == 0


def test_sample_is_bounded_and_the_same_each_time() -> None:
    truth = np.zeros((100, 100), dtype=bool)
    truth[30:70, 30:70] = True
    probability = np.random.default_rng(2).random((100, 100))
    first, again = (sample_band("a.png", probability, truth, limit=50) for _ in range(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert len(first[0]) == 50
    other = sample_band("b.png", probability, truth, limit=50)
    assert not np.array_equal(first[0], other[0])
