"""Networks from random numbers, each at its own learning rate: rows at the rate that validation prefers."""

from __future__ import annotations

from tables import Rows, having, kinds

OWN_RATE = "random, own rate"
#: overrides that are compared, the same for all networks: none, which is train.json's .002, a quarter, four and eight
#: times that
RATES = ("", *(f"learning_rate={rate}" for rate in (0.0005, 0.008, 0.016)))
#: what must be alike in rows that are compared
SAME = ("data", "network", "method", "label_fraction", "preset")


def at_own_rate(rows: Rows) -> Rows:
    """Rows of each kind of cell from random numbers, at the rate whose validation Dice is higher on the first seed.

    Kinds whose first seed is not measured at every rate are left out. The start of the rows is OWN_RATE, their settings
    are ""; the test split takes no part.
    """
    found = []
    rows = having(rows, start="random")
    for kind in kinds(rows, *SAME):
        rates = [having(rows, **dict(zip(SAME, kind, strict=True)), settings=rate) for rate in RATES]
        first = min((int(row["seed"]) for own in rates for row in own), default=0)
        if any(not own or int(own[0]["seed"]) != first for own in rates):
            continue
        best = max(rates, key=lambda own: float(own[0]["val_dice"]))  # the first of equals: the default
        found += [{**row, "start": OWN_RATE, "settings": ""} for row in best]
    return found
