"""Which cells of the grid are done, and how long the others will take, by the finished ones of the same kind."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bundle_run import is_there
from label_cell import Setting
from label_grid import Cell
from tables import having


def seconds_of(cell: Cell, rows: Sequence[Mapping[str, Any]], setting: Setting) -> float | None:
    """Mean seconds of the finished cells with its network and method at this preset and these overrides; or None.

    Of the same data set where there are some: its test split takes its own time.
    """
    kind = {
        "network": cell.network,
        "method": cell.method,
        "preset": setting.preset,
        "settings": setting.settings,
    }
    own = having(rows, **kind)
    nearest = [row for row in own if row["data"] == cell.data] or own
    return statistics.mean(float(row["seconds"]) for row in nearest) if nearest else None


def time_left(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]], setting: Setting, parallel: int = 1) -> str:
    """How many cells are left and for how long."""
    known = [seconds_of(cell, rows, setting) for cell in cells]
    unknown = known.count(None)
    hours = sum(seconds for seconds in known if seconds is not None) / parallel / 3600
    text = f"{len(cells)} cells left, {hours:.1f} h"
    return text + (f" and {unknown} cells of kinds without a finished one" if unknown else "")


def listing(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]], setting: Setting, parallel: int = 1) -> str:
    """A line a cell in the order of running, done ones with their Dice, others with their time; then the sum."""
    lines, waiting = [], []
    for cell in cells:
        key = cell.key(setting.preset, setting.settings)
        done = [row for row in rows if is_there([row], key)]
        if done:
            state = f"done, Dice {float(done[0]['best_dice']):.3f}"
        else:
            waiting.append(cell)
            seconds = seconds_of(cell, rows, setting)
            state = "time unknown" if seconds is None else f"about {seconds / 60:.0f} min"
        share = f"{cell.label_fraction:.0%}"
        lines.append(
            f"{cell.data:<15}{share:>5}  {cell.method:<19}{cell.network:<31}{cell.start:<9} seed {cell.seed}  {state}"
        )
    return "\n".join([*lines, f"{setting.preset}: {time_left(waiting, rows, setting, parallel)}"])
