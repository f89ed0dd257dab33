"""Where a mask is, and how much of two masks is the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks (H, W); 1 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def expected_iou(probability: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """IoU of a mask with a truth whose pixels are lesion with this probability, expectations in both sums.

    sum_mask p / (|mask| + sum_outside p); 1 for p = mask, and for no mask where p is 0 everywhere.
    """
    inside = float(probability[mask].sum())
    union = np.count_nonzero(mask) + float(probability[~mask].sum())
    return inside / union if union else 1.0


def bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that a mask (H, W) with at least one pixel extends over."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def innermost(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre x, y of the pixel of a mask (H, W) that is farthest from its border; the picture's edge is a border."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return x + 0.5, y + 0.5
