"""Masks -> polygons, as CVAT's plug-in for MONAI Label takes them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

SMALLEST_AREA = 9  # pixels; specks are no help to somebody who corrects outlines
TOLERANCE = 0.7  # pixels by which an outline may leave the mask's edge


def mask_polygons(mask: np.ndarray, smallest_area: int = SMALLEST_AREA) -> list[list[list[int]]]:
    """Outer outlines of a mask (H, W) of 0 and more -> [[[x, y], ...], ...], at least three points each.

    Holes are filled: CVAT's polygons have none.
    """
    outlines, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = []
    for outline in sorted(outlines, key=cv2.contourArea, reverse=True):
        filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), [outline], -1, 1, cv2.FILLED)
        corners = cv2.approxPolyDP(outline, TOLERANCE, closed=True)[:, 0]
        if filled.sum() >= smallest_area and len(corners) >= 3:
            found.append(corners.tolist())
    return found


def annotations(masks: np.ndarray, label: str = "lesion", colour: tuple[int, int, int] = (255, 0, 0)) -> list[dict]:
    """Masks of a file's frames (D, H, W) -> the "annotations" of MONAI Label's endoscopy app, one entry a frame."""
    found: list[dict[str, Any]] = []
    for frame, mask in enumerate(masks):
        outlines = mask_polygons(mask)
        elements = [{"label": label, "contours": outlines}] if outlines else []
        found.append({"frame": frame, "annotation": {"elements": elements, "labels": {label: list(colour)}}})
    return found
