"""The drawing on a video frame."""

from __future__ import annotations

import time

import numpy as np
import pytest

from scripts.io.overlay import FILL_OPACITY, PREDICTION_COLOUR, RIM_COLOUR, draw_overlay, line_width
from scripts.io.video_overlay import draw_video_overlay


def grey(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 100, dtype=np.uint8)


def test_fill_line_and_rim_of_a_rectangle() -> None:
    frame, mask = grey(), np.zeros((120, 160), dtype=bool)
    mask[40:80, 50:110] = True
    drawn = draw_video_overlay(frame, mask)
    width = line_width(120, 160)
    fill = [round(100 + FILL_OPACITY * (level - 100)) for level in PREDICTION_COLOUR]
    assert drawn[40, 50].tolist() == drawn[60, 80].tolist() == fill
    row = drawn[60]
    assert (row[50 - width : 50] == PREDICTION_COLOUR).all()
    assert (row[110 : 110 + width] == PREDICTION_COLOUR).all()
    assert row[49 - width].tolist() == [50 + level // 2 for level in RIM_COLOUR]
    assert (row[: 49 - width] == 100).all()
    assert (frame == 100).all(), "the frame itself is unchanged"


def test_nearly_what_the_still_overlay_draws() -> None:
    rows, columns = np.mgrid[:480, :640]
    mask = ((columns - 300) / 150) ** 2 + ((rows - 200) / 90) ** 2 < 1
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    quick, careful = draw_video_overlay(frame, mask), draw_overlay(frame, mask)
    assert (quick[mask] == careful[mask]).all()
    assert (quick != careful).any(axis=2).sum() < 0.2 * (careful != frame).any(axis=2)[~mask].sum()


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_have_no_line(value: bool) -> None:
    drawn = draw_video_overlay(grey(), np.full((120, 160), value))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1
    assert (drawn == grey()).all() != value


def test_a_lesion_at_the_border() -> None:
    mask = np.zeros((120, 160), dtype=bool)
    mask[:30, 140:] = True
    drawn = draw_video_overlay(grey(), mask)
    assert (drawn[0, -1] != PREDICTION_COLOUR).any()
    assert (drawn[30, 150] == PREDICTION_COLOUR).all()
    assert (drawn[10, 139] == PREDICTION_COLOUR).all()


def test_text_at_the_bottom_left() -> None:
    drawn = draw_video_overlay(grey(240, 320), np.zeros((240, 320), dtype=bool), "00:12.4")
    changed = (drawn != 100).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[0] > 200 and rows[-1] == 239 and columns[0] == 0 and columns[-1] < 120
    box = drawn[rows[0] :, : columns[-1] + 1]
    assert box.max() > 230 and box.min() == min(RIM_COLOUR)
    other = draw_video_overlay(grey(240, 320), np.zeros((240, 320), dtype=bool), "00:12.5")
    assert (drawn != other).any()


def test_text_wider_than_the_frame_is_cut() -> None:
    drawn = draw_video_overlay(grey(20, 30), np.zeros((20, 30), dtype=bool), "a long line of text")
    assert drawn.shape == (20, 30, 3)


def test_quick_enough_for_a_clip() -> None:
    rows, columns = np.mgrid[:720, :1280]
    mask = ((columns - 600) / 300) ** 2 + ((rows - 330) / 200) ** 2 < 1  # a fifth of the frame
    frame, spent = grey(720, 1280), []
    for number in range(7):
        start = time.process_time()
        draw_video_overlay(frame, mask, f"00:0{number}.0")
        spent.append(time.process_time() - start)
    assert min(spent) < 0.015


def test_senseless_input() -> None:
    mask = np.zeros((120, 160), dtype=bool)
    for frame in (grey().astype(np.float32), grey()[..., 0], grey()[..., :2]):
        with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
            draw_video_overlay(frame, mask)
    for wrong in (mask[1:], mask.astype(np.uint8)):
        with pytest.raises(ValueError, match=r"expected \(120, 160\) bool"):
            draw_video_overlay(grey(), wrong)
