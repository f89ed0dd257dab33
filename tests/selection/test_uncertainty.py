"""Uncertainty of one frame: numbers that can be worked out on paper, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import zoom

from scripts.selection.uncertainty import boundary_length, lesion_band_entropy, pixel_uncertainty, stratum


def soft_disc(side: int, radius: float, width: float, centre: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    """Lesion probability (side, side) of a disc with a soft edge; radius and width are shares of the side."""
    rows, columns = (np.mgrid[:side, :side] + 0.5) / side
    distance = np.hypot(rows - centre[0], columns - centre[1])
    return 1 / (1 + np.exp((distance - radius) / width))


def test_bits_of_a_pixel() -> None:
    bits = pixel_uncertainty(np.array([[0.0, 0.5, 1.0, 0.25, 0.75]]))
    # H(1/4) = 1/4 * 2 + 3/4 * log2(4/3)
    assert bits[0] == pytest.approx([0, 1, 0, 0.811278, 0.811278], abs=1e-6)
    assert bits.dtype == np.float32 and bits.shape == (1, 5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bits_stay_in_range(dtype: type) -> None:
    p = np.linspace(0, 1, 1001, dtype=dtype)[None]
    bits = pixel_uncertainty(p)
    assert bits.min() == 0 and 0.999 < bits.max() <= 1


def test_a_straight_edge_by_hand() -> None:
    """40 x 40: sure lesion left, sure background right, one column of p = 1/4 between."""
    p = np.zeros((40, 40))
    p[:, :20], p[:, 20] = 1.0, 0.25
    # 40 upright steps and 2 * 39 slanted ones
    outline = np.pi / 8 * (40 + 78 / np.sqrt(2))
    assert boundary_length(p > 0.5) == pytest.approx(outline)
    assert lesion_band_entropy(p) == pytest.approx(40 * 0.811278 / (outline * 40), rel=1e-5)


def test_without_a_lesion_the_smallest_finding_takes_its_place() -> None:
    p = np.zeros((50, 50))
    p[10:20, 10:20] = 0.5  # 1 bit each; not above 0.5, so nothing is predicted
    assert boundary_length(p > 0.5) == 0
    # 0.2 % of 2500 pixels are 5: a disc of perimeter 2 sqrt(5 pi) = 7.927
    assert lesion_band_entropy(p) == pytest.approx(100 / (7.9266546 * 50))


def test_a_speck_is_no_outline() -> None:
    """Doubt all over, and one pixel above 0.5: not divided by the outline of one pixel."""
    p = np.full((50, 50), 0.5)
    assert lesion_band_entropy(p) == pytest.approx(1 / (2 * np.sqrt(np.pi * 0.002)))  # the most there can be
    p[25, 25] = 0.500001
    assert boundary_length(p > 0.5) == pytest.approx(np.pi / 8 * (4 + 4 / np.sqrt(2)))
    assert lesion_band_entropy(p) == pytest.approx(1 / (2 * np.sqrt(np.pi * 0.002)))


@pytest.mark.parametrize("value", [0.0, 0.05, 0.95, 1.0])
def test_sure_pixels_do_not_count(value: float) -> None:
    assert lesion_band_entropy(np.full((20, 20), value)) == 0


@pytest.mark.parametrize("radius", [0.05, 0.2, 0.35])
def test_the_same_picture_at_another_size(radius: float) -> None:
    small, large = (lesion_band_entropy(soft_disc(side, radius, 0.02)) for side in (256, 512))
    assert large == pytest.approx(small, rel=0.03)
    enlarged = zoom(soft_disc(256, radius, 0.02), 2, order=1)
    assert lesion_band_entropy(enlarged) == pytest.approx(small, rel=0.03)


def test_a_softer_edge_scores_higher_and_a_larger_lesion_does_not() -> None:
    sharp, soft, large = (
        lesion_band_entropy(soft_disc(256, radius, width))
        for radius, width in ((0.15, 0.01), (0.15, 0.02), (0.4, 0.01))
    )
    assert soft == pytest.approx(2 * sharp, rel=0.05), "twice the width, twice the score"
    assert large == pytest.approx(sharp, rel=0.05)


def test_background_does_not_dilute() -> None:
    """The same soft lesion in a frame of four times the area: half the share of the side, not a quarter."""
    p = soft_disc(128, 0.2, 0.02)
    wide = np.zeros((256, 256))
    wide[64:192, 64:192] = p
    assert lesion_band_entropy(wide) == pytest.approx(lesion_band_entropy(p) / 2, rel=0.01)


def test_turning_the_frame_changes_little() -> None:
    """A soft straight edge, upright and at 45 degrees, on the same disc of pixels."""
    rows, columns = np.mgrid[:400, :400] - 199.5
    inside = np.hypot(rows, columns) < 180
    scores = [
        lesion_band_entropy(np.where(inside, 1 / (1 + np.exp(d / 4)), 0.0)) for d in (rows, (rows + columns) / 2**0.5)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=0.02)


@pytest.mark.parametrize("radius", [10.3, 40.7, 90.1])
def test_outline_of_a_disc(radius: float) -> None:
    rows, columns = np.mgrid[:200, :200] - 99.6
    assert boundary_length(np.hypot(rows, columns) < radius) == pytest.approx(2 * np.pi * radius, rel=0.02)


def test_the_border_of_the_frame_is_no_outline() -> None:
    assert boundary_length(np.ones((9, 9), dtype=bool)) == 0


@pytest.mark.parametrize(
    ("inside", "area", "expected"),
    [
        (0.9, 20, "lesion"),  # 0.2 % of 100 x 100 pixels
        (0.9, 19, "clear"),  # a speck
        (0.5, 20, "uncertain"),  # not above 0.5
        (0.21, 20, "uncertain"),
        (0.2, 5000, "clear"),  # not above 0.2
        (0.0, 1, "clear"),
    ],
)
def test_strata(inside: float, area: int, expected: str) -> None:
    p = np.zeros(10000)
    p[:area] = inside
    assert stratum(p.reshape(100, 100)) == expected


@pytest.mark.parametrize("function", [pixel_uncertainty, lesion_band_entropy, stratum])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 8, 8)), r"\(1, 8, 8\) float64; expected"),
        (np.zeros((8, 8), dtype=np.uint8), "uint8; expected"),
        (np.full((8, 8), 1.5), "goes from 1.5 to 1.5; expected 0..1"),
        (np.full((8, 8), -3.0), "goes from -3.0"),
        (np.full((8, 8), np.nan), "goes from nan"),
    ],
)
def test_what_is_no_probability_is_refused(function, bad: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(bad)
