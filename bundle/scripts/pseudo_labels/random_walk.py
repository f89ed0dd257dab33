"""The random walker behind the interface of a promptable segmenter: seeds and edges alone, no weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import random_walker

from scripts.pseudo_labels.classical import ClassicalSegmenter, SmallPrompt
from scripts.pseudo_labels.masks import expected_iou
from scripts.pseudo_labels.promptable import POSITIVE
from scripts.pseudo_labels.small_picture import BACKGROUND, OBJECT, UNKNOWN, trimap


class RandomWalkSegmenter(ClassicalSegmenter):
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

    def __init__(self, side: int = 160, beta: float = 5000.0) -> None:
        self.side, self.beta = int(side), float(beta)

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        return f"{self.name} side={self.side} beta={self.beta:g}"

    def _answer(self, prompt: SmallPrompt) -> tuple[NDArray[np.floating], float]:
        found = self._walk(prompt)
        inside = np.clip(found, 1e-3, 1 - 1e-3)
        return np.log(inside / (1 - inside)), expected_iou(found, found > 0.5)

    def _walk(self, prompt: SmallPrompt) -> NDArray[np.float64]:
        """Probability (h, w) of the object."""
        seeds = self._seeds(prompt)
        if not (seeds == OBJECT).any() or not (seeds == BACKGROUND).any() or (seeds > 0).all():
            return (seeds == OBJECT).astype(np.float64)
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
        return np.clip(probability, 0, 1)

    def _seeds(self, prompt: SmallPrompt) -> NDArray[np.int64]:
        """UNKNOWN, OBJECT or BACKGROUND for each pixel (h, w)."""
        picture, box = self._picture, prompt.box
        seeds = np.full(picture.shape, UNKNOWN, np.int64)
        if prompt.logits is not None:
            seeds = trimap(picture.shrink(prompt.logits))
        if box is not None:
            outside = np.ones(picture.shape, bool)
            outside[picture.box(box)] = False
            seeds[outside] = BACKGROUND
        for row, column, label in prompt.pixels(picture):
            seeds[row, column] = OBJECT if label == POSITIVE else BACKGROUND
        if prompt.points is None and prompt.logits is None and box is not None:
            rows, columns = picture.box(box)  # a box alone: its middle is the object
            seeds[(rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2] = OBJECT
        return seeds
