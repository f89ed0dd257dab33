"""What must stand beside a figure of the grid so that it is not read as more than it is: steps, seeds, precision."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from label_axes import PRESETS
from tables import Rows


def steps_of(own: Rows) -> str:
    """Steps of the last stage, and what came before or after it in the same cell, the mean over seeds: "800 + 300"."""
    more = statistics.mean(int(row["steps_all"]) - int(row["steps"]) for row in own)
    return own[0]["steps"] + (f" + {more:.0f}" if more else "")


def seeds_of(own: Rows) -> str:
    """The seeds, with the precision of those that were not run in their preset's: "0, 1 (fp32)"."""
    return ", ".join(row["seed"] + (f" ({row['precision']})" if is_other(row) else "") for row in own)


def count_of(own: Rows) -> str:
    """How many seeds, and how many of them in another precision than their preset's: " (3, 1 in fp32)"."""
    if not own:
        return ""
    other = [row["precision"] for row in own if is_other(row)]
    named = f", {len(other)} in {other[0]}" if other else ""
    return f" ({len(own)}{named})"


def is_other(row: Mapping[str, str]) -> bool:
    """Whether a row was not run in the precision of its preset."""
    return row["precision"] != PRESETS[row["preset"]].train["precision"]
