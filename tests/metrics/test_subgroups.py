"""Parts of a split: who is in which, and that their figures are the evaluation's own of that part."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.metrics.evaluation import LesionEvaluation
from scripts.metrics.subgroups import SIZES, subgroups


def row(file: str, lesion_px: int, dice: float = 1.0, group: str = "g") -> dict[str, object]:
    """A frame of 100 x 100 pixels."""
    overlap = {"dice": dice, "iou": dice / 2, "recall": dice, "precision": dice}
    return {"file": file, "group": group, "height": 100, "width": 100, "lesion_px": lesion_px, **overlap}


def test_an_edge_belongs_to_the_smaller_lesions() -> None:
    sizes = [0, 1, 100, 101, 500, 501, 1500, 1501, 10_000]
    parts = subgroups([row(f"images/{size}.png", size) for size in sizes])
    assert [part.name for part in parts] == list(SIZES.values())
    assert [part.images for part in parts] == [1, 2, 2, 2, 2]


def test_parts_without_an_image_are_left_out() -> None:
    parts = subgroups([row("images/a.png", 50), row("images/b.png", 60)])
    assert [(part.axis, part.name, part.images) for part in parts] == [("size", "lesion up to 1 %", 2)]


def test_mean_of_a_part_by_hand() -> None:
    rows = [row("a.png", 50, 0.2, "p1"), row("b.png", 50, 0.6, "p1"), row("c.png", 5000, 0.9, "p2")]
    small, large = subgroups(rows)
    assert small.figures["dice"][0] == pytest.approx(0.4)
    assert small.figures["iou"][0] == pytest.approx(0.2)
    assert (small.groups, small.figures["dice"][1]) == (1, None)  # one group: nothing to draw from
    assert large.figures["dice"][0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("files", "sources"),
    [
        (["polyps/images/a.png", "polyps/images/b.png", "bleeding/images/a.png"], {"bleeding": 1, "polyps": 2}),
        (["images/x/a.png", "images/y/a.png"], {"x": 1, "y": 1}),
        (["images/a.png", "images/x/b.png"], {".": 1, "x": 1}),
        (["images/a.png", "images/b.png"], {}),
        ([f"images/patient{number}/a.png" for number in range(9)], {}),
    ],
)
def test_source_is_the_first_folder_that_differs(files: list[str], sources: dict[str, int]) -> None:
    parts = subgroups([row(file, 50) for file in files])
    assert {part.name: part.images for part in parts if part.axis == "source"} == sources


def test_figures_and_intervals_are_those_of_an_evaluation_of_the_part_alone() -> None:
    random = np.random.default_rng(0)
    whole, part = LesionEvaluation(), LesionEvaluation()
    for number in range(12):
        truth = np.zeros((40, 40), bool)
        side = 3 if number % 2 else 20  # 0.6 % and 25 % of the frame
        truth[:side, :side] = True
        probability = np.clip(truth * 0.6 + random.random((40, 40)) * 0.5, 0, 1)
        for evaluation in (whole, part) if number % 2 else (whole,):
            evaluation.add(f"{number}.png", f"g{number % 5}", probability, truth)
    small = subgroups(whole.rows)[0]
    expected = part.figures()
    assert small.name == "lesion up to 1 %"
    for name, (value, (low, high)) in small.figures.items():
        assert value == pytest.approx(expected[name]["value"])
        assert (low, high) == pytest.approx((expected[name]["low"], expected[name]["high"]))


def test_nothing_of_nothing() -> None:
    assert subgroups([]) == []
