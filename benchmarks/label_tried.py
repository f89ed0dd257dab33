"""Table of the levers: cells with overrides against the same cells without, on validation and on test."""

from __future__ import annotations

import statistics

from tables import Rows, gains, having, kinds, markdown

SAME = ("data", "label_fraction", "method", "network", "start", "preset")
FIGURES = {"val_dice": "validation Dice", "best_dice": "test Dice, best", "last_dice": "test Dice, last"}


def tried(rows: Rows, nothing: str = "") -> str:
    """A line for each kind of cell and overrides: mean over seeds, and the mean difference to the cell without.

    A lever is chosen by validation; the test figures are there to be seen. Differences are of the seeds that both have.

    Args:
        nothing: what is given back where no row has overrides.
    """
    body = []
    for kind in kinds([row for row in rows if row["settings"]], *SAME, "settings"):
        own = having(rows, **dict(zip((*SAME, "settings"), kind, strict=True)))
        plain = having(rows, **dict(zip(SAME, kind, strict=False)), settings="")
        data, fraction, method, network, start, preset, settings = kind
        seeds = ", ".join(row["seed"] for row in own)
        cells = [_beside(own, plain, name) for name in FIGURES]
        body.append([data, f"{float(fraction):.0%}", method, network, start, preset, settings, seeds, *cells])
    header = ["data", "labels", "method", "network", "start", "preset", "overrides", "seeds", *FIGURES.values()]
    return markdown(header, body) if body else nothing


def _beside(own: Rows, plain: Rows, name: str) -> str:
    """Mean of a figure, and in brackets by how much it lies above the same cells without overrides."""
    mean = f"{statistics.mean(float(row[name]) for row in own):.3f}"
    more = gains(own, plain, name)
    return f"{mean} ({statistics.mean(more):+.3f})" if more else mean
