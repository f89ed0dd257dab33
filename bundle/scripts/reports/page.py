"""What the pages share: their templates, and how figures and times are printed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import jinja2

FOLDER = Path(__file__).parent
DASH = "–"


def page_templates(**filters: Callable[..., str]) -> jinja2.Environment:
    """The templates of this folder; what they print is escaped, what is missing is empty."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters.update(filters)
    return environment


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
