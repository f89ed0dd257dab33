"""timeline.csv and episodes.csv: cells by hand, there and back, memory, a full disk."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.io.writers import OutputError
from scripts.metrics.episodes import find_episodes
from scripts.metrics.timeline import EPISODE_COLUMNS, TIMELINE_COLUMNS, Timeline, write_episodes


def small_timeline() -> Timeline:
    """Frames 10, 15, .. 45 at 10 frames/s of file time 0.5 s apart; 25 fails; lesion from 15 to 30."""
    timeline = Timeline()
    for place, frame in enumerate(range(10, 50, 5)):
        if frame == 25:
            timeline.add_failed(frame, place * 0.5, "clip.mp4: frame 25 at 1.500 s\n is damaged")
            continue
        share = 0.1 if 15 <= frame <= 30 else 0.0
        timeline.add(
            frame, place * 0.5, lesion_px=int(share * 1000), lesion_share=share, lesion_share_smoothed=share / 2,
            mean_confidence=0.9, agreement=None if frame == 10 else 0.75, quality="check" if share else "ok",
            scene_change=frame == 40,
        )  # fmt: skip
    return timeline


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_cells_by_hand(tmp_path: Path) -> None:
    timeline = small_timeline()
    episodes = find_episodes(timeline.times_s, timeline.shares, frames=timeline.frames, bridge_s=0.6)
    assert [(episode.start_frame, episode.end_frame) for episode in episodes] == [(15, 30)]
    timeline.write(tmp_path / "timeline.csv", episodes)
    rows = rows_of(tmp_path / "timeline.csv")
    assert tuple(rows[0]) == TIMELINE_COLUMNS and len(rows) == len(timeline) == 8
    assert list(rows[0].values()) == "10|0.000000|0|0.000000|0.000000|0.900000||ok||0|".split("|")
    assert list(rows[1].values()) == "15|0.500000|100|0.100000|0.050000|0.900000|0.750000|check|1|0|".split("|")
    assert list(rows[3].values()) == "25|1.500000|||||||1|0|clip.mp4: frame 25 at 1.500 s is damaged".split("|")
    assert [row["episode"] for row in rows] == ["", "1", "1", "1", "1", "", "", ""]
    assert [row["scene_change"] for row in rows] == list("00000010")


def test_there_and_back(tmp_path: Path) -> None:
    timeline = small_timeline()
    timeline.write(tmp_path / "a.csv")
    again = Timeline.read(tmp_path / "a.csv")
    np.testing.assert_array_equal(again.frames, timeline.frames)
    np.testing.assert_array_equal(again.times_s, timeline.times_s)
    np.testing.assert_array_equal(again.shares, timeline.shares)
    np.testing.assert_array_equal(again.smoothed_shares, timeline.smoothed_shares)
    assert again.errors == timeline.errors
    again.write(tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_without_smoothing_the_column_is_empty(tmp_path: Path) -> None:
    timeline = Timeline()
    timeline.add(0, 0.0, lesion_px=5, lesion_share=0.5)
    assert timeline.smoothed_shares is None
    timeline.write(tmp_path / "timeline.csv")
    assert rows_of(tmp_path / "timeline.csv")[0]["lesion_share_smoothed"] == ""
    assert Timeline.read(tmp_path / "timeline.csv").smoothed_shares is None


def test_no_frame_at_all(tmp_path: Path) -> None:
    Timeline().write(tmp_path / "timeline.csv")
    assert (tmp_path / "timeline.csv").read_text() == ",".join(TIMELINE_COLUMNS) + "\n"
    assert len(Timeline.read(tmp_path / "timeline.csv")) == 0


def test_frames_come_in_order() -> None:
    timeline = Timeline()
    timeline.add_failed(3, 0.1, "x")
    with pytest.raises(ValueError, match="frame 3 after frame 3"):
        timeline.add(3, 0.2, lesion_px=0, lesion_share=0.0)


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("file,lesion_px\na.png,3\n")
    with pytest.raises(ValueError, match=r"results\.csv: no column agreement"):
        Timeline.read(tmp_path / "results.csv")


def test_memory_a_frame() -> None:
    timeline = Timeline()
    for frame in range(20_000):
        timeline.add(frame, frame / 25, lesion_px=frame, lesion_share=0.1, quality="ok" if frame % 3 else "check")
    columns = [value for value in vars(timeline).values() if hasattr(value, "itemsize")]
    assert len(columns) == 9
    # Arrays grow by an eighth ahead; a list of dicts would be ten times this.
    assert sum(sys.getsizeof(column) for column in columns) <= 58 * 20_000 * 1.15


def test_episodes_table(tmp_path: Path) -> None:
    times = np.arange(30) / 10
    found = find_episodes(times, np.r_[np.zeros(5), np.full(5, 0.25), np.zeros(10), np.full(10, 0.5)])
    write_episodes(tmp_path / "episodes.csv", {"a, b ü.mp4": found, "none.mp4": []})
    first, second = rows_of(tmp_path / "episodes.csv")
    assert tuple(first) == EPISODE_COLUMNS
    assert list(first.values()) == (
        "a, b ü.mp4|1|0.500000|1.000000|0.500000|0.500000|0.250000|0.250000|5|9|5|5".split("|")
    )
    assert (second["episode"], second["start_frame"], second["frames"]) == ("2", "20", "10")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "timeline.csv").mkdir()
    (tmp_path / "timeline.csv" / "kept").touch()
    with pytest.raises(OutputError, match=r"timeline\.csv: cannot be written"):
        small_timeline().write(tmp_path / "timeline.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["timeline.csv"], "nothing half written is left"
