"""The timeline of a video as a picture: how much lesion is seen when, and the episodes."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import ArrayLike, NDArray

from scripts.io.writers import write_bytes
from scripts.metrics.episodes import Episode
from scripts.reports.figures import BLUE, ORANGE

INK, GRID, SHADE = "#222222", "#dddddd", "#9a9a9a"
SIZE, DPI = (8.0, 8.0 / 3), 150  # 1200 x 400 pixels
COLUMNS = 1000  # of the drawing: a longer video is drawn by the largest share of each column
DIGIT_WIDTH = 0.01  # of the axis, of an episode's number
MANY = 40  # episodes: their peaks are marked smaller
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)  # between marks of the axis
TITLE_LENGTH = 70  # characters


def draw_timeline(
    path: str | Path,
    times_s: ArrayLike,
    shares: ArrayLike,
    smoothed_shares: ArrayLike | None,
    episodes: Sequence[Episode],
    title: str,
    failed_frames: Sequence[int] = (),
) -> None:
    """Write a PNG of 1200 x 400 pixels: lesion's share over time, episodes shaded and numbered, each peak marked.

    Args:
        path: target file.
        times_s: (N,) seconds, growing. shares: (N,) 0..1, nan where a frame was not decoded. smoothed_shares: (N,) the
            same with temporal smoothing, or None.
        episodes: what find_episodes gave.
        title: such as the file's name; no patient's name belongs here.
        failed_frames: places in times_s of frames that could not be analysed, ticked below the axis; those whose share
            is nan are ticked anyway.

    Raises:
        ValueError: lengths that differ. OutputError: it cannot be written.
    """
    times, raw = np.asarray(times_s, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    smoothed = None if smoothed_shares is None else np.asarray(smoothed_shares, dtype=np.float64)
    for name, column in (("shares", raw), ("smoothed_shares", smoothed)):
        if column is not None and (times.ndim != 1 or column.shape != times.shape):
            raise ValueError(f"{name} are {column.shape}, times {times.shape}: expected one share for each time.")
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    end = max([float(times[-1]) if len(times) else 0.0, *(episode.end_s for episode in episodes), 0.04])
    start = min(float(times[0]), end - 0.04) if len(times) else 0.0
    axes.set_xlim(start, end)
    _draw_shares(axes, times, raw, smoothed)
    _draw_episodes(axes, episodes)
    failed = np.union1d(np.flatnonzero(np.isnan(raw)), np.asarray(failed_frames, dtype=np.int64))
    if len(failed):
        at = np.unique(np.round((times[failed] - start) / (end - start) * COLUMNS)) / COLUMNS * (end - start) + start
        label = f"not decoded ({len(failed)})"
        axes.plot(at, np.full(len(at), -0.03), "|", color=INK, markersize=6, clip_on=False, label=label,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    _dress(axes, title, start, end, len(episodes))
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # Names in scripts that the font lacks come out as boxes; that is no reason for a line of log a letter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure).print_png(picture)
    write_bytes(path, picture.getvalue())


def _draw_shares(
    axes: Axes, times: NDArray[np.float64], raw: NDArray[np.float64], smoothed: NDArray[np.float64] | None
) -> None:
    thinned = len(times) > 2 * COLUMNS
    of = f" (largest in {(times[-1] - times[0]) / COLUMNS:.1f} s)" if thinned else ""
    at, largest = _largest_of_columns(times, 100 * raw)
    if thinned and smoothed is not None:
        # A thousand spikes are an area; as lines they would hide one another.
        axes.fill_between(at, largest, color=BLUE, alpha=0.45, linewidth=0, label=f"each frame{of}")
    else:
        width = 1.0 if thinned or smoothed is not None else 1.8
        _draw_line(axes, at, largest, BLUE, f"each frame{of}", width)
    if smoothed is not None:
        _draw_line(axes, *_largest_of_columns(times, 100 * smoothed), ORANGE, "smoothed", 0.9 if thinned else 2.0)


def _draw_line(
    axes: Axes, at: NDArray[np.float64], values: NDArray[np.float64], colour: str, label: str, width: float
) -> None:
    # A lone frame between two that failed has no line to either side: the dot shows it.
    alone = len(at) == 1 or (np.isnan(values).any() and len(at) < COLUMNS // 4)
    marker = "." if alone else None
    axes.plot(at, values, "-", color=colour, linewidth=width, label=label, marker=marker, markersize=3, clip_on=False)


def _largest_of_columns(
    times: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thin out to COLUMNS points, each at the largest value of its stretch of time; nan where all of it is nan."""
    if len(times) <= 2 * COLUMNS:
        return times, values
    edges = np.linspace(0, len(times), COLUMNS + 1).astype(np.int64)[:-1]
    largest = np.fmax.reduceat(values, edges)
    return times[edges], largest


