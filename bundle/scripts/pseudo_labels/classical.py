"""What GrabCut and the random walker share: a small grid, one prompt after the other, no weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.pseudo_labels.promptable import NO_POINT, PromptableSegmenter, Proposals, stability_score
from scripts.pseudo_labels.small_picture import SmallPicture


@dataclass(frozen=True)
class SmallPrompt:
    """One prompt; see PromptableSegmenter.predict. points (N, 2), labels (N,), box (4,), logits: any (h, w) or None."""

    points: NDArray[np.float32] | None
    labels: NDArray[np.int64] | None
    box: NDArray[np.float32] | None
    logits: NDArray[np.float32] | None

    def pixels(self, picture: SmallPicture) -> Iterator[tuple[int, int, int]]:
        """Row and column on the small grid, and label, of each point that is one."""
        for (x, y), label in zip(self.points, self.labels, strict=True) if self.points is not None else ():
            if label != NO_POINT:
                yield *picture.pixel(x, y), int(label)


class ClassicalSegmenter(PromptableSegmenter):
    """A segmenter that was trained on nothing and works on a picture whose longer side has at most ``side`` pixels."""

    trusted_stability = 0.0
    trusted_agreement = 0.5
    trusted_expected_iou = 0.6
    passes = 1
    side: int

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
        parts = (points, labels, boxes, mask_logits)
        found = [
            self._answer(SmallPrompt(*(None if part is None else part[k] for part in parts))) for k in range(count)
        ]
        logits = np.stack([one for one, _ in found]).astype(np.float32)
        masks = np.stack([self._picture.restore(one) for one in logits])
        predicted = np.array([quality for _, quality in found], np.float32)
        return Proposals(masks, predicted, stability_score(logits), logits)

    @abstractmethod
    def _answer(self, prompt: SmallPrompt) -> tuple[NDArray[np.floating], float]:
        """Logits (h, w) on the small grid, and the predicted IoU."""
