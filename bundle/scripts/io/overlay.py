"""Outlines of the predicted and the true lesion, drawn on the frame so that both stay visible on mucosa."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import distance_transform_edt

# Green and magenta stay apart for the common colour deficiencies (one light, one strong); the fill is the prediction's
# alone and the dark rim parts both from any tissue, so that they can be told apart without colour too.
TRUTH_COLOUR = (64, 255, 128)
PREDICTION_COLOUR = (255, 0, 220)
RIM_COLOUR = (20, 20, 20)
FILL_OPACITY = 0.2
DIAGONAL_PER_LINE = 240  # pixels of image diagonal for each pixel of line width


def line_width(height: int, width: int) -> int:
    """Width of an outline in pixels: 2 up to 600 px of diagonal, 3 at 600 x 500, 9 at full HD."""
    return max(2, round(math.hypot(height, width) / DIAGONAL_PER_LINE))


def draw_overlay(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None) -> np.ndarray:
    """Draw the predicted lesion (magenta outline and translucent fill) and the true one (green outline) on a frame.

    Args:
        image: (H, W, 3) uint8 RGB. prediction, truth: boolean (H, W); truth may be None.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: for another type or for shapes that do not fit.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.shape} {image.dtype}, expected (H, W, 3) uint8.")
    masks = {"prediction": prediction} if truth is None else {"prediction": prediction, "truth": truth}
    for name, mask in masks.items():
        if mask.shape != image.shape[:2] or mask.dtype != bool:
            raise ValueError(f"{name} is {mask.shape} {mask.dtype}, expected {image.shape[:2]} bool.")
    drawn = image.astype(np.float32)
    drawn[prediction] += FILL_OPACITY * (np.float32(PREDICTION_COLOUR) - drawn[prediction])
    drawn = drawn.round().astype(np.uint8)
    width = line_width(*image.shape[:2])
    # The truth is drawn last and lies inside its mask, the prediction's line outside of its own: where both masks
    # agree, the lines run side by side instead of one hiding the other.
    lines = [(_band(prediction, width, outside=True), PREDICTION_COLOUR)]
    if truth is not None:
        lines.append((_band(truth, width, outside=False), TRUTH_COLOUR))
    for distance, _ in lines:
        rim = (distance > width) & (distance <= width + 1)
        drawn[rim] = (drawn[rim].astype(np.uint16) + RIM_COLOUR) // 2
    for distance, colour in lines:
        drawn[(distance > 0) & (distance <= width)] = colour
    return drawn


def box_around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the box around a mask, (H, W) bool and not empty, `margin` pixels wider on each side."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + margin + 1),
        slice(max(0, columns[0] - margin), columns[-1] + margin + 1),
    )


def _band(mask: np.ndarray, width: int, outside: bool) -> np.ndarray:
    """Distance to the mask's edge, float (H, W), pixels; on one side of it and near it, 0 elsewhere.

    The border of the frame is no edge. Only the box around the mask is worked on.
    """
    distance = np.zeros(mask.shape, dtype=np.float32)
    if not mask.any() or mask.all():
        return distance
    box = box_around(mask, margin=width + 2)
    distance[box] = distance_transform_edt(~mask[box] if outside else mask[box])
    return distance
