"""The bars of the label-efficiency grid: value, bar, met or missed or unmeasured, and the rows used."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_axes import RECALLS, RIVALS, SAME_ENCODER, at_recall
from label_chosen import CHOSEN, candidates, with_chosen
from label_grid import RECIPE, SECOND, SEEDS
from label_marks import is_other
from label_rates import OWN_RATE, at_own_rate
from tables import Rows, having, kinds

_STARTS = {
    "random": "random numbers",
    OWN_RATE["random"]: "random numbers, each at its own learning rate",
    "imagenet": "ImageNet weights",
    OWN_RATE["imagenet"]: "ImageNet weights, each at its own learning rate",
}
#: supervision by more steps, as a method of its own
LONGER = "supervised, longer"
#: what LONGER took, beside a recipe and, True, beside the choice of one, which took more than any
AS_LONG = {False: "as many steps", True: "as many steps as its longest recipe"}
#: lite's published limit
MOST_PARAMETERS = 2_200_000


@dataclass(frozen=True)
class Reach:
    """One line of the table.

    Attributes:
        measured: "–" where nothing is. verdict: met, missed or unmeasured, and how many seeds there were if too few.
        steps: of all stages and recipes, ours / theirs, the mean over seeds.
        used: the seeds that both sides have, with the precisions where one is not the preset's.
    """

    name: str
    measured: str
    bar: str
    verdict: str
    steps: str
    used: str


def reaches(rows: Rows, preset: str) -> list[Reach]:
    """All reaches with the rows of one preset, without overrides of the call; figures of the epoch best on validation.

    Differences are means over the seeds that both sides have: same split, same labels. CHOSEN is what
    choose_recipe.json would keep, where all its recipes are measured. What took more steps than supervision is compared
    with a supervision that took as many, too (CHOSEN with one of as many as its longest recipe). Networks are compared
    at the default learning rate and, where measured, each at its own, see at_own_rate.
    """
    rows = [row for row in rows if row["preset"] == preset]
    longer, rated = _as_long(rows), at_own_rate(rows)
    rows = with_chosen([row for row in rows if not row["settings"]]) + longer + rated
    lite = {"network": "lite", "start": "imagenet"}
    found = []
    for fraction, bar in ((0.1, 0.04), (0.25, 0.02)):
        for method in (RECIPE, SECOND["kvasir"], CHOSEN):
            at = {"data": "kvasir", "label_fraction": fraction, **lite}
            name = f"Kvasir, {fraction:.0%} of the labels: {method} over supervised"
            found.append(_difference(name, rows, at | {"method": method}, at | {"method": "supervised"}, bar))
            if method != RECIPE:
                name += f" with {AS_LONG[method == CHOSEN]}"
                found.append(_difference(name, rows, at | {"method": method}, at | {"method": LONGER}, bar))
    both = [(data, method) for data in ("kvasir", "wce_bleeding") for method in (RECIPE, SECOND[data], CHOSEN)]
    for data, method in both:
        half = {"data": data, "method": method, "label_fraction": 0.5, **lite}
        whole = {"data": data, "method": "supervised", "label_fraction": 1.0, **lite}
        name = f"{data}: {method} with 50 % over supervised with 100 %"
        found.append(_difference(name, rows, half, whole))
        if data == "kvasir" and method != RECIPE:  # elsewhere no recipe of more steps is kept
            found.append(_difference(f"{name} and {AS_LONG[method == CHOSEN]}", rows, half, whole | {"method": LONGER}))
    for data, method in both:
        # From random numbers not all recipes are measured, so none is chosen.
        others = [(network, "random") for network in ("published", *RIVALS) if method != CHOSEN]
        others += [(network, "imagenet") for network in SAME_ENCODER]
        for network, start in (*others, *_rivals_at_own_rate(rated, data, method)):
            found.append(
                _difference(
                    f"{data}: lite with 50 % ({method}) over {network} with 100 %, both from {_STARTS[start]}",
                    rows,
                    {"data": data, "network": "lite", "start": start, "method": method, "label_fraction": 0.5},
                    {"data": data, "network": network, "start": start, "method": "supervised", "label_fraction": 1.0},
                )
            )
    same = {"data": "kvasir", "start": "random", "method": RECIPE, "label_fraction": 0.1}
    name = f"Kvasir, 10%: lite over published, both {RECIPE} from random numbers"
    found.append(_difference(name, rows, same | {"network": "lite"}, same | {"network": "published"}))
    found.append(_parameters(rows))
    for fraction in (0.1, 0.25, 0.5):
        for method in (RECIPE, SECOND["wce_bleeding"], CHOSEN):
            at = {"data": "wce_bleeding", "label_fraction": fraction, **lite}
            for recall in RECALLS:
                name = f"wce_bleeding, {fraction:.0%}: false-positive frames at recall {recall:g}, "
                name += f"{method} below supervised"
                sides = at | {"method": method}, at | {"method": "supervised"}
                found.append(_difference(name, rows, *sides, figure=f"best_{at_recall(recall)}", lower=True))
    return found


def _difference(
    name: str,
    rows: Rows,
    one: Mapping[str, Any],
    other: Mapping[str, Any],
    bar: float = 0.0,
    figure: str = "best_dice",
    lower: bool = False,
) -> Reach:
    """One side less the other, seed by seed; at least ``bar``, or with ``lower`` below it."""
    ours, theirs = _by_seed(rows, one, figure), _by_seed(rows, other, figure)
    seeds = sorted(ours.keys() & theirs.keys())
    sign = "< " if lower else "≥ "
    shown = f"{sign}{bar:+.3f}" if bar else f"{sign}0"
    if not seeds:
        return Reach(name, "–", shown, "unmeasured", "", "")
    sides = [[side[seed] for seed in seeds] for side in (ours, theirs)]
    gains = [float(one[figure]) - float(two[figure]) for one, two in zip(*sides, strict=True)]
    gain = statistics.mean(gains)
    # Sums of figures with five digits: what is beyond them is the computer's.
    reached = round(gain, 6) < bar if lower else round(gain, 6) >= bar
    spread = f" ± {statistics.stdev(gains):.3f}" if len(gains) > 1 else ""
    means = [statistics.mean(float(row[figure]) for row in side) for side in sides]
    measured = f"{gain:+.3f}{spread} ({means[0]:.3f} against {means[1]:.3f})"
    steps = " / ".join(f"{statistics.mean(int(row['steps_all']) for row in side):,.0f}" for side in sides)
    used = ", ".join(_seed_of(*pair) for pair in zip(*sides, strict=True))
    return Reach(name, measured, shown, _verdict(reached, len(seeds)), steps, f"seeds {used}")


def _rivals_at_own_rate(rated: Rows, data: str, method: str) -> list[tuple[str, str]]:
    """(network, start) of the rivals that are compared so: where lite by this method and start has rates, too."""
    ours = having(rated, data=data, network="lite", method=method, label_fraction="0.5")
    whole = having(rated, data=data, method="supervised", label_fraction="1.0")
    starts = [start for (start,) in kinds(ours, "start")]
    return [
        (network, start) for network, start in kinds(whole, "network", "start") if network != "lite" and start in starts
    ]


def _as_long(rows: Rows) -> Rows:
    """Supervision by as many steps as the longest recipe of choose_recipe.json takes: its own method, LONGER."""
    own = [int(row["steps_all"]) for row in rows if row["method"] in candidates() and not row["settings"]]
    alone = re.compile(r"max_epochs=\d+")
    found = [row for row in rows if row["method"] == "supervised" and alone.fullmatch(row["settings"])]
    return [{**row, "method": LONGER, "settings": ""} for row in found if int(row["steps"]) == max(own, default=0)]


def _seed_of(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """The seed of two rows, with their precisions where one is not the preset's."""
    if not (is_other(ours) or is_other(theirs)):
        return ours["seed"]
    same = ours["precision"] == theirs["precision"]
    return f"{ours['seed']} ({ours['precision']}{'' if same else ' / ' + theirs['precision']})"