def _draw_episodes(axes: Axes, episodes: Sequence[Episode]) -> None:
    start, end = axes.get_xlim()
    last = -math.inf  # where the last number stands
    for number, episode in enumerate(episodes, start=1):
        # A second of an hour is less than a pixel: widened so that it stays to be seen.
        width = max(episode.duration_s, 0.002 * (end - start))
        axes.axvspan(episode.start_s, episode.start_s + width, color=SHADE, alpha=0.3, linewidth=0)
        middle = (episode.start_s + episode.end_s) / 2
        room = DIGIT_WIDTH * (len(str(number)) + 0.6) * (end - start)
        if middle - last >= room:
            axes.text(middle, 0.985, str(number), ha="center", va="top", fontsize=8.5, color=INK,
                      transform=axes.get_xaxis_transform())  # fmt: skip
            last = middle
    if episodes:
        peaks = [(episode.peak_s, 100 * episode.peak_share) for episode in episodes]
        size = 5 if len(peaks) <= MANY else 2.5
        axes.plot(*zip(*peaks, strict=True), "v", color=INK, markersize=size, label="peak", zorder=4, clip_on=False)


def _dress(axes: Axes, title: str, start: float, end: float, episodes: int) -> None:
    """Scales, grid, legend and title."""
    top = max(axes.dataLim.y1, 0.1) if math.isfinite(axes.dataLim.y1) else 0.1
    axes.set_ylim(0, 1.22 * top)  # room for the numbers above the highest peak
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("lesion, % of the frame")
    step = next((step for step in STEPS_S if (end - start) / step <= 10), (end - start) / 10)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    digits = 0 if step >= 1 else 1
    axes.xaxis.set_major_formatter(lambda value, _: clock(value, digits))
    axes.set_xlabel("time, min:s")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, labelsize=9, length=0)
    axes.tick_params(axis="x", pad=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(INK)
        label.set_fontsize(9.5)
    if len(title) > TITLE_LENGTH:
        title = title[: TITLE_LENGTH // 2 - 1] + " … " + title[-TITLE_LENGTH // 2 :]
    counted = {0: "no episode", 1: "1 episode"}.get(episodes, f"{episodes} episodes")
    # A file's name may hold "$", which matplotlib would read as a formula.
    axes.set_title(f"{title}: {counted}", loc="left", fontsize=10, color=INK, pad=20, parse_math=False)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=4, frameon=False, fontsize=9, labelcolor=INK,
        handlelength=1.6, columnspacing=1.2, borderaxespad=0.2, handletextpad=0.5,
    )  # fmt: skip


def clock(seconds: float, digits: int = 0) -> str:
    """Seconds as minutes and seconds: 75.5 -> "01:15.5" with one digit, "01:16" without; an hour is 60:00."""
    units = round(abs(seconds) * 10**digits)
    minutes, rest = divmod(units, 60 * 10**digits)
    sign = "-" if seconds < 0 and units else ""
    return f"{sign}{minutes:02d}:{rest / 10**digits:0{3 + digits if digits else 2}.{digits}f}"
