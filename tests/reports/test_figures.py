"""The report's charts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from scripts.reports.figures import _figure, chart

SHORT = ["a", "b", "c"]
LONG = ["quadratic kappa", "macro F1", "Spearman of the score", "the epoch that was kept"]


def lines(labels: Sequence[str]) -> object:
    def draw(axes: Axes, ink: str) -> None:
        for number, label in enumerate(labels):
            axes.plot([0, 1], [number, number + 1], label=label)

    return draw


@pytest.mark.parametrize("title", ["Title", None])
@pytest.mark.parametrize(("labels", "rows"), [(SHORT, 1), (LONG, 2), ([name * 2 for name in LONG], 4)])
def test_a_long_legend_takes_rows_and_leaves_the_axes_their_width(
    labels: list[str], rows: int, title: str | None
) -> None:
    figure = _figure(lines(labels), "#000000", "#cccccc", title)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert math.ceil(len(labels) / legend._ncols) == rows
    assert legend.get_window_extent().x1 <= figure.bbox.width
    assert axes.get_window_extent().width > 0.8 * figure.bbox.width
    if title:
        assert axes._left_title.get_window_extent().y0 >= legend.get_window_extent().y1 - 4, "the title is above it"
        assert axes._left_title.get_window_extent().y1 <= figure.bbox.height


def test_the_chart_is_a_picture_and_an_svg_of_the_page_s_colours(tmp_path: Path) -> None:
    found = chart(tmp_path, "loss", "Loss", "note", "summary", lines(LONG))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "currentColor" in found.svg and "<metadata" not in found.svg
    assert all(name.startswith("loss-") for name in re.findall(r'\bid="([^"]+)"', found.svg))
