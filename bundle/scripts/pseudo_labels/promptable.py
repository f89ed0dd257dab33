"""What every promptable segmenter is: a picture first, then prompts; each prompt gives a mask and how sure it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: label of a point: of the object, of what is not the object, or no point at all (fills up rows of unequal length)
POSITIVE, NEGATIVE, NO_POINT = 1, 0, -1


class SegmenterError(ValueError):
    """A segmenter cannot be built or prompted; the message says what was found, what was expected, and the cure."""


@dataclass(frozen=True)
class Proposals:
    """What a segmenter says to P prompts of one picture (H, W).

    Attributes:
        masks: (P, H, W) bool, at the picture's own size.
        predicted_iou: (P,) in 0..1, the segmenter's own estimate of the IoU of its mask with the object.
        stability: (P,) in 0..1, IoU of the masks at logits above +1 and above -1 (SAM's stability score).
        logits: (P, h, w) float32, above 0 inside; they cover the whole picture and may be given back as mask_logits.
    """

    masks: NDArray[np.bool_]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.masks)


class PromptableSegmenter(ABC):
    """A segmenter that is asked by points, boxes and rough masks (Kirillov et al. 2023, "Segment Anything")."""

    #: what reports call it, with the size of the model where there are several
    name: str
    #: predicted IoU and stability from which its masks are taken; SAM's own in its automatic mode
    trusted_iou: float = 0.88
    trusted_stability: float = 0.95
    #: IoU with the student's component, and IoU that the student lets expect, from which its masks are taken: low, as a
    #: model that judges itself may contradict the student, and what only the student's own view passes teaches little
    trusted_agreement: float = 0.2
    trusted_expected_iou: float = 0.3
    #: whether it gains by being asked again with its own answer
    passes: int = 2

    @property
    def fingerprint(self) -> str:
        """What tells it from another of its kind: by default its name; with weights, their hash."""
        return self.name

    def set_image(self, image: NDArray[np.uint8], file: str = "") -> None:
        """Take the picture that the next prompts are about.

        Args:
            image: (H, W, 3) uint8 RGB.
            file: its name, for messages.

        Raises:
            SegmenterError: another shape or type, or a picture without pixels.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise SegmenterError(
                f"{file or 'picture'}: shape {image.shape}, type {image.dtype}; expected (H, W, 3) uint8 RGB with at "
                "least one pixel."
            )
        self._size = image.shape[:2]
        self._take(np.ascontiguousarray(image))

    def predict(
        self,
        points: NDArray[np.floating] | None = None,
        labels: NDArray[np.integer] | None = None,
        boxes: NDArray[np.floating] | None = None,
        mask_logits: NDArray[np.floating] | None = None,
    ) -> Proposals:
        """Masks for P prompts on the picture; at least one kind of prompt must be given.

        Args:
            points: (P, N, 2) x, y in pixels of the picture; (0.5, 0.5) is the centre of the first pixel.
            labels: (P, N) POSITIVE, NEGATIVE or NO_POINT.
            boxes: (P, 4) x0, y0, x1, y1 in pixels, x1 and y1 beyond the last pixel inside.
            mask_logits: (P, h, w) rough masks over the whole picture, above 0 inside.

        Raises:
            SegmenterError: no picture, no prompt, or prompts whose shapes or values do not fit.
        """
        if not hasattr(self, "_size"):
            raise SegmenterError(f"{self.name}: no picture; call set_image before predict.")
        given = {"points": points, "labels": labels, "boxes": boxes, "mask_logits": mask_logits}
        arrays = {key: None if value is None else np.asarray(value, np.float32) for key, value in given.items()}
        count = self._check(arrays)
        if labels is not None:
            arrays["labels"] = arrays["labels"].astype(np.int64)
        if not count:
            height, width = self._size
            nothing = np.zeros(0, np.float32)
            return Proposals(np.zeros((0, height, width), bool), nothing, nothing, np.zeros((0, 1, 1), np.float32))
        return self._predict(**arrays)

    @abstractmethod
    def _take(self, image: NDArray[np.uint8]) -> None:
        """Keep what is needed of a checked picture (H, W, 3)."""

    @abstractmethod
    def _predict(
        self,
        points: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        boxes: NDArray[np.float32] | None,
        mask_logits: NDArray[np.float32] | None,
    ) -> Proposals:
        """Answer P > 0 checked prompts."""

    def _check(self, arrays: dict[str, NDArray[np.float32] | None]) -> int:
        """Number of prompts. Raises SegmenterError."""
        points, labels, boxes, logits = (arrays[key] for key in ("points", "labels", "boxes", "mask_logits"))
        if points is None and boxes is None and logits is None:
            raise SegmenterError(f"{self.name}: no prompt; give points with labels, boxes or mask_logits.")
        if (points is None) != (labels is None):
            raise SegmenterError(f"{self.name}: points and labels belong together; one of them is missing.")
        expected = {"points": (3, 2), "labels": (2, None), "boxes": (2, 4), "mask_logits": (3, None)}
        for key, (dimensions, last) in expected.items():
            value = arrays[key]
            if value is not None and (value.ndim != dimensions or last not in (None, value.shape[-1])):
                raise SegmenterError(f"{self.name}: {key} of shape {value.shape}; see predict for the one expected.")
            if value is not None and not np.isfinite(value).all():
                raise SegmenterError(f"{self.name}: {key} hold values that are not finite.")
        counts = {key: len(value) for key, value in arrays.items() if value is not None}
        if len(set(counts.values())) > 1:
            raise SegmenterError(f"{self.name}: unequal numbers of prompts, {counts}.")
        if points is not None and labels.shape != points.shape[:2]:
            raise SegmenterError(
                f"{self.name}: points {points.shape} need labels {points.shape[:2]}; found {labels.shape}."
            )
        if labels is not None and not np.isin(labels, (POSITIVE, NEGATIVE, NO_POINT)).all():
            raise SegmenterError(f"{self.name}: labels other than {POSITIVE}, {NEGATIVE} and {NO_POINT}.")
        height, width = self._size
        for x, y in points.reshape(-1, 2) if points is not None else ():
            if not (0 <= x <= width and 0 <= y <= height):
                raise SegmenterError(f"{self.name}: point ({x:g}, {y:g}) is outside of the picture, {width}x{height}.")
        for x0, y0, x1, y1 in boxes if boxes is not None else ():
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise SegmenterError(
                    f"{self.name}: box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or outside of the picture, "
                    f"{width}x{height} (width x height)."
                )
        return next(iter(counts.values()))


def stability_score(logits: NDArray[np.floating], offset: float = 1.0) -> NDArray[np.float32]:
    """IoU of the masks at logits above +offset and above -offset, for each of (P, h, w); 0 where both are empty."""
    high = (logits > offset).reshape(len(logits), -1).sum(1)
    low = (logits > -offset).reshape(len(logits), -1).sum(1)
    return (high / np.maximum(low, 1)).astype(np.float32)
