"""Outlines on frames, and which frames are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.io.overlay import PREDICTION_COLOUR, TRUTH_COLOUR, draw_overlay, line_width
from scripts.reports.overlays import choose


def square(top: int, left: int, side: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


GREY = np.full((60, 80, 3), 100, dtype=np.uint8)


def is_colour(drawn: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (drawn == colour).all(axis=2)


def test_truth_runs_inside_its_mask_and_prediction_outside() -> None:
    mask = square(20, 20, 20)
    drawn = draw_overlay(GREY, mask, mask)
    width = line_width(60, 80)
    truth, prediction = is_colour(drawn, TRUTH_COLOUR), is_colour(drawn, PREDICTION_COLOUR)
    assert truth.sum() == 20**2 - (20 - 2 * width) ** 2 and (truth <= mask).all()
    assert prediction.any() and not (prediction & mask).any()
    assert prediction[20 - width : 20, 30].all() and not prediction[20 - width - 1, 30]


def test_far_from_the_masks_the_frame_is_untouched_and_the_input_too() -> None:
    image = GREY.copy()
    drawn = draw_overlay(image, square(20, 20, 20), square(22, 22, 20))
    assert (image == 100).all()
    assert (drawn[:14] == 100).all() and (drawn[:, 50:] == 100).all()


def test_only_the_prediction_is_filled() -> None:
    truth_only = draw_overlay(GREY, square(0, 0, 0), square(10, 10, 40))
    assert (truth_only[30, 30] == 100).all()
    filled = draw_overlay(GREY, square(10, 10, 40))
    assert filled[30, 30, 0] > 100 > filled[30, 30, 1]
    assert not is_colour(filled, TRUTH_COLOUR).any()


@pytest.mark.parametrize("whole", [True, False])
def test_empty_and_whole_masks_have_no_outline(whole: bool) -> None:
    mask = np.full((60, 80), whole)
    drawn = draw_overlay(GREY, mask, mask)
    assert not is_colour(drawn, TRUTH_COLOUR).any() and not is_colour(drawn, PREDICTION_COLOUR).any()


def test_the_border_of_the_frame_is_no_edge() -> None:
    drawn = draw_overlay(GREY, square(0, 0, 0), square(0, 0, 20))
    assert not is_colour(drawn, TRUTH_COLOUR)[0, :15].any()
    assert is_colour(drawn, TRUTH_COLOUR)[10, 19]


def test_lines_grow_with_the_frame() -> None:
    widths = [line_width(*size) for size in ((64, 64), (256, 256), (500, 600), (1080, 1920))]
    assert widths == [2, 2, 3, 9]


@pytest.mark.parametrize(
    ("image", "prediction", "message"),
    [
        (GREY.astype(float), square(0, 0, 5), r"image is .* float64, expected \(H, W, 3\) uint8"),
        (GREY[..., 0], square(0, 0, 5), r"image is \(60, 80\)"),
        (GREY, square(0, 0, 5).T, r"prediction is \(80, 60\) bool, expected \(60, 80\) bool"),
        (GREY, square(0, 0, 5).astype(np.uint8), r"prediction is .* uint8"),
    ],
)
def test_bad_input_is_refused(image, prediction, message) -> None:
    with pytest.raises(ValueError, match=message):
        draw_overlay(image, prediction)


def rows(*dice: float, lesion: int = 10) -> list[dict[str, object]]:
    return [{"file": f"{i}.png", "dice": d, "lesion_px": lesion, "predicted_px": 10} for i, d in enumerate(dice)]


def chosen(images: list[dict[str, object]]) -> dict[str, list[float]]:
    return {kind: [row["dice"] for row in found] for kind, found in choose(images).items()}


def test_best_median_and_worst_of_eleven() -> None:
    assert chosen(rows(*[i / 10 for i in range(11)])) == {
        "best": [1.0, 0.9, 0.8], "median": [0.6, 0.5, 0.4], "worst": [0.0, 0.1, 0.2], "false_alarm": [],
    }  # fmt: skip


@pytest.mark.parametrize("count", range(10))
def test_no_frame_is_chosen_twice(count: int) -> None:
    found = [row["file"] for part in choose(rows(*[i / 10 for i in range(count)])).values() for row in part]
    assert len(found) == len(set(found))
    assert len(found) >= min(count, 2)


def test_lesion_free_frames_stand_apart() -> None:
    quiet = {"file": "quiet.png", "dice": 1.0, "lesion_px": 0, "predicted_px": 0}
    small = {"file": "small.png", "dice": 0.0, "lesion_px": 0, "predicted_px": 5}
    large = {"file": "large.png", "dice": 0.0, "lesion_px": 0, "predicted_px": 50}
    found = choose([quiet, small, large, *rows(0.9, 0.5)])
    assert [row["file"] for row in found["false_alarm"]] == ["large.png", "small.png"]
    assert [row["dice"] for row in found["best"] + found["worst"]] == [0.9, 0.5]
