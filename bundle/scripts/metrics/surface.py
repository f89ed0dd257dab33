"""How far the predicted outline lies from the true one: HD95 and normalised surface Dice, in pixels."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a boolean (H, W) mask that touch a pixel outside it (4-neighbours), as boolean (H, W).

    A lesion cut off by the border of the frame has its outline there too.
    """
    return mask & ~binary_erosion(mask)


def surface_figures(prediction: np.ndarray, truth: np.ndarray, tolerance: float) -> tuple[float, float]:
    """HD95 in pixels and the normalised surface Dice (0..1) of one image.

    HD95 is the larger of the two directed 95th percentiles of the distances between outlines; the surface Dice is the
    share of the pixels of both outlines that lie within `tolerance` of the other one (Nikolov et al. 2018,
    arXiv 1809.04430, in the pixel-count form of arXiv 2111.05408). Both agree with MONAI's where MONAI defines them.
    Empty masks: both empty gives 0 and 1; one empty gives the image diagonal and 0, so that a missed lesion counts as
    the worst distance instead of dropping out of the mean.

    Args:
        prediction, truth: boolean (H, W) at the resolution the figure is wanted for.
        tolerance: pixels, at least 0.

    Raises:
        ValueError: when the shapes differ or the tolerance is negative.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, truth {truth.shape}, expected one shape.")
    if tolerance < 0:
        raise ValueError(f"surface tolerance is {tolerance} pixels, expected 0 or more.")
    predicted_points, true_points = outline_points(prediction), outline_points(truth)
    if len(predicted_points) == 0 and len(true_points) == 0:
        return 0.0, 1.0
    if len(predicted_points) == 0 or len(true_points) == 0:
        return math.hypot(*truth.shape), 0.0
    # A tree over the outlines: some thousand points, where a distance map has some hundred thousand.
    to_truth, _ = cKDTree(true_points).query(predicted_points)
    to_prediction, _ = cKDTree(predicted_points).query(true_points)
    hd95 = max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95))
    within = np.count_nonzero(to_truth <= tolerance) + np.count_nonzero(to_prediction <= tolerance)
    return float(hd95), within / (len(to_truth) + len(to_prediction))


def outline_points(mask: np.ndarray) -> np.ndarray:
    """Row and column of each outline pixel, int (N, 2); erodes inside the bounding box only."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return np.empty((0, 2), dtype=np.intp)
    top, left = rows[0], columns[0]
    box = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    return np.argwhere(outline(box)) + (top, left)
