"""What the pages share: their templates, and how figures and times are printed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).parent
DASH = "–"


def render_page(template: str, **values: Any) -> str:
    """A page of one of this folder's templates, with their style; what is printed is escaped, what is missing empty."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters.update(percent=percent, duration=duration)
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(style=style, **values)


def shown(name: str, value: float | None) -> str:
    """A figure as it is printed: shares with three decimals, distances with one, false alarms in percent."""
    if value is None or not math.isfinite(value):
        return DASH
    if name == "hd95":
        return f"{value:.1f}"
    if name == "false_positive_frames":
        return f"{100 * value:.1f}\u202f%"
    return f"{value:.3f}"


def duration(seconds: float | None) -> str:
    """Seconds as "2 h 5 min", "3 min 12 s" or "45 s"."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return DASH
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def percent(share: float) -> str:
    """A share as percent: two significant digits under 1 %, else one decimal."""
    return f"{100 * share:.2g}\u202f%" if 0 < share < 0.01 else f"{100 * share:.1f}\u202f%"


def shown_interval(name: str, figure: dict[str, Any]) -> str:
    """The 95 % interval of a figure, "0.815 to 0.973"; "" where it has none."""
    if figure.get("low") is None or figure.get("high") is None:
        return ""
    return f"{shown(name, figure['low'])} to {shown(name, figure['high'])}"
