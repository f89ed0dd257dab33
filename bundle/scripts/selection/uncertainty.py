"""How unsure a network is of one frame: a map, one number, and the kind of frame it seems to be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from scripts.selection.candidates import CLEAR, LESION, UNCERTAIN

BAND = (0.05, 0.95)  # lesion probabilities between which a pixel is doubtful
LEAST_AREA = 0.002  # of the frame: fewer pixels are noise, not a finding; a disc of 5 % of a square frame's side
DOUBTFUL = 0.2  # lesion probability from which on a pixel speaks against a clear frame


def pixel_uncertainty(probability: NDArray[np.floating]) -> NDArray[np.float32]:
    """Binary entropy of each pixel, bits: 0 where the network is sure, 1 where the lesion probability is 0.5.

    Shape: probability (H, W) in 0..1, output (H, W) float32 in 0..1.
    Raises ValueError: another shape, or values outside 0..1 (nan among them).
    """
    p = _checked(probability)
    return ((entr(p) + entr(1 - p)) / np.float32(np.log(2))).clip(0, 1).astype(np.float32)


def lesion_band_entropy(probability: NDArray[np.floating]) -> float:
    """Mean width of the doubtful band along the predicted outline, as a share of the frame's side; 0 and up.

    score = sum of H(p) over 0.05 < p < 0.95 / (L * side), H in bits, side = sqrt(H W) in pixels, L the length of the
    outline of p > 0.5 in pixels, at least the perimeter of a disc of LEAST_AREA (0.16 sides). Not divided by all
    pixels, so that a small lesion with a doubtful edge is not drowned in sure background; divided by the outline, so
    that a large lesion does not win by its size. The least L is for frames without a predicted lesion, or with specks
    of one: all doubt of the frame is counted as that of the smallest finding there is. It bounds the score by 6.3,
    doubt all over the frame. Divided by the side, the score is the same at any resolution, but for rounding.

    Args:
        probability: of lesion, (H, W) in 0..1, not thresholded.

    Raises:
        ValueError: another shape, or values outside 0..1 (nan among them).
    """
    p = _checked(probability)
    band = (p > BAND[0]) & (p < BAND[1])
    doubt = float(pixel_uncertainty(p)[band].sum(dtype=np.float64))
    least = 2 * math.sqrt(math.pi * LEAST_AREA * p.size)
    return doubt / (max(boundary_length(p > 0.5), least) * math.sqrt(p.size))


def boundary_length(mask: NDArray[np.bool_]) -> float:
    """Length of the outline of a mask (H, W) bool, pixels; the border of the frame is no outline.

    Crofton's formula with the lines of four directions: right to 2 % for a disc, at most 5.2 % short for straight
    lines. Counting pixel edges would make a slanted outline up to 41 % longer than an upright one.
    """
    straight = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    slanted = np.count_nonzero(mask[1:, 1:] != mask[:-1, :-1]) + np.count_nonzero(mask[1:, :-1] != mask[:-1, 1:])
    return float(np.pi / 8 * (straight + slanted / np.sqrt(2)))


def stratum(probability: NDArray[np.floating]) -> str:
    """The kind of frame the network sees, from lesion probabilities (H, W) in 0..1.

    "lesion": p > 0.5 on at least 0.2 % of the frame. "clear": p > 0.2 on less than that. "uncertain": what is between.
    Raises ValueError: another shape, or values outside 0..1 (nan among them).
    """
    p = _checked(probability)
    least = LEAST_AREA * p.size
    if np.count_nonzero(p > 0.5) >= least:
        return LESION
    return CLEAR if np.count_nonzero(p > DOUBTFUL) < least else UNCERTAIN


def _checked(probability: NDArray[np.floating]) -> NDArray[np.floating]:
    p = np.asarray(probability)
    if p.ndim != 2 or p.size == 0 or p.dtype.kind != "f":
        raise ValueError(f"probability is {p.shape} {p.dtype}; expected lesion probabilities (H, W), floating point")
    if not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"probability goes from {p.min()} to {p.max()}; expected 0..1 (softmax of the logits)")
    return p
