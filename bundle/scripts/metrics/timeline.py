"""A video's timeline as tables: timeline.csv, one row a frame, and episodes.csv, one row an episode."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.io.table import Table
from scripts.io.writers import write_bytes
from scripts.metrics.episodes import Episode

TIMELINE_COLUMNS = (
    *("frame", "time_s", "lesion_px", "lesion_share", "lesion_share_smoothed", "mean_confidence", "agreement"),
    *("quality", "episode", "scene_change", "error"),
)
EPISODE_COLUMNS = ("video", "episode", *(field.name for field in fields(Episode)))


class Timeline:
    """The figures of a video's frames, in columns of numbers: 62 bytes a frame, 5.6 MB for an hour at 25 frames/s.

    Attributes:
        errors: frame number -> why it could not be decoded or analysed.
    """

    def __init__(self) -> None:
        self._frame, self._lesion_px = array("q"), array("q")
        self._time_s, self._share, self._smoothed, self._confidence, self._agreement = (array("d") for _ in range(5))
        self._quality, self._scene_change = array("B"), array("B")
        self._qualities = [""]  # the code in _quality is the place here
        self.errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._frame)

    def add(
        self,
        frame: int,
        time_s: float,
        *,
        lesion_px: int,
        lesion_share: float,
        lesion_share_smoothed: float | None = None,
        mean_confidence: float | None = None,
        agreement: float | None = None,
        quality: str = "",
        scene_change: bool = False,
    ) -> None:
        """Add a frame: its number, seconds, pixels, shares and scores in 0..1 (None: not measured).

        Raises:
            ValueError: the frame does not come after the last one.
        """
        if quality not in self._qualities:
            self._qualities.append(quality)
        numbers = (lesion_share, lesion_share_smoothed, mean_confidence, agreement)
        self._append(frame, time_s, lesion_px, numbers, self._qualities.index(quality), scene_change)

    def add_failed(self, frame: int, time_s: float, error: str) -> None:
        """Add a frame that could not be decoded or analysed, and why. Raises ValueError as add().

        Of the frame that was added last the reason alone is noted: it was measured, and what came after that failed.
        """
        if not (self._frame and self._frame[-1] == frame):
            self._append(frame, time_s, -1, (None, None, None, None), 0, False)
        self.errors[frame] = " ".join(error.split())

    @property
    def frames(self) -> NDArray[np.int64]:
        """Frame numbers (N,), growing."""
        return np.array(self._frame, dtype=np.int64)

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Seconds (N,)."""
        return np.array(self._time_s, dtype=np.float64)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Lesion's share of the frame without temporal smoothing (N,), nan where a frame failed."""
        return np.array(self._share, dtype=np.float64)

    @property
    def smoothed_shares(self) -> NDArray[np.float64] | None:
        """The same with temporal smoothing; None where no frame has it."""
        smoothed = np.array(self._smoothed, dtype=np.float64)
        return smoothed if np.isfinite(smoothed).any() else None

    def write(self, path: str | Path, episodes: Sequence[Episode] = ()) -> None:
        """Write the table: empty cells for what is not known, ``episode`` counts from 1, ``scene_change`` is 0 or 1.

        Raises:
            OutputError: it cannot be written.
        """
        number = np.zeros(len(self), dtype=np.int64)
        for count, episode in enumerate(episodes, start=1):
            first, after = np.searchsorted(self.frames, [episode.start_frame, episode.end_frame + 1])
            number[first:after] = count
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(TIMELINE_COLUMNS)
        for row, (frame, lesion_px) in enumerate(zip(self._frame, self._lesion_px, strict=True)):
            scores = (self._share[row], self._smoothed[row], self._confidence[row], self._agreement[row])
            writer.writerow(
                [
                    *(frame, _cell(self._time_s[row]), lesion_px if lesion_px >= 0 else "", *map(_cell, scores)),
                    *(self._qualities[self._quality[row]], number[row] or "", self._scene_change[row]),
                    self.errors.get(frame, ""),
                ]
            )
        write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))

    @classmethod
    def read(cls, path: str | Path) -> Timeline:
        """Read what write() wrote, to six digits.

        Raises:
            ValueError: a column is missing. OSError: it cannot be read.
        """
        timeline = cls()
        with Path(path).open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream)
            missing = sorted(set(TIMELINE_COLUMNS) - set(table.fieldnames or ()))
            if missing:
                raise ValueError(
                    f"{path}: no column {', '.join(missing)}, expected a timeline.csv as this bundle writes."
                )
            for row in table:
                frame, time_s = int(row["frame"]), float(row["time_s"])
                if not row["lesion_px"]:
                    timeline.add_failed(frame, time_s, row["error"])
                    continue
                timeline.add(
                    frame,
                    time_s,
                    lesion_px=int(row["lesion_px"]),
                    lesion_share=float(row["lesion_share"]),
                    quality=row["quality"],
                    scene_change=row["scene_change"] == "1",
                    **{name: float(row[name]) if row[name] else None for name in TIMELINE_COLUMNS[4:7]},
                )
        return timeline

    def _append(
        self,
        frame: int,
        time_s: float,
        lesion_px: int,
        numbers: tuple[float | None, float | None, float | None, float | None],
        quality: int,
        scene_change: bool,
    ) -> None:
        if self._frame and frame <= self._frame[-1]:
            raise ValueError(f"frame {frame} after frame {self._frame[-1]}: expected frames in their order.")
        self._frame.append(frame)
        self._time_s.append(time_s)
        self._lesion_px.append(lesion_px)
        for column, number in zip(
            (self._share, self._smoothed, self._confidence, self._agreement), numbers, strict=True
        ):
            column.append(math.nan if number is None else number)
        self._quality.append(quality)
        self._scene_change.append(int(scene_change))


def write_episodes(path: str | Path, episodes: Mapping[str, Sequence[Episode]]) -> None:
    """Write the episodes of one or more videos (name -> episodes), numbered from 1 in each. Raises OutputError."""
    table = Table(EPISODE_COLUMNS)
    for video, found in episodes.items():
        for number, episode in enumerate(found, start=1):
            table.add(video=video, episode=number, **asdict(episode))
    table.write(path)


def _cell(number: float) -> str:
    """Six digits, nothing for nan."""
    return "" if math.isnan(number) else f"{number:.6f}"
