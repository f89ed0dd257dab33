"""A student's probability map -> prompts: the lesions it sees, each with a box, points and a rough mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.pseudo_labels.masks import bounds, innermost
from scripts.pseudo_labels.promptable import NEGATIVE, NO_POINT, POSITIVE

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Prompts:
    """Prompts for the P lesions of a picture (H, W); what is switched off is None. See PromptableSegmenter.predict.

    Attributes:
        components: (P, H, W) bool, the student's own masks.
        left: (H, W) int, a number for each lesion that is not asked about, since there are more than ``most``; else 0.
        boxes: (P, 4). points: (P, N, 2). labels: (P, N). mask_logits: (P, H, W).
    """

    components: NDArray[np.bool_]
    boxes: NDArray[np.float32] | None
    points: NDArray[np.float32] | None
    labels: NDArray[np.int64] | None
    mask_logits: NDArray[np.float32] | None
    left: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.components)


class PromptBuilder:
    """Connected components of a probability map, and what to ask about each.

    Args:
        threshold: lesion is where the probability is above it.
        smallest_share: components below this share of the picture's pixels are no lesions.
        most: components that are asked about, those of the highest mean probability.
        box: ask by the component's bounding box, each side moved out by ``margin`` of its length.
        points: ask by the pixel that is farthest from the component's border, which lies inside whatever its shape.
        negatives: beside the points, those of the other components and one beyond each side of the box.
        mask: ask by the logits of the component, clipped to +-``clip``; 6.9 is a probability of 0.999.

    Raises:
        ValueError: nothing to ask by, or a number out of its range.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        smallest_share: float = 0.001,
        most: int = 5,
        box: bool = True,
        points: bool = True,
        negatives: bool = True,
        mask: bool = True,
        margin: float = 0.05,
        clip: float = 6.9,
    ) -> None:
        if not (box or points or mask):
            raise ValueError("no prompt is left: switch on box, points or mask.")
        for name, value, low, high in (("threshold", threshold, 0, 1), ("smallest_share", smallest_share, 0, 1)):
            if not low <= value < high:
                raise ValueError(f"{name} is {value}; expected a number from {low} up to, but not, {high}.")
        if most < 1 or margin < 0 or clip <= 0:
            raise ValueError(f"most is {most}, margin {margin}, clip {clip}; expected >= 1, >= 0 and > 0.")
        self.threshold, self.smallest_share, self.most = threshold, smallest_share, most
        self.box, self.points, self.negatives, self.mask = box, points, negatives, mask
        self.margin, self.clip = margin, clip

    def __call__(self, probability: NDArray[np.floating]) -> Prompts:
        """Lesion probability (H, W), 0..1 -> prompts of its components, the most probable first."""
        components, left = self._components(probability)
        boxes = np.array([self.box_of(one) for one in components], np.float32).reshape(-1, 4)
        points, labels = self._points(components, boxes) if self.points else (None, None)
        return Prompts(
            components,
            boxes if self.box else None,
            points,
            labels,
            self._logits(probability, components) if self.mask else None,
            left,
        )

    def _components(self, probability: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.integer]]:
        """Masks (P, H, W) of the lesions that are asked about, P may be 0, and (H, W) the numbers of the others."""
        marked, count = ndimage.label(probability > self.threshold, EIGHT_NEIGHBOURS)
        numbers = np.arange(1, count + 1)
        sizes = ndimage.sum_labels(marked > 0, marked, numbers)
        numbers = numbers[sizes >= self.smallest_share * marked.size]
        means = ndimage.mean(probability, marked, numbers) if len(numbers) else []
        numbers = numbers[np.argsort(-np.asarray(means), kind="stable")]
        left = np.where(np.isin(marked, numbers[self.most :]), marked, 0)
        return marked[None] == numbers[: self.most, None, None], left

    def box_of(self, component: NDArray[np.bool_]) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in pixels: the bounding box of a component (H, W) with the margin, inside of the picture."""
        rows, columns = bounds(component)
        dy, dx = (self.margin * (side.stop - side.start) for side in (rows, columns))
        height, width = component.shape
        return (
            max(0.0, columns.start - dx),
            max(0.0, rows.start - dy),
            min(float(width), columns.stop + dx),
            min(float(height), rows.stop + dy),
        )

    def _points(
        self, components: NDArray[np.bool_], boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Points (P, N, 2) and labels (P, N): the own one, the others' ones, one beyond each side of the box."""
        own = np.array([innermost(one) for one in components], np.float32).reshape(-1, 2)
        if not self.negatives:
            return own[:, None], np.full((len(own), 1), POSITIVE, np.int64)
        count = len(own)
        around = components.any(axis=0)
        points = np.zeros((count, count + 4, 2), np.float32)
        labels = np.full((count, count + 4), NO_POINT, np.int64)
        for k in range(count):
            points[k, :count] = own
            labels[k, :count] = NEGATIVE
            labels[k, k] = POSITIVE
            for side, (x, y) in enumerate(self._beyond(boxes[k])):
                if 0 <= x < around.shape[1] and 0 <= y < around.shape[0] and not around[int(y), int(x)]:
                    points[k, count + side] = x, y
                    labels[k, count + side] = NEGATIVE
        return points, labels

    def _beyond(self, box: NDArray[np.float32]) -> list[tuple[float, float]]:
        """The middle of each side, moved out by a tenth of the box, at least two pixels."""
        x0, y0, x1, y1 = box
        dx, dy = max(2.0, 0.1 * (x1 - x0)), max(2.0, 0.1 * (y1 - y0))
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        return [(x0 - dx, y), (x1 + dx, y), (x, y0 - dy), (x, y1 + dy)]

    def _logits(self, probability: NDArray[np.floating], components: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Logits (P, H, W); what belongs to another component is not of this one."""
        inside = np.clip(np.asarray(probability, np.float64), 1e-6, 1 - 1e-6)
        logits = np.clip(np.log(inside / (1 - inside)), -self.clip, self.clip).astype(np.float32)
        above = probability > self.threshold
        return np.where(above[None] & ~components, np.float32(-self.clip), logits[None])
