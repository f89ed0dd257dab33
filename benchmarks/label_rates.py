"""Networks each at its own learning rate: rows at the rate that validation prefers."""

from __future__ import annotations

import re
from functools import cache

from bundle_run import bundle_value
from tables import Rows, having, kinds

#: starts of rows at a network's own rate, as starts of their own
OWN_RATE = {start: f"{start}, own rate" for start in ("random", "imagenet")}
#: what must be alike in rows that are compared
SAME = ("data", "network", "method", "label_fraction", "preset", "start")
_RATE = re.compile(r"learning_rate=(\S+)")


@cache
def default_rate() -> float:
    """The learning rate of train.json."""
    return bundle_value("train", "learning_rate")


def at_own_rate(rows: Rows) -> Rows:
    """Rows of each kind of cell at the rate whose validation Dice is highest on the first seed.

    Kinds are left out while the best rate may lie outside of those tried: a lower and a higher one must have been worse
    on that seed. The start of the rows is that of OWN_RATE, their settings are ""; the test split takes no part.
    """
    found = []
    rows = [row for row in rows if row["start"] in OWN_RATE and _rate(row) is not None]
    for kind in kinds(rows, *SAME):
        own = having(rows, **dict(zip(SAME, kind, strict=True)))
        first = [row for row in own if row["seed"] == own[0]["seed"]]
        best = _rate(max(first, key=lambda row: float(row["val_dice"])))
        tried = [_rate(row) for row in first]
        if min(tried) < best < max(tried):
            found += [{**row, "start": OWN_RATE[row["start"]], "settings": ""} for row in own if _rate(row) == best]
    return found


def _rate(row: dict[str, str]) -> float | None:
    """The learning rate of a row; None where it has other overrides, too."""
    if not row["settings"]:
        return default_rate()
    alone = _RATE.fullmatch(row["settings"])
    return float(alone[1]) if alone else None
