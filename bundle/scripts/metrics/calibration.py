"""Whether a lesion probability of 0.7 is right 7 times in 10: ECE in the lesion band, temperature scaling.

Most pixels of a frame are surely background; over the whole frame any model looks calibrated. The *lesion band* is
where it matters: pixels at most `BAND_SHARE` of the image diagonal, counted along rows and columns, from the true or
the predicted outline. It contains confident errors (a band of middling probabilities would leave them out), and
temperature scaling does not move it, so that the figures before and after speak of the same pixels.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from scripts.metrics.surface import outline_points

BAND_SHARE = 0.02  # half-width of the lesion band, share of the image diagonal: 16 px at 600 x 500
BINS = 15  # equal-width bins of the lesion probability over 0..1
PIXELS_PER_IMAGE = 2000  # kept for calibration, so that each image weighs alike and memory is bounded: 18 kB an image
CLIP = 1e-6  # probabilities are kept this far from 0 and 1, where the logit is infinite
TEMPERATURES = (0.05, 20.0)  # searched range


def lesion_band(prediction: np.ndarray, truth: np.ndarray, share: float = BAND_SHARE) -> np.ndarray:
    """Boolean (H, W): True near the outline of boolean (H, W) `prediction` or `truth`; all False if both are empty."""
    reach = max(1, round(share * math.hypot(*truth.shape)))
    band = np.zeros(truth.shape, dtype=np.uint8)
    for points in (outline_points(prediction), outline_points(truth)):
        band[points[:, 0], points[:, 1]] = 1
    for axis in (0, 1):
        band = maximum_filter1d(band, 2 * reach + 1, axis=axis, mode="constant")
    return band.astype(bool)


def sample_band(
    file: str, probability: np.ndarray, truth: np.ndarray, limit: int = PIXELS_PER_IMAGE
) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` band pixels of one image: lesion probability float32 (N,) and truth bool (N,).

    Drawn without replacement; the seed is the CRC-32 of `file`, so that the sample depends neither on the order in
    which images arrive nor on the process that holds them.
    """
    index = np.flatnonzero(lesion_band(probability > 0.5, truth))
    if len(index) > limit:
        seed = zlib.crc32(file.encode("utf-8", "surrogateescape"))
        index = np.random.default_rng(seed).choice(index, limit, replace=False)
    return probability.reshape(-1)[index].astype(np.float32), truth.reshape(-1)[index]


def scale(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Lesion probabilities after temperature scaling, float64: sigmoid(logit(p) / T).

    For two classes this is softmax(logits / T) exactly (Guo et al. 2017, arXiv 1706.04599, equation 9).
    """
    clipped = np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1 - CLIP)
    return expit(logit(clipped) / temperature)


def bin_sums(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Float64 (3, bins): pixels, summed lesion probability and lesion pixels of each bin; sums of images may be added.

    Bin k holds k/bins <= p < (k+1)/bins, the last one also p = 1.
    """
    index = np.minimum((np.asarray(probability, dtype=np.float64) * bins).astype(int), bins - 1)
    weights = (None, probability, truth.astype(np.float64))
    return np.stack([np.bincount(index, weight, minlength=bins).astype(np.float64) for weight in weights])


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """Expected calibration error, 0..1, from bin sums (..., 3, bins); nan without pixels.

    Sum over bins of (share of the pixels) * |mean probability - share of lesion| (Guo et al. 2017, equation 3, on the
    lesion probability itself).
    """
    pixels, probability, lesion = sums[..., 0, :], sums[..., 1, :], sums[..., 2, :]
    total = pixels.sum(axis=-1)
    gap = np.abs(probability - lesion).sum(axis=-1)
    return np.divide(gap, total, out=np.full_like(gap, np.nan), where=total > 0)


def fit_temperature(probability: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the least negative log-likelihood, within `TEMPERATURES`; over 1 softens, under 1 sharpens.

    Args:
        probability: lesion probability (N,), 0..1. truth: bool (N,).

    Raises:
        ValueError: without pixels.
    """
    if len(probability) == 0:
        raise ValueError(
            "No pixel lies in the lesion band, expected some: no image has a lesion or a predicted one; give the"
            " validation split images with a lesion."
        )
    logits = logit(np.clip(np.asarray(probability, dtype=np.float64), CLIP, 1 - CLIP))
    signed = np.where(truth, -logits, logits)

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, signed / math.exp(log_temperature)).mean())

    low, high = (math.log(bound) for bound in TEMPERATURES)
    found = minimize_scalar(negative_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x)
