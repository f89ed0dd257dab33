"""What a student sees and what a promptable segmenter makes of it -> a pseudo-label, with a weight, or none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from scripts.pseudo_labels.masks import bounds, expected_iou, iou
from scripts.pseudo_labels.promptable import PromptableSegmenter, Proposals
from scripts.pseudo_labels.prompts import PromptBuilder, Prompts

#: decisions on a picture; the first five give a pseudo-label
MINED, MIXED, STUDENT, PARTIAL, HEALTHY = "mined", "mixed", "student", "partial", "healthy"
DROPPED = "dropped: "
UNSURE, REJECTED = DROPPED + "no lesion, but not sure", DROPPED + "rejected"
DOUBTED, COVERS_ALL = DROPPED + "doubted by the student", DROPPED + "covers all"
GIVEN = (MINED, MIXED, STUDENT, PARTIAL, HEALTHY)
DECISIONS = (*GIVEN, UNSURE, REJECTED, DOUBTED, COVERS_ALL)
ROUNDING = 1e-6  # segmenters answer in float32


@dataclass(frozen=True)
class MiningRules:
    """When a mask becomes a pseudo-label; shares and probabilities in 0..1.

    Attributes:
        predicted_iou: least estimate by the segmenter of its own mask; None = its trusted_iou (SAM: 0.88).
        stability: least stability score; None = its trusted_stability (SAM: 0.95).
        agreement: least IoU of the segmenter's mask with the student's component; None = its trusted_agreement (SAM:
            0.2, without weights: 0.5).
        student_confidence: mean max(p, 1 - p) of the student in the component's box from which its own mask is taken
            where the segmenter's is not; 1 = never.
        expected_iou: least IoU of the picture's mask with the truth that the student's probabilities let expect; None =
            its trusted_expected_iou (SAM: 0.3, without weights: 0.6).
        healthy_probability: a picture without component is taken as healthy when no pixel is above it; 0 = never.
        largest_share: pictures of which more would be lesion are dropped.
        partial: a picture with a mask for some of its lesions is taken, and the boxes of the others are unknown; False
            = it is dropped.
    """

    predicted_iou: float | None = None
    stability: float | None = None
    agreement: float | None = None
    student_confidence: float = 0.95
    expected_iou: float | None = None
    healthy_probability: float = 0.05
    largest_share: float = 0.9
    partial: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; expected a number in 0..1.")

    def for_segmenter(self, segmenter: PromptableSegmenter) -> MiningRules:
        """The rules with the segmenter's own numbers in the place of None."""
        own = {
            "predicted_iou": segmenter.trusted_iou,
            "stability": segmenter.trusted_stability,
            "agreement": segmenter.trusted_agreement,
            "expected_iou": segmenter.trusted_expected_iou,
        }
        return replace(self, **{name: value for name, value in own.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class Lesion:
    """One component: which mask was taken ("segmenter", "student" or ""), and the figures that decided."""

    taken: str
    predicted_iou: float
    stability: float
    agreement: float
    student_confidence: float


@dataclass(frozen=True)
class MinedLabel:
    """The decision on one picture.

    Attributes:
        mask: (H, W) bool; None where the picture is dropped.
        student: (H, W) bool, the student's components.
        decision: one of DECISIONS.
        weight: 0..1, the Dice to be expected, 2q / (1 + q), q the smaller one of expected_iou and the IoU that the
            segmenter predicts (mean over its lesions, by area); 0 where it is dropped.
        expected_iou: of the mask, by the student's probabilities; None without a mask.
        lesions: one for each component.
        unknown: (H, W) bool, pixels on which nothing is said; None = there are none.
    """

    mask: NDArray[np.bool_] | None
    student: NDArray[np.bool_]
    decision: str
    weight: float
    expected_iou: float | None = None
    lesions: Sequence[Lesion] = field(default_factory=tuple)
    unknown: NDArray[np.bool_] | None = None


class PseudoLabelMiner:
    """Asks a promptable segmenter about what the student sees, and takes what both say (Mao et al. 2025, our rules).

    Two passes, as in the closest published pipeline: by box and rough mask, then by box, points and the first answer.

    Args:
        segmenter: what is asked.
        prompts: how.
        rules: what is taken.
        passes: 1 asks once, by all at once; 2 as above; None = as the segmenter has it.
    """

    def __init__(
        self,
        segmenter: PromptableSegmenter,
        prompts: PromptBuilder | None = None,
        rules: MiningRules | None = None,
        passes: int | None = None,
    ) -> None:
        if passes not in (1, 2, None):
            raise ValueError(f"passes is {passes}; expected 1 or 2.")
        self.segmenter = segmenter
        self.prompts = prompts or PromptBuilder()
        self.rules = (rules or MiningRules()).for_segmenter(segmenter)
        self.passes = passes or segmenter.passes

    def mine(self, image: NDArray[np.uint8], probability: NDArray[np.floating], file: str = "") -> MinedLabel:
        """The pseudo-label of one picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            probability: (H, W) lesion probability of the student, 0..1.
            file: its name, for messages.

        Raises:
            ValueError: sizes that differ, or probabilities outside of 0..1.
        """
        if probability.shape != image.shape[:2]:
            raise ValueError(f"{file}: probability is {probability.shape}, the picture {image.shape[:2]} (H, W).")
        if not (np.isfinite(probability).all() and 0 <= probability.min() and probability.max() <= 1):
            raise ValueError(f"{file}: probabilities outside of 0..1.")
        prompts = self.prompts(probability)
        student = prompts.components.any(axis=0) | (prompts.left > 0)
        if not len(prompts):
            return self._without_lesion(probability, student)
        if student.mean() > self.rules.largest_share:
            return MinedLabel(None, student, COVERS_ALL, 0.0)
        self.segmenter.set_image(image, file)
        proposals = self._ask(prompts)
        lesions = [self._lesion(probability, prompts, proposals, k) for k in range(len(prompts))]
        return self._together(probability, student, prompts, proposals, lesions)

    def _without_lesion(self, probability: NDArray[np.floating], student: NDArray[np.bool_]) -> MinedLabel:
        highest = float(probability.max())
        if highest > self.rules.healthy_probability:
            return MinedLabel(None, student, UNSURE, 0.0)
        return MinedLabel(student.copy(), student, HEALTHY, 1.0 - highest)

    def _ask(self, prompts: Prompts) -> Proposals:
        points = {"points": prompts.points, "labels": prompts.labels} if prompts.points is not None else {}
        rough = {"boxes": prompts.boxes, "mask_logits": prompts.mask_logits}
        if self.passes == 1 or (prompts.boxes is None and prompts.mask_logits is None):
            return self.segmenter.predict(**rough, **points)
        first = self.segmenter.predict(**rough)
        return self.segmenter.predict(boxes=prompts.boxes, mask_logits=first.logits, **points)

    def _lesion(self, probability: NDArray[np.floating], prompts: Prompts, proposals: Proposals, k: int) -> Lesion:
        """Which mask of component k is taken."""
        rules, component = self.rules, prompts.components[k]
        figures = {
            "predicted_iou": float(proposals.predicted_iou[k]),
            "stability": float(proposals.stability[k]),
            "agreement": iou(proposals.masks[k], component),
            "student_confidence": self._confidence(probability, component),
        }
        wanted = ("predicted_iou", "stability", "agreement")
        if all(figures[name] >= getattr(rules, name) - ROUNDING for name in wanted):
            taken = "segmenter"
        elif rules.student_confidence < 1 and figures["student_confidence"] >= rules.student_confidence:
            taken = "student"
        else:
            taken = ""
        return Lesion(taken, **figures)

    @staticmethod
    def _confidence(probability: NDArray[np.floating], component: NDArray[np.bool_]) -> float:
        """Mean max(p, 1 - p) over the component's bounding box: elsewhere every student is sure."""
        part = probability[bounds(component)]
        return float(np.maximum(part, 1 - part).mean())

    def _together(
        self,
        probability: NDArray[np.floating],
        student: NDArray[np.bool_],
        prompts: Prompts,
        proposals: Proposals,
        lesions: Sequence[Lesion],
    ) -> MinedLabel:
        """A lesion without a mask is left out of what is taught: its pixels would be taught as background."""
        taken = np.array([bool(lesion.taken) for lesion in lesions])
        whole = taken.all() and not prompts.left.any()
        if not taken.any() or not (whole or self.rules.partial):
            return MinedLabel(None, student, REJECTED, 0.0, lesions=tuple(lesions))
        by_segmenter = np.array([lesion.taken == "segmenter" for lesion in lesions])
        parts = np.where(by_segmenter[:, None, None], proposals.masks, prompts.components)[taken]
        mask = parts.any(axis=0)
        others = (prompts.left == number for number in np.unique(prompts.left[prompts.left > 0]))
        unknown = self._unknown(chain(prompts.components[~taken], others), mask)
        known = ~unknown
        expected = expected_iou(probability[known], mask[known])
        if mask.mean() > self.rules.largest_share:
            return MinedLabel(None, student, COVERS_ALL, 0.0, expected, tuple(lesions))
        if expected < self.rules.expected_iou:
            return MinedLabel(None, student, DOUBTED, 0.0, expected, tuple(lesions))
        sizes = parts.sum(axis=(1, 2)) * by_segmenter[taken]
        predicted = np.array([lesion.predicted_iou for lesion in lesions])[taken]
        quality = min(expected, float(np.average(predicted, weights=sizes))) if sizes.any() else expected
        weight = 2 * quality / (1 + quality)
        if not whole:
            return MinedLabel(mask, student, PARTIAL, weight, expected, tuple(lesions), unknown)
        decision = MINED if by_segmenter.all() else MIXED if by_segmenter.any() else STUDENT
        return MinedLabel(mask, student, decision, weight, expected, tuple(lesions))

    def _unknown(self, components: Iterable[NDArray[np.bool_]], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The boxes of components (H, W), as they are prompted, without what the mask (H, W) holds."""
        unknown = np.zeros_like(mask)
        for component in components:
            x0, y0, x1, y1 = self.prompts.box_of(component)
            unknown[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] = True
        return unknown & ~mask
