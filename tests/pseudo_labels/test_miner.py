"""What becomes a pseudo-label: each decision, by a segmenter whose answers are given."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.pseudo_labels import MiningRules, PromptableSegmenter, PromptBuilder, Proposals, PseudoLabelMiner
from scripts.pseudo_labels.graph_cut import GrabCutSegmenter
from scripts.pseudo_labels.miner import COVERS_ALL, DOUBTED, HEALTHY, MINED, MIXED, PARTIAL, REJECTED, STUDENT, UNSURE

PICTURE = np.zeros((40, 60, 3), np.uint8)


class Given(PromptableSegmenter):
    """Answers with masks that are told beforehand; notes what it was asked."""

    name = "given"

    def __init__(self, masks: list[NDArray[np.bool_]], quality: float = 0.9, stability: float = 0.99) -> None:
        self.masks, self.quality, self.stable = np.array(masks), quality, stability
        self.asked: list[set[str]] = []
        self.pictures = 0

    def _take(self, image: NDArray[np.uint8]) -> None:
        self.pictures += 1

    def _predict(self, **prompts: NDArray | None) -> Proposals:  # type: ignore[override]
        self.asked.append({name for name, value in prompts.items() if value is not None})
        count = len(self.masks)
        full = np.full(count, 1.0, np.float32)
        return Proposals(self.masks, self.quality * full, self.stable * full, np.where(self.masks, 5.0, -5.0))


def box_mask(rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(PICTURE.shape[:2], bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


LEFT, RIGHT = box_mask((10, 30), (5, 25)), box_mask((10, 20), (40, 50))


def student(*lesions: tuple[NDArray[np.bool_], float], background: float = 0.01) -> NDArray[np.float64]:
    probability = np.full(PICTURE.shape[:2], background)
    for mask, value in lesions:
        probability[mask] = value
    return probability


def test_what_both_see_is_mined_with_the_dice_to_be_expected() -> None:
    refined = box_mask((10, 30), (6, 26))
    found = PseudoLabelMiner(Given([refined], 0.9)).mine(PICTURE, student((LEFT, 0.8)))
    assert found.decision == MINED and np.array_equal(found.mask, refined) and np.array_equal(found.student, LEFT)
    assert found.expected_iou == pytest.approx(expected(380 * 0.8 + 20 * 0.01, 400, 20 * 0.8 + 1980 * 0.01))
    assert found.weight == pytest.approx(2 * found.expected_iou / (1 + found.expected_iou)), (
        "less than the predicted .9"
    )
    (lesion,) = found.lesions
    assert lesion.agreement == pytest.approx(380 / 420) and lesion.taken == "segmenter"
    assert lesion.student_confidence == pytest.approx(0.8), "its box is the component"


@pytest.mark.parametrize(
    ("quality", "stability", "mask", "taken"),
    [
        (0.88, 0.95, LEFT, True),
        (0.87, 0.95, LEFT, False),
        (0.88, 0.94, LEFT, False),
        (0.99, 0.99, box_mask((10, 30), (5, 9)), True),  # IoU .2
        (0.99, 0.99, box_mask((10, 30), (5, 8)), False),
    ],
)
def test_each_rule_can_reject(quality: float, stability: float, mask: NDArray[np.bool_], taken: bool) -> None:
    miner = PseudoLabelMiner(Given([mask], quality, stability), rules=MiningRules(expected_iou=0.0))
    found = miner.mine(PICTURE, student((LEFT, 0.8)))
    assert found.decision == (MINED if taken else REJECTED) and (found.mask is None) != taken
    assert (found.weight > 0) == taken


def test_a_sure_student_is_believed_where_the_segmenter_is_not() -> None:
    miner = PseudoLabelMiner(Given([RIGHT], 0.99))
    found = miner.mine(PICTURE, student((LEFT, 0.98), background=0.0))
    assert found.decision == STUDENT and np.array_equal(found.mask, LEFT)
    assert found.weight == pytest.approx(2 * 0.98 / 1.98), "all probability is inside: the IoU to be expected is .98"
    assert miner.mine(PICTURE, student((LEFT, 0.9))).decision == REJECTED
    never = PseudoLabelMiner(Given([RIGHT], 0.99), rules=MiningRules(student_confidence=1.0))
    assert never.mine(PICTURE, student((LEFT, 1.0))).decision == REJECTED


def test_one_lesion_of_each() -> None:
    segmenter = Given([LEFT, LEFT], 0.9)
    found = PseudoLabelMiner(segmenter).mine(PICTURE, student((LEFT, 0.99), (RIGHT, 0.97), background=0.0))
    assert found.decision == MIXED and np.array_equal(found.mask, LEFT | RIGHT)
    assert found.expected_iou == pytest.approx(expected(400 * 0.99 + 100 * 0.97, 500, 0))
    assert found.weight == pytest.approx(2 * 0.9 / 1.9), "the segmenter's own estimate is the smaller one"


def expected(inside: float, size: int, outside: float) -> float:
    """Expected IoU of a mask of `size` pixels with a mass of `inside` in it and of `outside` beyond it."""
    return inside / (size + outside)


def test_a_mask_that_the_student_doubts_is_dropped() -> None:
    refined = box_mask((10, 30), (10, 30))  # IoU .6 with what the student sees
    probability = student((LEFT, 0.6), background=0.0)
    strict = PseudoLabelMiner(Given([refined], 0.99), rules=MiningRules(expected_iou=0.4))
    found = strict.mine(PICTURE, probability)
    assert found.expected_iou == pytest.approx(expected(300 * 0.6, 400, 100 * 0.6)) and found.expected_iou < 0.4
    assert found.decision == DOUBTED and found.mask is None and found.weight == 0
    assert PseudoLabelMiner(Given([refined], 0.99)).mine(PICTURE, probability).decision == MINED, "its own is .3"


def test_a_doubtful_lesion_is_unknown_and_the_others_are_taken() -> None:
    probability = student((LEFT, 0.9), (RIGHT, 0.7))
    found = PseudoLabelMiner(Given([LEFT, LEFT], 0.9)).mine(PICTURE, probability)
    assert [lesion.taken for lesion in found.lesions] == ["segmenter", ""]
    assert found.decision == PARTIAL and np.array_equal(found.mask, LEFT) and found.weight > 0
    assert np.array_equal(found.unknown, box_mask((9, 21), (39, 51))), "its box with the margin of 5 %, whole pixels"
    outside = (2400 - 400 - 144) * 0.01
    assert found.expected_iou == pytest.approx(expected(400 * 0.9, 400, outside)), "of the pixels that are known"


def test_lesions_beyond_those_that_are_asked_about_are_unknown() -> None:
    """Of two lesions one is asked about: the other is no background, and a hand that corrects gets to see it."""
    probability, prompts = student((LEFT, 0.9), (RIGHT, 0.7)), PromptBuilder(most=1)
    found = PseudoLabelMiner(Given([LEFT], 0.9), prompts).mine(PICTURE, probability)
    assert found.decision == PARTIAL and np.array_equal(found.mask, LEFT) and len(found.lesions) == 1
    assert np.array_equal(found.unknown, box_mask((9, 21), (39, 51)))
    assert np.array_equal(found.student, LEFT | RIGHT)
    whole = PseudoLabelMiner(Given([LEFT], 0.9), prompts, MiningRules(partial=False)).mine(PICTURE, probability)
    assert whole.decision == REJECTED


def test_a_mask_is_never_unknown() -> None:
    over = box_mask((10, 30), (5, 45))  # reaches into the box of the other one
    rules = MiningRules(expected_iou=0.0)
    found = PseudoLabelMiner(Given([over, LEFT], 0.9), rules=rules).mine(PICTURE, student((LEFT, 0.9), (RIGHT, 0.7)))
    assert found.decision == PARTIAL and not (found.unknown & found.mask).any()
    assert found.unknown.sum() == 12 * 12 - 11 * 6, "rows 10 to 20, columns 39 to 44 are of the mask"


def test_one_doubtful_lesion_drops_the_picture_where_that_is_wished() -> None:
    rules = MiningRules(partial=False)
    probability = student((LEFT, 0.9), (RIGHT, 0.7))
    found = PseudoLabelMiner(Given([LEFT, LEFT], 0.9), rules=rules).mine(PICTURE, probability)
    assert found.decision == REJECTED and found.mask is None and found.unknown is None
    none_taken = PseudoLabelMiner(Given([RIGHT, LEFT], 0.9)).mine(PICTURE, probability)
    assert none_taken.decision == REJECTED, "nothing is known of any lesion"


def test_without_a_lesion() -> None:
    segmenter = Given([LEFT])
    healthy = PseudoLabelMiner(segmenter).mine(PICTURE, student(background=0.04))
    assert healthy.decision == HEALTHY and not healthy.mask.any() and healthy.weight == pytest.approx(0.96)
    unsure = PseudoLabelMiner(segmenter).mine(PICTURE, student(background=0.3))
    assert unsure.decision == UNSURE and unsure.mask is None and unsure.weight == 0
    assert not segmenter.pictures, "nobody was asked"
    never = PseudoLabelMiner(segmenter, rules=MiningRules(healthy_probability=0.0))
    assert never.mine(PICTURE, student(background=0.01)).decision == UNSURE


def test_a_lesion_all_over_is_dropped() -> None:
    everything = np.ones(PICTURE.shape[:2], bool)
    segmenter = Given([everything])
    assert PseudoLabelMiner(segmenter).mine(PICTURE, np.full(everything.shape, 0.99)).decision == COVERS_ALL
    assert not segmenter.pictures
    rules = MiningRules(agreement=0.0)
    assert PseudoLabelMiner(segmenter, rules=rules).mine(PICTURE, student((LEFT, 0.9))).decision == COVERS_ALL


def test_two_passes_and_one() -> None:
    segmenter = Given([LEFT])
    PseudoLabelMiner(segmenter).mine(PICTURE, student((LEFT, 0.9)))
    assert segmenter.asked == [{"boxes", "mask_logits"}, {"boxes", "mask_logits", "points", "labels"}]
    segmenter.asked.clear()
    PseudoLabelMiner(segmenter, passes=1).mine(PICTURE, student((LEFT, 0.9)))
    assert segmenter.asked == [{"boxes", "mask_logits", "points", "labels"}]
    segmenter.asked.clear()
    PseudoLabelMiner(segmenter, PromptBuilder(box=False, mask=False)).mine(PICTURE, student((LEFT, 0.9)))
    assert segmenter.asked == [{"points", "labels"}], "a first pass would have nothing to ask by"


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        (np.zeros((40, 61)), "frame.png: probability is"),
        (np.full((40, 60), np.nan), "outside of 0..1"),
        (np.full((40, 60), 1.5), "outside of 0..1"),
    ],
)
def test_probabilities_that_are_none(probability: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PseudoLabelMiner(Given([LEFT])).mine(PICTURE, probability, "frame.png")


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"agreement is 1.2"):
        MiningRules(agreement=1.2)
    with pytest.raises(ValueError, match="passes is 3"):
        PseudoLabelMiner(Given([LEFT]), passes=3)


def test_rules_that_are_not_given_are_the_segmenters_own() -> None:
    rules = PseudoLabelMiner(Given([LEFT]), rules=MiningRules(stability=0.5)).rules
    assert (rules.predicted_iou, rules.stability, rules.agreement, rules.expected_iou) == (0.88, 0.5, 0.2, 0.3)
    rules = PseudoLabelMiner(GrabCutSegmenter(), rules=MiningRules(agreement=0.0)).rules
    assert (rules.predicted_iou, rules.stability, rules.agreement, rules.expected_iou) == (0.8, 0.0, 0.0, 0.6)
