"""What choose_recipe.json would keep in each cell of the grid: rows of the recipe that is best on validation."""

from __future__ import annotations

from functools import cache

from bundle_run import bundle_value
from tables import Rows, having, kinds

CHOSEN = "chosen"
#: what must be alike in rows that are compared
SAME = ("data", "network", "label_fraction", "start", "seed", "preset", "settings")


@cache
def candidates() -> tuple[str, ...]:
    """The recipes that choose_recipe.json trains by default, in their order; methods of the grid have their names."""
    return tuple(bundle_value("choose_recipe", "recipes"))


def with_chosen(rows: Rows) -> Rows:
    """The rows, and for each cell in which every candidate is measured a copy of the one with the best validation Dice.

    Its method is CHOSEN, its steps and seconds are those of all candidates together. The test split takes no part.
    """
    chosen = []
    for kind in kinds(rows, *SAME):
        here = {row["method"]: row for row in having(rows, **dict(zip(SAME, kind, strict=True)))}
        if not set(candidates()) <= here.keys():
            continue
        own = [here[name] for name in candidates()]
        best = max(own, key=lambda row: float(row["val_dice"]))  # the first of equals, as in the bundle
        steps = sum(int(row["steps_all"]) for row in own)
        seconds = sum(float(row["seconds"]) for row in own)
        chosen.append({**best, "method": CHOSEN, "steps_all": str(steps), "seconds": f"{seconds:.1f}"})
    return [*rows, *chosen]
