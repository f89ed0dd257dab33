"""The timeline picture: its size, and pixels where lesion, episodes and failed frames are."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.io.writers import OutputError
from scripts.metrics.episodes import find_episodes
from scripts.reports.timeline_figure import clock, draw_timeline

SHADE = (225, 225, 225)  # SHADE of the figure at 30 % on white


def drawn(path: Path, times: np.ndarray, shares: np.ndarray, **options: object) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = {"smoothed_shares": None, "episodes": find_episodes(times, shares), "title": "clip.mp4"} | options
        draw_timeline(path, times, shares, **settings)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape == (400, 1200, 3)
    return picture


def shaded_columns(picture: np.ndarray) -> np.ndarray:
    """Which columns are an episode, read in a row near the top of the axes."""
    close = np.abs(picture.astype(int) - SHADE).max(axis=2) <= 3
    return close[60:200].mean(axis=0) > 0.5


def test_episode_is_shaded_where_it_is(tmp_path: Path) -> None:
    # Ten seconds with lesion from 2.5 to 5 s: a quarter of the axis.
    times = np.arange(250) / 25
    shares = np.where((times >= 2.5) & (times < 5), 0.1, 0.0)
    columns = np.flatnonzero(shaded_columns(drawn(tmp_path / "a.png", times, shares)))
    width = columns[-1] - columns[0] + 1
    assert np.all(np.diff(columns) <= 12), "one piece, apart from the line and the number in it"
    assert 0.24 * 1080 <= width <= 0.26 * 1180
    assert not shaded_columns(drawn(tmp_path / "b.png", times, np.zeros(250))).any()


def test_a_short_episode_of_an_hour_is_still_to_be_seen(tmp_path: Path) -> None:
    times = np.arange(0, 3600, 0.2)
    shares = np.where((times >= 1801.1) & (times < 1801.7), 0.2, 0.0)  # within one column of the drawing
    assert len(find_episodes(times, shares)) == 1
    picture = drawn(tmp_path / "hour.png", times, shares)
    middle = picture[:, 550:690].astype(int)
    blue = (middle[..., 2] - middle[..., 0] > 120).any(axis=1)
    assert blue[80:330].mean() > 0.6, "its three frames of 18000 reach up to their share"


def test_failed_frames_are_ticked(tmp_path: Path) -> None:
    times, shares = np.arange(100) / 25, np.full(100, 0.1)
    clean = drawn(tmp_path / "a.png", times, shares)
    shares[40:44] = np.nan
    by_nan = drawn(tmp_path / "b.png", times, shares)
    assert (clean != by_nan).any()
    by_place = drawn(tmp_path / "c.png", times, shares, failed_frames=[40, 41, 42, 43])
    np.testing.assert_array_equal(by_nan, by_place)
    more = drawn(tmp_path / "d.png", times, shares, failed_frames=[10])
    assert (more != by_nan).any()


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("share", [0.0, 0.3, np.nan])
def test_next_to_nothing(tmp_path: Path, count: int, share: float) -> None:
    drawn(tmp_path / "a.png", np.arange(count) / 25, np.full(count, share))


def test_smoothed_line_is_drawn(tmp_path: Path) -> None:
    times, shares = np.arange(100) / 25, np.tile([0.0, 0.2], 50)
    both = drawn(tmp_path / "a.png", times, shares, smoothed_shares=np.full(100, 0.1)).astype(int)
    one = drawn(tmp_path / "b.png", times, shares).astype(int)
    orange = [(picture[..., 0] - picture[..., 2] > 120).sum() for picture in (both, one)]
    assert orange[0] > 1000 and orange[1] == 0


def test_names_with_formula_signs_and_long_ones(tmp_path: Path) -> None:
    for title in ("cost $5_{x $ and ü.mp4", "内視鏡.mp4", "x" * 400):
        drawn(tmp_path / "a b ü.png", np.arange(10) / 25, np.zeros(10), title=title)


def test_many_episodes(tmp_path: Path) -> None:
    times = np.arange(3000) / 5
    columns = shaded_columns(drawn(tmp_path / "a.png", times, np.where(times % 6 < 2, 0.05, 0.0)))
    assert np.count_nonzero(np.diff(columns.astype(int)) > 0) >= 80, "most of a hundred stand apart"


def test_bad_arguments_and_places(tmp_path: Path) -> None:
    times = np.arange(3.0)
    with pytest.raises(ValueError, match=re.escape("shares are (2,), times (3,)")):
        draw_timeline(tmp_path / "a.png", times, [0, 0], None, [], "x")
    with pytest.raises(ValueError, match="smoothed_shares are"):
        draw_timeline(tmp_path / "a.png", times, times * 0, [0, 0], [], "x")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        draw_timeline(tmp_path / "file" / "a.png", times, times * 0, None, [], "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("seconds", "digits", "text"),
    [
        *((0, 0, "00:00"), (59.6, 0, "01:00"), (3600, 0, "60:00")),
        *((75.5, 1, "01:15.5"), (59.96, 1, "01:00.0"), (0.2, 1, "00:00.2"), (-0.5, 1, "-00:00.5")),
    ],
)
def test_clock(seconds: float, digits: int, text: str) -> None:
    assert clock(seconds, digits) == text
