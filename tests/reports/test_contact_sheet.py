"""The sheet of chosen frames."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.io.overlay import PREDICTION_COLOUR
from scripts.reports import contact_sheet
from scripts.reports.contact_sheet import GAP, TILE, draw_contact_sheet


def test_outline_where_the_lesion_is(tmp_path: Path) -> None:
    """A wide frame, its left half lesion: fitted by width, the outline at the middle of the tile."""
    probability = np.zeros((20, 40), np.float32)
    probability[:, :20] = 1.0
    frame = Image.new("RGB", (400, 200), (100, 100, 100))
    draw_contact_sheet(tmp_path / "a.png", [(frame, Image.fromarray(probability), "1  0.5\na.png")])
    tile = np.asarray(Image.open(tmp_path / "a.png"))[GAP : GAP + TILE, GAP : GAP + TILE]
    assert (tile[: TILE // 4] == 255).all() and (tile[-TILE // 4 :] == 255).all(), "paper above and below"
    row = tile[TILE // 2]
    line = np.flatnonzero((row == PREDICTION_COLOUR).all(axis=-1))
    assert len(line) and abs(line - TILE / 2).max() <= 4
    assert row[TILE // 4, 0] > 100 and row[TILE * 3 // 4].tolist() == [100, 100, 100]


def test_captions_are_cut_to_the_width_of_their_tile(tmp_path: Path) -> None:
    frame = Image.new("RGB", (50, 50))
    draw_contact_sheet(tmp_path / "a.png", [(frame, None, "1\n" + "long/" * 60 + "name.png")] * 2)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert (sheet[:, GAP + TILE - 1 : GAP + TILE + GAP][GAP + TILE :] == 255).all(), "the gap stays white"
    assert (sheet[GAP + TILE + 17 : -GAP] < 128).any()


def test_more_than_anybody_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(contact_sheet, "MOST", 2)
    with caplog.at_level(logging.WARNING):
        draw_contact_sheet(tmp_path / "a.png", [(Image.new("RGB", (9, 9)), None, "")] * 5)
    assert Image.open(tmp_path / "a.png").width == GAP + 2 * (TILE + GAP)
    assert "the first 2 frames; 3 more" in caplog.text
