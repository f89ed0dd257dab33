"""Overlap of successive masks, by hand and against the mean of the project's Dice."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.metrics.confusion import confusion_counts, overlap_figures
from scripts.metrics.temporal_consistency import TemporalConsistency


def stripe(first: int, after: int, width: int = 10) -> np.ndarray:
    mask = np.zeros((4, width), dtype=bool)
    mask[:, first:after] = True
    return mask


def test_by_hand() -> None:
    consistency = TemporalConsistency()
    assert consistency.value is None and consistency.lesion_value is None
    assert consistency.update(stripe(0, 4)) is None
    assert consistency.update(stripe(2, 6)) == pytest.approx(0.5)
    assert consistency.update(stripe(0, 0)) == 0
    assert consistency.update(stripe(0, 0)) == 1
    assert consistency.pairs == 3
    assert consistency.value == pytest.approx(0.5) and consistency.lesion_value == pytest.approx(0.25)


def test_a_change_of_scene_or_of_size_is_left_out() -> None:
    consistency = TemporalConsistency()
    consistency.update(stripe(0, 4))
    assert consistency.update(stripe(5, 9), scene_change=True) is None
    assert consistency.update(stripe(5, 9)) == 1
    consistency.reset()
    assert consistency.update(stripe(0, 4)) is None
    assert consistency.update(stripe(0, 4, width=12)) is None
    assert (consistency.pairs, consistency.value) == (1, 1.0)


def test_the_same_as_the_projects_dice() -> None:
    masks = np.random.default_rng(0).random((6, 9, 7)) < np.array([0.5, 0.2, 0, 0, 0.7, 0.1])[:, None, None]
    consistency = TemporalConsistency()
    buffer = np.empty((9, 7), dtype=bool)  # one that is written over, as a video loop does
    for mask in masks:
        buffer[:] = mask
        consistency.update(buffer)
    pairs = zip(masks[1:], masks[:-1], strict=True)
    expected = np.mean([overlap_figures(*confusion_counts(now, before))["dice"] for now, before in pairs])
    assert consistency.value == pytest.approx(float(expected))


def test_only_masks() -> None:
    with pytest.raises(ValueError, match="threshold it first"):
        TemporalConsistency().update(np.full((4, 4), 0.3))
    with pytest.raises(ValueError, match=r"\(1, 4, 4\)"):
        TemporalConsistency().update(np.zeros((1, 4, 4), dtype=bool))
