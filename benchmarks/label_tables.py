"""Tables of the label-efficiency grid for the docs: shares of labels, single groups, reaches, pictures."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from label_axes import TITLES, short_title
from label_chosen import CHOSEN, with_chosen
from label_grid import GROUPS
from label_marks import count_of, seeds_of, steps_of
from label_reaches import Reach, reaches
from label_tried import tried
from plot_label_efficiency import figure_files
from tables import Rows, gains, having, kinds, markdown, mean_and_spread

NOT_YET = "Not measured yet."
#: what stands beside every number
SCALE = ("preset", "steps", "image_size")
SHOWN = {
    "best_dice": "Dice, best",
    "last_dice": "Dice, last",
    "best_iou": "IoU, best",
    "best_iou_pooled": "IoU pooled, best",
    "best_false_positive_frames": "FP frames, best",
    "best_ece": "ECE, best",
    "best_ece_scaled": "ECE scaled, best",
}
#: what the Dice of a group's lines is compared with, seed by seed: the same cell with this in the place of its own
REFERENCE = {
    "rivals": ("network", "lite"),
    "ablation": ("method", "supervised"),
    "fusion": ("network", "lite"),
    "size": ("network", "lite"),
}


def by_fraction(rows: Rows, data: str) -> str:
    """lite from ImageNet weights on one data set: Dice by share of labels, best and last epoch.

    In brackets how many seeds, and how many of them in another precision than the preset's; behind them the difference
    to supervised on the seeds that both have. Steps with "+" are those of stages before, or of the other recipes that
    were trained for the choice.
    """
    methods = {cell.method for group in ("headline", "methods") for cell in GROUPS[group]()} | {CHOSEN}
    own = [row for row in with_chosen(rows) if row["method"] in methods]
    own = having(own, data=data, network="lite", start="imagenet", settings="")
    fractions = sorted({float(row["label_fraction"]) for row in own})
    body = []
    for method, *scale in kinds(own, "method", *SCALE):
        alike = having(own, **dict(zip(SCALE, scale, strict=True)))
        preset, _, side = scale
        scale = [preset, steps_of(having(alike, method=method)), side]
        for which in ("best", "last"):
            cells = []
            for fraction in fractions:
                here = [row for row in alike if float(row["label_fraction"]) == fraction]
                found = having(here, method=method)
                name = f"{which}_dice"
                more = gains(found, having(here, method="supervised"), name) if method != "supervised" else []
                seeds = count_of(found) + (f" {statistics.mean(more):+.3f}" if more else "")
                cells.append(mean_and_spread([row[name] for row in found]) + seeds)
            body.append([short_title(method), "imagenet", which, *scale, *cells])
    header = ["method", "start", "epoch", "preset", "steps", "px", *(f"{fraction:.0%}" for fraction in fractions)]
    return markdown(header, body) if body else NOT_YET


def of_group(rows: Rows, group: str) -> str:
    """Every measured kind of cell of a group, with the network's size; of size, whatever it started from.

    Means are over the seeds of a line, which others may not have; the difference to REFERENCE is over those of both.
    """
    rows = having(rows, settings="")
    if group != "size":
        starts = {cell.start for cell in GROUPS[group]()}
        rows = [row for row in rows if row["start"] in starts]
    name_of = TITLES.__getitem__ if group == "ablation" else short_title
    columns = ("data", "label_fraction", "method", "network")
    order = list(dict.fromkeys(tuple(asdict(cell)[name] for name in columns) for cell in GROUPS[group]()))
    column, reference = REFERENCE[group]
    body = []
    for key in order:
        here = [
            row for row in rows if (row["data"], float(row["label_fraction"]), row["method"], row["network"]) == key
        ]
        for start, parameters, work, preset, steps, side in kinds(here, "start", "parameters", "gmac", *SCALE):
            alike = {"start": start, "preset": preset, "steps": steps, "image_size": side}
            own = having(here, **alike)
            data, fraction, method, network = key
            same = having(rows, **alike, data=data, label_fraction=own[0]["label_fraction"])
            beside = {"method": method, "network": network, column: reference}
            more = gains(own, having(same, **beside), "best_dice") if own[0][column] != reference else []
            body.append([
                data, f"{fraction:.0%}", name_of(method), network, start,
                f"{float(parameters) / 1e6:.2f}", work, preset, steps_of(own), side,
                seeds_of(own),
                f"{statistics.mean(more):+.3f} ({len(more)})" if more else "–",
                *(mean_and_spread([row[name] for row in own], name) for name in SHOWN),
            ])  # fmt: skip
    header = ["data", "labels", "method", "network", "start", "M parameters", "GMAC", "preset", "steps", "px", "seeds"]
    header.append(f"Dice over {reference} (seeds)")
    return markdown([*header, *SHOWN.values()], body) if body else NOT_YET


def of_reaches(rows: Rows) -> str:
    """Each bar with what was measured, a line for each value found, or one that says that none was."""
    presets = list(dict.fromkeys(row["preset"] for row in rows)) or ["cpu"]
    by_name: dict[str, list[tuple[str, Reach]]] = {}  # not all presets have the lines of rates
    for preset in presets:
        for one in reaches(rows, preset):
            by_name.setdefault(one.name, []).append((preset, one))
    body = []
    for of_presets in by_name.values():
        measured: dict[Reach, list[str]] = {}
        for preset, one in of_presets:
            if one.used:
                measured.setdefault(one, []).append(preset)
        for one, named in (measured or {of_presets[0][1]: ["–"]}).items():
            body.append([one.name, ", ".join(named), one.measured, one.bar, one.verdict, one.steps, one.used])
    return markdown(["reach", "preset", "measured", "bar", "", "steps in all", "rows"], body)


def pictures(rows: Rows) -> str:
    """Links to the pictures that are there, one a preset and kind."""
    found = [path for preset in dict.fromkeys(row["preset"] for row in rows) for path in figure_files(preset)]
    links = [f"![{path.stem.replace('_', ' ')}](figures/{path.name})" for path in found if path.is_file()]
    return "\n\n".join(links) or NOT_YET


LABEL_TABLES: dict[str, Callable[[Rows], str]] = {
    "label reaches": of_reaches,
    "label tried": partial(tried, nothing=NOT_YET),
    "label kvasir": partial(by_fraction, data="kvasir"),
    "label wce": partial(by_fraction, data="wce_bleeding"),
    "label montgomery": partial(by_fraction, data="cxr_montgomery"),
    "label rivals": partial(of_group, group="rivals"),
    "label ablation": partial(of_group, group="ablation"),
    "label fusion": partial(of_group, group="fusion"),
    "label size": partial(of_group, group="size"),
    "label pictures": pictures,
}
