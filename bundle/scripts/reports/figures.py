"""The report's charts: each as PNG for slides and as SVG that takes the page's colours in light and dark mode."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from scripts.io.writers import write_bytes

# Okabe and Ito's colours, which stay apart for the common colour deficiencies; lines differ in dash as well.
BLUE, ORANGE, GREEN, PURPLE = "#0b84c4", "#e08a00", "#0a9b74", "#c267a0"
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"))
# Placeholders that the SVG's text is searched for: matplotlib knows no currentColor.
INK, GRID = "#0a0b0c", "#0d0e0f"
SIZE = (4.8, 2.9)  # inches; small, so that its text stays readable on a phone
LEGEND_SHARE = 0.88  # of the width: the page's font may be wider than this one


@dataclass(frozen=True)
class Chart:
    """A chart of the page: `svg` is markup of our own making, `summary` says in words what it shows."""

    name: str
    title: str
    note: str
    summary: str
    svg: str


@dataclass(frozen=True)
class Line:
    """One line of a chart over epochs."""

    column: str
    label: str


def epoch_chart(
    folder: Path,
    name: str,
    title: str,
    note: str,
    rows: Sequence[dict[str, float]],
    lines: Sequence[Line],
    best_epoch: float | None = None,
    level: tuple[float, str] | None = None,
    from_zero: bool = False,
) -> Chart | None:
    """A chart of columns of metrics.csv over epochs; None when none of them holds a number.

    Args:
        folder: where <name>.png is written.
        best_epoch: marked by a vertical line. level: (value, label) of a horizontal line.
        from_zero: whether the axis starts at 0, for shares whose size matters as much as their change.
    """
    series = []
    for line in lines:
        points = [
            (row["epoch"], row.get(line.column, math.nan)) for row in rows if math.isfinite(row.get("epoch", math.nan))
        ]
        points = [point for point in points if math.isfinite(point[1])]
        if points:
            series.append((line.label, points))
    if not series:
        return None

    def draw(axes: Axes, ink: str) -> None:
        for (label, points), (colour, dash) in zip(series, STYLES, strict=False):
            marker = "o" if len(points) <= 30 else None
            axes.plot(*zip(*points, strict=True), dash, color=colour, marker=marker, markersize=3, label=label)
        if level is not None:
            axes.axhline(level[0], color=ink, linewidth=1, linestyle=(0, (2, 2)), label=level[1])
        if best_epoch is not None:
            axes.axvline(best_epoch, color=ink, linewidth=0.8, alpha=0.6, label=f"best ({best_epoch:g})")
        if from_zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))

    said = [f"{label}: {_said(points)}" for label, points in series]
    return chart(folder, name, title, note, "; ".join(said) + ".", draw)


def dice_histogram(folder: Path, images: Sequence[dict[str, Any]]) -> Chart | None:
    """How per-image Dice is distributed, frames with and without lesion apart; None without rows."""
    with_lesion = [row["dice"] for row in images if row.get("lesion_px", 0) > 0 and math.isfinite(row["dice"])]
    without = [row["dice"] for row in images if row.get("lesion_px", 0) == 0 and math.isfinite(row["dice"])]
    groups = [(with_lesion, BLUE, "lesion"), (without, ORANGE, "no lesion")]
    groups = [group for group in groups if group[0]]
    if not groups:
        return None

    note = "Without lesion Dice can only be 1 (nothing predicted) or 0 (false alarm)." if without else ""
    return _histogram(folder, "Dice by image", note, "image", groups)


def structure_histogram(folder: Path, rows: Sequence[dict[str, Any]], noun: str) -> Chart | None:
    """How the Dice of volumes is distributed, by structure; None without rows, or with more structures than colours."""
    names = list(dict.fromkeys(row["class"] for row in rows))
    if not names or len(names) > len(STYLES):
        return None
    groups = [
        ([row["dice"] for row in rows if row["class"] == name], colour, name)
        for name, (colour, _) in zip(names, STYLES, strict=False)
    ]
    return _histogram(folder, f"Dice by {noun} and structure", "", noun, groups)


def _histogram(
    folder: Path, title: str, note: str, noun: str, groups: Sequence[tuple[Sequence[float], str, str]]
) -> Chart:
    """Stacked columns of Dice for groups of (values, colour, label)."""

    def draw(axes: Axes, ink: str) -> None:
        values, colours, labels = zip(*groups, strict=True)
        axes.hist(values, bins=[i / 20 for i in range(21)], stacked=True, color=colours, label=labels, rwidth=0.92)
        axes.set_xlabel(f"Dice of one {noun}")
        axes.set_ylabel(f"{noun}s")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))

    said = [f"{len(values)} {noun}s, {label}: median Dice {_median(values):.3f}" for values, _, label in groups]
    return chart(folder, "dice_histogram", title, note, "; ".join(said) + ".", draw)


def size_scatter(folder: Path, images: Sequence[dict[str, Any]]) -> Chart | None:
    """Dice against the share of the frame that is lesion; None with fewer than two such frames."""
    points = [
        (100 * row["lesion_px"] / (row["height"] * row["width"]), row["dice"])
        for row in images
        if row.get("lesion_px", 0) > 0 and row.get("height", 0) * row.get("width", 0) > 0
    ]
    if len(points) < 2:
        return None

    def draw(axes: Axes, ink: str) -> None:
        axes.scatter(*zip(*points, strict=True), s=12, color=BLUE, alpha=0.6, linewidths=0)
        axes.set_xscale("log")
        axes.set_xlabel("lesion, % of the frame")
        axes.set_ylabel("Dice of one image")
        axes.set_ylim(-0.03, 1.03)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())

    ordered = [dice for _, dice in sorted(points)]
    half = len(ordered) // 2
    summary = (
        f"{len(points)} images with lesion; median Dice {_median(ordered[:half]):.3f} for the smaller half of the"
        f" lesions, {_median(ordered[half:]):.3f} for the larger."
    )
    return chart(folder, "dice_by_size", "Dice by lesion size", "One dot an image with lesion.", summary, draw)


def chart(folder: Path, name: str, title: str, note: str, summary: str, draw: Callable[[Axes, str], None]) -> Chart:
    """A chart of the page, and <name>.png in the folder.

    Args:
        note: stands below it. summary: says in words what it shows.
        draw: of axes and the colour of text.
    """
    picture = io.BytesIO()
    FigureCanvasAgg(_figure(draw, "#222222", "#dddddd", title)).print_png(picture)
    write_bytes(folder / f"{name}.png", picture.getvalue())
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        vector = io.StringIO()
        FigureCanvasSVG(_figure(draw, INK, GRID, None)).print_svg(vector, metadata={"Date": None, "Creator": None})
    return Chart(name, title, note, summary, _page_svg(vector.getvalue(), name))


def _figure(draw: Callable[[Axes, str], None], ink: str, grid: str, title: str | None) -> Figure:
    figure = Figure(figsize=SIZE, dpi=200 if title else 72, layout="constrained")
    figure.patch.set_alpha(1.0 if title else 0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    draw(axes, ink)
    axes.grid(axis="y", color=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=ink, labelsize=10, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(grid)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(ink)
        label.set_fontsize(10)
    height = _legend(figure, axes, ink)
    if title:
        axes.set_title(title, loc="left", fontsize=10, color=ink, pad=height + 3)
    return figure


def _legend(figure: Figure, axes: Axes, ink: str) -> float:
    """Above the axes, in as few rows as are no wider than the figure; returns its height in points."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return 0.0
    renderer = FigureCanvasAgg(figure).get_renderer()
    for columns in range(len(labels), 0, -1):
        legend = axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, frameon=False,
            fontsize=9.5, labelcolor=ink, handlelength=1.6, columnspacing=1.0, borderaxespad=0.2, handletextpad=0.5,
        )  # fmt: skip
        size = legend.get_window_extent(renderer)
        if size.width <= LEGEND_SHARE * figure.bbox.width:
            break
    return 72 * size.height / figure.dpi


def _page_svg(markup: str, name: str) -> str:
    """Strip what a page does not need, hand the colours to its style sheet, make ids unique on the page."""
    markup = markup[markup.index("<svg") :]
    markup = re.sub(r"<metadata>.*?</metadata>", "", markup, flags=re.DOTALL)
    markup = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', markup, count=1)
    markup = markup.replace("xlink:href", "href").replace(INK, "currentColor").replace(GRID, "var(--line)")
    markup = re.sub(r'\bid="', f'id="{name}-', markup)
    return re.sub(r'(href="|url\()#', rf"\1#{name}-", markup)


def _said(points: Sequence[tuple[float, float]]) -> str:
    (first, start), (last, end) = points[0], points[-1]
    if len(points) == 1:
        return f"{start:.3g} at epoch {first:g}"
    return f"{start:.3g} at epoch {first:g} to {end:.3g} at epoch {last:g}"


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
