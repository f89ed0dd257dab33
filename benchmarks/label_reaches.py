"""The bars of the label-efficiency grid: value, bar, met or missed or unmeasured, and the rows used."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_axes import RECALLS, RIVALS, SAME_ENCODER, at_recall
from label_chosen import CHOSEN, with_chosen
from label_grid import RECIPE, SECOND, SEEDS
from tables import Rows

_STARTS = {"random": "random numbers", "imagenet": "ImageNet weights"}
#: lite's published limit
MOST_PARAMETERS = 2_200_000


@dataclass(frozen=True)
class Reach:
    """One line of the table.

    Attributes:
        measured: "–" where nothing is. verdict: met, missed or unmeasured, and how many seeds there were if too few.
        used: the seeds that both sides have.
    """

    name: str
    measured: str
    bar: str
    verdict: str
    used: str


def reaches(rows: Rows, preset: str) -> list[Reach]:
    """All reaches with the rows of one preset, without overrides of the call; figures of the epoch best on validation.

    Differences are means over the seeds that both sides have: same split, same labels. CHOSEN is what
    choose_recipe.json would keep, where all its recipes are measured.
    """
    rows = with_chosen([row for row in rows if row["preset"] == preset and not row["settings"]])
    lite = {"network": "lite", "start": "imagenet"}
    found = []
    for fraction, bar in ((0.1, 0.04), (0.25, 0.02)):
        for method in (RECIPE, SECOND["kvasir"], CHOSEN):
            at = {"data": "kvasir", "label_fraction": fraction, **lite}
            name = f"Kvasir, {fraction:.0%} of the labels: {method} over supervised"
            found.append(_difference(name, rows, at | {"method": method}, at | {"method": "supervised"}, bar))
    both = [(data, method) for data in ("kvasir", "wce_bleeding") for method in (RECIPE, SECOND[data], CHOSEN)]
    for data, method in both:
        found.append(
            _difference(
                f"{data}: {method} with 50 % over supervised with 100 %",
                rows,
                {"data": data, "method": method, "label_fraction": 0.5, **lite},
                {"data": data, "method": "supervised", "label_fraction": 1.0, **lite},
            )
        )
    for data, method in both:
        # From random numbers not all recipes are measured, so none is chosen.
        others = [(network, "random") for network in ("published", *RIVALS) if method != CHOSEN]
        for network, start in (*others, *((network, "imagenet") for network in SAME_ENCODER)):
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
        return Reach(name, "–", shown, "unmeasured", "")
    gains = [ours[seed] - theirs[seed] for seed in seeds]
    gain = statistics.mean(gains)
    # Sums of figures with five digits: what is beyond them is the computer's.
    reached = round(gain, 6) < bar if lower else round(gain, 6) >= bar
    spread = f" ± {statistics.stdev(gains):.3f}" if len(gains) > 1 else ""
    means = [statistics.mean(side[seed] for seed in seeds) for side in (ours, theirs)]
    measured = f"{gain:+.3f}{spread} ({means[0]:.3f} against {means[1]:.3f})"
    return Reach(name, measured, shown, _verdict(reached, len(seeds)), f"seeds {', '.join(map(str, seeds))}")


def _parameters(rows: Rows) -> Reach:
    """Whether lite is as small as it says."""
    counts = {int(row["parameters"]) for row in rows if row["network"] == "lite"}
    bar = f"≤ {MOST_PARAMETERS:,}"
    if not counts:
        return Reach("parameters of lite", "–", bar, "unmeasured", "")
    verdict = "met" if max(counts) <= MOST_PARAMETERS else "missed"
    return Reach("parameters of lite", f"{max(counts):,}", bar, verdict, "all of lite")


def _verdict(reached: bool, seeds: int) -> str:
    few = f" ({seeds} of {len(SEEDS)} seeds)" if seeds < len(SEEDS) else ""
    return ("met" if reached else "missed") + few


def _by_seed(rows: Rows, key: Mapping[str, Any], figure: str) -> dict[int, float]:
    """{seed: figure} of the rows with this key, where the figure is defined.

    Raises:
        ValueError: two rows of one cell.
    """
    found: dict[int, float] = {}
    for row in rows:
        same = all(row[name] == value for name, value in key.items() if name != "label_fraction")
        if not same or float(row["label_fraction"]) != key["label_fraction"] or not row[figure]:
            continue
        seed = int(row["seed"])
        if seed in found:
            raise ValueError(f"two rows of {dict(key)}, seed {seed}; expected one: delete the wrong one from the CSV")
        found[seed] = float(row[figure])
    return found
