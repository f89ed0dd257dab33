"""GrabCut behind the interface of a promptable segmenter: colours and edges alone, no weights."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.pseudo_labels.classical import ClassicalSegmenter, SmallPrompt
from scripts.pseudo_labels.masks import iou
from scripts.pseudo_labels.promptable import POSITIVE
from scripts.pseudo_labels.small_picture import BACKGROUND, OBJECT, trimap

CERTAIN = 6.0  # logit of a mask that has no probability
POINT_RADIUS = 2  # pixels of the small grid


class GrabCutSegmenter(ClassicalSegmenter):
    """GrabCut (Rother et al. 2004): two colour mixtures and a cut along edges, inside of the box.

    Not a model that was trained on anything. It has no probabilities: ``predicted_iou`` is the IoU of its mask with
    the one that it gives for a box moved out by a tenth, ``stability`` is that of a smoothed border.

    Args:
        side: pixels, longer side of the grid that it works on.
        iterations: rounds of fitting colours and cutting.
    """

    name = "GrabCut"
    trusted_iou = 0.8

    def __init__(self, side: int = 200, iterations: int = 3) -> None:
        self.side, self.iterations = int(side), int(iterations)

    @property
    def fingerprint(self) -> str:
        """Name and settings."""
        return f"{self.name} side={self.side} iterations={self.iterations} opencv={cv2.__version__}"

    def _answer(self, prompt: SmallPrompt) -> tuple[NDArray[np.floating], float]:
        mask, moved = self._cut(prompt), self._cut(prompt, grow=0.1)
        return CERTAIN * (2 * cv2.GaussianBlur(mask.astype(np.float32), (5, 5), 1.0) - 1), iou(mask, moved)

    def _cut(self, prompt: SmallPrompt, grow: float = 0.0) -> NDArray[np.bool_]:
        """Mask (h, w), the box moved out by ``grow`` of its sides."""
        state = self._start(prompt, grow)
        wanted = np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if wanted.all() or not wanted.any():
            return wanted  # one of the two colour mixtures would have nothing to be fitted to
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its mixtures begin with k-means
        bgr = cv2.cvtColor(self._picture.pixels, cv2.COLOR_RGB2BGR)
        state, _, _ = cv2.grabCut(bgr, state, None, *models, self.iterations, cv2.GC_INIT_WITH_MASK)
        return np.isin(state, (cv2.GC_FGD, cv2.GC_PR_FGD))

    def _start(self, prompt: SmallPrompt, grow: float) -> NDArray[np.uint8]:
        """What each pixel (h, w) is taken for at the start; outside of the box is background for good."""
        picture = self._picture
        rows, columns = (slice(None), slice(None)) if prompt.box is None else picture.box(prompt.box, grow)
        state = np.full(picture.shape, cv2.GC_BGD, np.uint8)
        # A box alone says "most of this"; a rough mask says which part.
        alone = prompt.logits is None and prompt.box is not None
        state[rows, columns] = cv2.GC_PR_FGD if alone else cv2.GC_PR_BGD
        if prompt.logits is not None:
            small = picture.shrink(prompt.logits)
            found, part = trimap(small)[rows, columns], state[rows, columns]
            part[small[rows, columns] > 0] = cv2.GC_PR_FGD
            part[found == OBJECT] = cv2.GC_FGD
            part[found == BACKGROUND] = cv2.GC_BGD
        for row, column, label in prompt.pixels(picture):
            value = cv2.GC_FGD if label == POSITIVE else cv2.GC_BGD
            cv2.circle(state, (column, row), POINT_RADIUS, int(value), -1)
        return state
