"""Figures of single frames against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.engines.frame_quality import frame_quality, pairwise_agreement


def bits(text: str) -> np.ndarray:
    return np.array([[c == "1" for c in text]])


def test_agreement_by_hand() -> None:
    a, b, c = bits("1100"), bits("0110"), bits("1110")
    assert pairwise_agreement([a, b]) == pytest.approx(2 * 1 / 4)
    # pairs: ab 1/2, ac 2*2/5, bc 2*2/5
    assert pairwise_agreement([a, b, c]) == pytest.approx((0.5 + 0.8 + 0.8) / 3)


def test_agreement_of_empty_masks() -> None:
    empty, full = bits("0000"), bits("1111")
    assert pairwise_agreement([empty, empty]) == 1.0
    assert pairwise_agreement([empty, full]) == 0.0
    assert pairwise_agreement([empty, empty, full]) == pytest.approx(1 / 3)
    assert pairwise_agreement([full]) is None


def test_agreement_equals_a_naive_count() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((9, 7)) > 0.6 for _ in range(3)]
    scores = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = sum(1 for p, q in zip(masks[i].ravel(), masks[j].ravel(), strict=True) if p and q)
        scores.append(2 * both / (sum(masks[i].ravel().tolist()) + sum(masks[j].ravel().tolist())))
    assert pairwise_agreement(masks) == pytest.approx(sum(scores) / 3)


def test_agreement_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="one shape"):
        pairwise_agreement([np.zeros((2, 3), bool), np.zeros((3, 2), bool)])


def test_figures_by_hand() -> None:
    network = np.array([[0.9, 0.7, 0.5, 0.2], [0.1, 0.1, 0.1, 0.0]])
    flip = np.array([[0.9, 0.2, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    figures = frame_quality({"network": network, "flip": flip})
    assert (figures["width"], figures["height"], figures["lesion_px"]) == (4, 2, 2)  # 0.5 is not above 0.5
    assert figures["lesion_share"] == 0.25
    assert figures["mean_confidence"] == pytest.approx((0.9 + 0.7 + 0.5 + 0.8 + 0.9 * 3 + 1.0) / 8)
    assert figures["lesion_confidence"] == pytest.approx(0.8)
    assert figures["agreement"] == pytest.approx(2 * 1 / 3)
    assert (figures["agreement_of"], figures["quality"]) == ("network+flip", "check")
    assert frame_quality({"network": network, "flip": flip}, lowest_agreement=0.6)["quality"] == "ok"


def test_figures_without_lesion_or_companion() -> None:
    figures = frame_quality({"network": np.zeros((2, 2))})
    assert (figures["lesion_px"], figures["lesion_confidence"], figures["mean_confidence"]) == (0, None, 1.0)
    assert (figures["agreement"], figures["quality"]) == (None, "not compared")


def test_quality_at_the_threshold_is_ok() -> None:
    figures = frame_quality({"network": bits("1111100000") * 0.9, "flip": bits("0111110000") * 0.9})
    assert figures["agreement"] == 0.8 and figures["quality"] == "ok"  # 2 * 4 / 10
