"""What all tables of the docs are made of: markdown, and means with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Rows = list[dict[str, str]]


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def mean_and_spread(values: Sequence[str], name: str = "", digits: int | None = None) -> str:
    """Mean ± standard deviation of the values that are there ("" is not); "–" of none.

    Args:
        name: of the figure; HD95 is in whole pixels.
        digits: behind the point; None = as the figure has it.
    """
    numbers = [float(value) for value in values if value]
    if not numbers:
        return "–"
    digits = (0 if name == "hd95" else 3) if digits is None else digits
    spread = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.{digits}f}{spread}"
