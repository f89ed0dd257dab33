"""Tables of knowledge mining, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mining_tables import mining_rounds, mining_summary

MINED = {"frames": "8", "pseudo_labels": "6", "student_dice": "0.5", "student_dice_of_kept": "0.6", "mined_dice": "0.7"}


def row(segmenter: str, number: int, val: float, test: float, fraction: str = "0.1", **mined: str) -> dict[str, str]:
    """A row of seed 0."""
    setting = {"segmenter": segmenter, "round": str(number), "label_fraction": fraction, "seed": "0"}
    setting |= dict.fromkeys(("data", "configs", "settings", "mine_settings", "fine_tune_settings"), "")
    figures = {"val_dice": str(val), "test_dice": str(test), "test_iou": str(test)}
    return setting | dict.fromkeys(MINED, "") | mined | figures


ROWS = [
    *(row("none", 0, 0.9, 0.8, "1.0"), row("none", 0, 0.6, 0.5)),
    row("labels", 1, 0.65, 0.55),
    *(row("grabcut", 1, 0.7, 0.6, **MINED), row("grabcut", 2, 0.68, 0.66, **MINED)),
    row("oracle:0.05", 1, 0.5, 0.9, **MINED),
]


def test_the_round_is_chosen_on_validation() -> None:
    lines = mining_summary(ROWS).splitlines()
    assert lines[0] == (
        "| labels | labels alone | labels alone, fine-tuned as long | + grabcut | + oracle:0.05 | 100% of the labels |"
    )
    # grabcut's second round and all of the oracle's lose on validation, whatever the test split says
    assert lines[2:] == ["| 10% | 0.500 | 0.550 | 0.600 | 0.500 | 0.800 |"]


def test_rounds_say_what_was_mined() -> None:
    lines = mining_rounds(ROWS).splitlines()
    assert lines[4] == "| 10% | grabcut | 1 | 1 | 6 of 8 | 0.500 | 0.600 | 0.700 | 0.700 | 0.600 | 0.600 |"
    assert lines[3] == "| 10% | labels | 1 | 1 | – | – | – | – | 0.650 | 0.550 | 0.550 |"


def test_what_was_not_run_for_a_share_is_not_shown() -> None:
    lines = mining_summary([*ROWS, row("none", 0, 0.7, 0.65, "0.5"), row("labels", 1, 0.6, 0.7, "0.5")]).splitlines()
    assert lines[3] == "| 50% | 0.650 | 0.650 | – | – | 0.800 |"


def test_rounds_of_a_share_and_a_segmenter_stand_together() -> None:
    late = row("labels", 2, 0.6, 0.5)
    cells = [line.split(" | ") for line in mining_rounds([*ROWS, late]).splitlines()[2:]]
    assert [(cell[0].strip("| "), cell[1], cell[2]) for cell in cells] == [
        *(("10%", "none", "0"), ("10%", "labels", "1"), ("10%", "labels", "2"), ("10%", "grabcut", "1")),
        *(("10%", "grabcut", "2"), ("10%", "oracle:0.05", "1"), ("100%", "none", "0")),
    ]


def test_other_rules_are_a_segmenter_of_their_own() -> None:
    other = row("grabcut", 1, 0.8, 0.7, **MINED, mine_settings="rules::agreement=0.2 rules::expected_iou=0.3")
    lines = mining_summary([*ROWS, other]).splitlines()
    assert lines[0].endswith("| + oracle:0.05 | + grabcut agreement=0.2 expected_iou=0.3 | 100% of the labels |")
    assert lines[2] == "| 10% | 0.500 | 0.550 | 0.600 | 0.500 | 0.700 | 0.800 |"


@pytest.mark.parametrize("table", [mining_rounds, mining_summary])
def test_other_networks_and_lengths_are_not_averaged(table: Callable) -> None:
    with pytest.raises(ValueError, match="the rows are of 2 settings of data, configs"):
        table([*ROWS, row("grabcut", 1, 0.8, 0.7, **MINED, configs="configs/unet.json")])


def test_the_students_own_masks_are_named_so() -> None:
    own = row("grabcut", 1, 0.8, 0.7, **MINED, mine_settings="rules::agreement=1 rules::student_confidence=0")
    assert "| + the student's own masks |" in mining_summary([*ROWS, own]).splitlines()[0]
    assert mining_rounds([*ROWS, own]).splitlines()[-2].startswith("| 10% | own masks | 1 |")
