"""The bootstrap: against a naive resampling of groups, and its coverage."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.metrics.intervals import draw_weights, percentile_interval, sum_by_group


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
