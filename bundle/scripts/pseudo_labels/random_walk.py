"""The random walker behind the interface of a promptable segmenter: seeds and edges alone, no weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import random_walker

from scripts.pseudo_labels.masks import expected_iou
from scripts.pseudo_labels.promptable import NEGATIVE, POSITIVE, PromptableSegmenter, Proposals, stability_score
from scripts.pseudo_labels.small_picture import BACKGROUND, OBJECT, SmallPicture, trimap


class RandomWalkSegmenter(PromptableSegmenter):
    """Random walker (Grady 2006): the probability that a walk from a pixel meets a seed of the object first.

    Not a model that was trained on anything. Seeds of the object are positive points and the core of the rough mask,
    seeds of the background negative points, what is outside of the box and what the rough mask surely denies.
    ``predicted_iou`` is the one expected by its own probabilities.

    Args:
        side: pixels, longer side of the grid that it works on.
        beta: how much a difference of colours stops the walk.
    """

    name = "random walker"
    trusted_iou = 0.6
    trusted_stability = 0.0
    passes = 1

    def __init__(self, side: int = 160, beta: float = 5000.0) -> None:
        self.side, self.beta = int(side), float(beta)

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        return f"{self.name} side={self.side} beta={self.beta:g}"

    def _take(self, image: NDArray[np.uint8]) -> None:
        self._picture = SmallPicture.of(image, self.side)

    def _predict(
        self,
        points: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        boxes: NDArray[np.float32] | None,
        mask_logits: NDArray[np.float32] | None,
    ) -> Proposals:
        count = next(len(part) for part in (boxes, points, mask_logits) if part is not None)
        found = [
            self._walk(*(None if part is None else part[k] for part in (points, labels, boxes, mask_logits)))
            for k in range(count)
        ]
        expected = np.array([expected_iou(one, one > 0.5) for one in found], np.float32)
        inside = np.clip(np.stack(found).astype(np.float64), 1e-3, 1 - 1e-3)
        logits = np.log(inside / (1 - inside)).astype(np.float32)
        masks = np.stack([self._picture.restore(one) for one in logits])
        return Proposals(masks, expected, stability_score(logits), logits)

    def _walk(
        self,
        points: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        box: NDArray[np.float32] | None,
        logits: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Probability (h, w) of the object for one prompt."""
        seeds = self._seeds(points, labels, box, logits)
        if not (seeds == OBJECT).any() or not (seeds == BACKGROUND).any() or (seeds > 0).all():
            return (seeds == OBJECT).astype(np.float32)
        probability = random_walker(
            self._picture.pixels.astype(np.float64) / 255,
            seeds,
            beta=self.beta,
            mode="cg_j",
            tol=1e-4,
            prob_tol=1.0,  # no warnings: it is clipped below
            return_full_prob=True,
            channel_axis=-1,
        )[0]
        return np.clip(probability, 0, 1).astype(np.float32)

    def _seeds(
        self,
        points: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        box: NDArray[np.float32] | None,
        logits: NDArray[np.float32] | None,
    ) -> NDArray[np.int64]:
        """0 unknown, OBJECT or BACKGROUND for each pixel (h, w)."""
        picture = self._picture
        seeds = np.zeros(picture.shape, np.int64)
        if logits is not None:
            seeds = trimap(picture.shrink(logits))
        if box is not None:
            rows, columns = picture.box(box)
            outside = np.ones(picture.shape, bool)
            outside[rows, columns] = False
            seeds[outside] = BACKGROUND
        for (x, y), label in zip(points, labels, strict=True) if points is not None else ():
            if label in (POSITIVE, NEGATIVE):
                seeds[picture.pixel(x, y)] = OBJECT if label == POSITIVE else BACKGROUND
        if points is None and logits is None and box is not None and not (seeds == OBJECT).any():
            rows, columns = picture.box(box)  # a box alone: its middle is the object
            seeds[(rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2] = OBJECT
        return seeds
