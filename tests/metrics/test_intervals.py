"""The bootstrap: against a naive resampling of groups, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from scripts.metrics.intervals import (
    draw_weights,
    mean_of_sums,
    percentile_interval,
    share_with_interval,
    sum_by_group,
    with_interval,
)


def test_sums_by_group_by_hand() -> None:
    sums = sum_by_group(["b", "a", "b"], np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]))
    np.testing.assert_array_equal(sums, [[2, 20], [4, 40]])


def test_each_draw_has_as_many_groups_and_is_seeded() -> None:
    weights = draw_weights(7, 50, seed=3)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, draw_weights(7, 50, seed=3))
    assert not np.array_equal(weights, draw_weights(7, 50, seed=4))


def test_weighted_sums_are_the_mean_over_drawn_groups() -> None:
    groups = ["a", "a", "b", "c", "c", "c"]
    values = np.array([0.1, 0.2, 0.9, 0.4, 0.5, 0.6])
    sums = sum_by_group(groups, np.stack([values, np.ones(6)], axis=1))
    weights = draw_weights(3, 20, seed=0)
    drawn = weights @ sums
    for row, weight in zip(drawn, weights, strict=True):
        members = []
        for group, times in zip("abc", weight.astype(int), strict=True):
            members += [value for value, name in zip(values, groups, strict=True) if name == group] * times
        assert row[0] / row[1] == pytest.approx(np.mean(members))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        sample = random.normal(0.7, 0.1, size=40)
        low, high = percentile_interval(draw_weights(40, 400, seed=trial) @ sample / 40)
        covered += low <= 0.7 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_undefined_draws() -> None:
    values = np.array([0.1, 0.2, 0.3, np.nan])
    low, high = percentile_interval(values)
    assert 0.1 <= low <= high <= 0.3
    assert percentile_interval(np.array([0.1, np.nan, np.nan])) is None
    assert percentile_interval(np.empty(0)) is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_alarm_in_forty_groups_is_not_certainty(share: float) -> None:
    names = [f"g{number}" for number in range(40)]
    value, interval = share_with_interval(
        names, np.stack([np.full(40, share), np.ones(40)], axis=1), draw_weights(40, 50, seed=0)
    )
    exact = binomtest(int(40 * share), 40).proportion_ci(0.95, method="exact")
    assert value == share
    assert interval == pytest.approx((exact.low, exact.high))
    assert abs(interval[0] - interval[1]) == pytest.approx(0.088, abs=1e-3)


def test_the_exact_interval_counts_the_groups_that_have_the_figure() -> None:
    groups = ["a", "a", "b", "c"]  # c has no frame that counts
    values = np.array([[0, 1], [0, 1], [0, 1], [0, 0]], dtype=float)
    _, interval = share_with_interval(groups, values, draw_weights(3, 50, seed=0))
    assert interval == pytest.approx((0, 1 - 0.025 ** (1 / 2)))


def test_a_share_between_none_and_all_has_the_bootstrap_of_groups() -> None:
    groups = [f"g{number}" for number in range(10)]
    values = np.stack([np.arange(10) < 3, np.ones(10)], axis=1).astype(float)
    weights = draw_weights(10, 200, seed=0)
    assert share_with_interval(groups, values, weights) == with_interval(groups, values, mean_of_sums, weights)
    _, alone = share_with_interval(["a"] * 10, values * [0, 1], draw_weights(1, 50, seed=0))
    assert alone is None


def test_draws_that_are_all_alike_are_no_interval() -> None:
    groups, weights = ["a", "b", "c"], draw_weights(3, 50, seed=0)
    alike = np.array([[0.7, 1.0]] * 3)
    assert with_interval(groups, alike, mean_of_sums, weights) == (pytest.approx(0.7), None)
    assert share_with_interval(groups, alike, weights) == (pytest.approx(0.7), None)
    _, interval = with_interval(groups, alike + [[0, 0], [0.1, 0], [0, 0]], mean_of_sums, weights)
    assert interval[0] < interval[1]
