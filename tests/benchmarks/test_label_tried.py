"""The table of what was tried, by hand."""

from __future__ import annotations

from label_tables import by_fraction, of_group
from label_tried import tried
from rows import row

PLAIN = [row(0.7, method="weak_to_strong", seed=seed) for seed in (0, 1)]
SOFT = [row(dice, method="weak_to_strong", seed=seed, settings="a=1") for seed, dice in ((0, 0.72), (2, 0.8))]


def test_a_lever_stands_beside_the_same_cell_without_it() -> None:
    (line,) = tried([*PLAIN, *SOFT]).splitlines()[2:]
    assert line == (
        "| kvasir | 10% | weak_to_strong | lite | imagenet | cpu | a=1 | 0, 2 "
        # means of .72 and .80; seed 2 has no cell without, so the difference is that of seed 0
        "| 0.770 (+0.020) | 0.760 (+0.020) | 0.750 (+0.020) |"
    )


def test_without_a_cell_to_compare_there_is_no_difference() -> None:
    (line,) = tried([*PLAIN, row(0.5, method="weak_to_strong", fraction=0.25, settings="a=1")]).splitlines()[2:]
    assert line.endswith("| 0.510 | 0.500 | 0.490 |")


def test_each_set_of_overrides_is_a_line_and_none_is_a_plain_word() -> None:
    other = row(0.6, method="weak_to_strong", settings="b=2")
    assert len(tried([*PLAIN, *SOFT, other]).splitlines()) == 4
    assert tried(PLAIN, nothing="none") == "none"


def test_what_was_tried_stands_in_no_other_table() -> None:
    assert by_fraction([*PLAIN, *SOFT], "kvasir") == by_fraction(PLAIN, "kvasir")
    assert of_group([*PLAIN, *SOFT], "ablation") == of_group(PLAIN, "ablation")