def _parameters(rows: Rows) -> Reach:
    """Whether lite is as small as it says."""
    counts = {int(row["parameters"]) for row in rows if row["network"] == "lite"}
    bar = f"≤ {MOST_PARAMETERS:,}"
    if not counts:
        return Reach("parameters of lite", "–", bar, "unmeasured", "", "")
    verdict = "met" if max(counts) <= MOST_PARAMETERS else "missed"
    return Reach("parameters of lite", f"{max(counts):,}", bar, verdict, "", "all of lite")


def _verdict(reached: bool, seeds: int) -> str:
    few = f" ({seeds} of {len(SEEDS)} seeds)" if seeds < len(SEEDS) else ""
    return ("met" if reached else "missed") + few


def _by_seed(rows: Rows, key: Mapping[str, Any], figure: str) -> dict[int, dict[str, str]]:
    """{seed: row} of the rows with this key, where the figure is defined.

    Raises:
        ValueError: two rows of one cell.
    """
    found: dict[int, dict[str, str]] = {}
    for row in rows:
        same = all(row[name] == value for name, value in key.items() if name != "label_fraction")
        if not same or float(row["label_fraction"]) != key["label_fraction"] or not row[figure]:
            continue
        seed = int(row["seed"])
        if seed in found:
            raise ValueError(f"two rows of {dict(key)}, seed {seed}; expected one: delete the wrong one from the CSV")
        found[seed] = row
    return found
