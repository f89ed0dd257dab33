"""False-positive frames at equal recall, on frames whose counts can be checked by hand."""

from __future__ import annotations

import numpy as np
from operating_points import SweptEvaluation

NAME = "false_positive_frames_at_recall_{}"


def evaluation() -> SweptEvaluation:
    """Ten lesion pixels with probabilities .05, .15, ... .95, and four lesion-free frames that reach .1, .3, .5, .9."""
    made = SweptEvaluation(false_positive_area=0.0)
    probability = np.zeros((2, 10))
    probability[0] = np.arange(10) / 10 + 0.05
    truth = np.zeros((2, 10), int)
    truth[0] = 1
    made.add("lesion", "a", probability, truth)
    for number, reached in enumerate((0.1, 0.3, 0.5, 0.9)):
        healthy = np.zeros((2, 10))
        healthy[0, 0] = reached
        made.add(f"healthy{number}", f"h{number}", healthy, np.zeros((2, 10), int))
    return made


def test_alarms_at_the_threshold_of_each_recall() -> None:
    figures = evaluation().figures(bootstrap=10)
    # 60 % of the lesion pixels are at .45 and above: the frames at .5 and .9; 70 %: .35; 80 %: .25, and .3 joins
    assert [figures[NAME.format(recall)]["value"] for recall in (60, 70, 80)] == [0.5, 0.5, 0.75]
    assert figures["dice"]["value"] is not None, "the bundle's own figures are there as before"


def test_no_value_without_lesion_free_frames() -> None:
    made = SweptEvaluation()
    made.add("one", "a", np.full((2, 2), 0.9), np.ones((2, 2), int))
    assert made.figures(bootstrap=10)[NAME.format(70)]["value"] is None


def test_merged_evaluations_count_together() -> None:
    one, other = evaluation(), SweptEvaluation(false_positive_area=0.0)
    other.add("more", "z", np.full((2, 2), 0.9), np.zeros((2, 2), int))
    one.merge(other)
    assert one.figures(bootstrap=10)[NAME.format(60)]["value"] == 3 / 5
