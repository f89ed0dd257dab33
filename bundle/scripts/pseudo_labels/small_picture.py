"""Prompts on a smaller grid: classical segmenters need seconds at full size and see no more there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

UNKNOWN, OBJECT, BACKGROUND = 0, 1, 2
CORE = 0.05  # share of the largest distance to the border beyond which a pixel of a rough mask is surely the object
SURE = 4.0  # logit (probability .02) below which a pixel is surely the background


@dataclass(frozen=True)
class SmallPicture:
    """A picture whose longer side has at most ``side`` pixels, and the way back.

    Attributes:
        pixels: (h, w, 3) uint8. size: (H, W) of the original.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]

    @classmethod
    def of(cls, image: NDArray[np.uint8], side: int) -> SmallPicture:
        """Shrink a picture (H, W, 3); a smaller one stays as it is."""
        height, width = image.shape[:2]
        scale = min(1.0, side / max(height, width))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = image if scale == 1 else cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        return cls(pixels, (height, width))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the small grid."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the small pixel that holds a point of the original."""
        (height, width), (rows, columns) = self.size, self.shape
        return min(int(y * rows / height), rows - 1), min(int(x * columns / width), columns - 1)

    def box(self, box: NDArray[np.float32], grow: float = 0.0) -> tuple[slice, slice]:
        """Rows and columns of a box, each side moved out by ``grow`` of its length; at least one pixel."""
        (height, width), (rows, columns) = self.size, self.shape
        x0, y0, x1, y1 = np.asarray(box, np.float64) * ([columns / width, rows / height] * 2)
        dx, dy = grow * (x1 - x0), grow * (y1 - y0)
        top, left = int(np.clip(np.floor(y0 - dy), 0, rows - 1)), int(np.clip(np.floor(x0 - dx), 0, columns - 1))
        bottom, right = int(np.clip(np.ceil(y1 + dy), top + 1, rows)), int(np.clip(np.ceil(x1 + dx), left + 1, columns))
        return slice(top, bottom), slice(left, right)

    def shrink(self, grid: NDArray[np.floating]) -> NDArray[np.float32]:
        """A map over the whole picture (any height and width) on the small grid."""
        rows, columns = self.shape
        smaller = grid.shape[0] > rows
        method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        return cv2.resize(np.asarray(grid, np.float32), (columns, rows), interpolation=method)

    def restore(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Where logits (h, w) are above 0, at the size of the original."""
        height, width = self.size
        large = cv2.resize(np.asarray(logits, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return large > 0


def trimap(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """What a rough mask (h, w) leaves open: OBJECT in its core, BACKGROUND where it surely denies, UNKNOWN around.

    Colours alone know no lesions: with more left open, both classical segmenters make a student's masks worse.
    """
    depth = ndimage.distance_transform_edt(np.pad(logits > 0, 1))[1:-1, 1:-1]
    found = np.full(logits.shape, UNKNOWN, np.int64)
    found[(depth > CORE * depth.max()) & (depth > 0)] = OBJECT
    found[logits < -SURE] = BACKGROUND
    return found
