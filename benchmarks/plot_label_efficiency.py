"""Draw benchmarks/results/label_efficiency.csv: Dice by share of labels, by size of the network, by what is off.

python benchmarks/plot_label_efficiency.py
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from label_axes import DATA, FUSION, METHODS, RIVALS, SAME_ENCODER, SIZES, TITLES, short_title  # noqa: E402
from label_grid import RECIPE  # noqa: E402
from tables import Rows, gains, having, kinds  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "label_efficiency.csv"
FIGURES = ROOT / "bundle" / "docs" / "figures"
COLOURS = {
    "supervised": "#5b5b5b",
    "weak_to_strong": "#c1440e",
    "local_contrast": "#e0a030",
    "mean_teacher": "#30638e",
    "less_net": "#4c956c",
    "less_net_published": "#8e5572",
}


def figure_files(preset: str, folder: Path = FIGURES) -> list[Path]:
    """The pictures of a preset, whether they are there or not: curves, sizes, ablation."""
    return [folder / f"label_{kind}_{preset}.png" for kind in ("efficiency", "size", "ablation")]


def draw(rows: Rows, preset: str, folder: Path = FIGURES) -> list[Path]:
    """Draw what can be compared by the rows without overrides of the call; returns the pictures written."""
    rows = [row for row in rows if row["preset"] == preset and not row["settings"]]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, path in zip((draw_curves, draw_sizes, draw_ablation), figure_files(preset, folder), strict=True):
        figure = kind(rows)
        if figure is not None:
            figure.savefig(path, dpi=110)
            plt.close(figure)
            written.append(path)
    return written


def mean_and_sd(values: list[float]) -> tuple[float, float]:
    """Mean, and standard deviation (0 of a single value)."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def scale_of(rows: Rows) -> str:
    """Steps and side of the rows, for titles."""
    found = sorted({(int(row["steps"]), int(row["image_size"])) for row in rows})
    return "; ".join(f"{steps:,} steps, {side} px" for steps, side in found)


def _more_steps(own: Rows) -> str:
    """Steps in all, where stages before the last took some."""
    found = {int(row["steps_all"]) for row in own if row["steps_all"] != row["steps"]}
    return f" ({max(found):,} steps)" if found else ""


def draw_curves(rows: Rows) -> plt.Figure | None:
    """A panel a data set: lite from ImageNet weights, Dice by share of labels, best epoch solid and last dashed."""
    rows = [row for row in rows if (row["network"], row["start"]) == ("lite", "imagenet") and row["method"] in COLOURS]
    sets = [data for data in DATA if any(row["data"] == data for row in rows)]
    if not sets:
        return None
    size = (max(6.5, 4.3 * len(sets)), 4.2)  # below 6.5 inches the title is cut off
    figure, panels = plt.subplots(1, len(sets), figsize=size, layout="constrained", squeeze=False)
    for axes, data in zip(panels[0], sets, strict=True):
        for number, (method, colour) in enumerate(COLOURS.items()):
            for which, style in (("best", "o-"), ("last", "s--")):
                own = [row for row in rows if (row["data"], row["method"]) == (data, method)]
                shares = sorted({float(row["label_fraction"]) for row in own})
                if not shares:
                    continue
                values = [[float(r[f"{which}_dice"]) for r in own if float(r["label_fraction"]) == s] for s in shares]
                means, spreads = zip(*map(mean_and_sd, values), strict=True)
                label = short_title(method) + _more_steps(own) + (", last epoch" if which == "last" else "")
                shown = [100 * share * 1.02 ** (number - 2) for share in shares]  # side by side, not over each other
                axes.errorbar(
                    shown, means, spreads, fmt=style, color=colour, capsize=3, linewidth=1.6, markersize=4, label=label,
                    alpha=1.0 if which == "best" else 0.5,
                )  # fmt: skip
                for place, mean, share in zip(shown, means, shares, strict=True):
                    if _seeds(own, share) < _seeds([row for row in rows if _plain(row, data)], share):
                        axes.plot(place, mean, style[0], color=colour, markersize=4, markerfacecolor="white", zorder=5)
        ticks = [100 * share for share in DATA[data].fractions]
        axes.set(xscale="log", xlabel="labels used (%)", ylabel="test Dice", title=data)
        axes.set_xlim(0.85 * min(ticks), max(ticks) / 0.85)  # whole axis, whatever is measured
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    named = [pair for axes in panels[0] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    once = {label: handle for handle, label in named}  # a method need not be in each panel
    columns = (1, 2, 4)[len(sets) - 1]  # more are wider than the picture
    figure.legend(once.values(), once.keys(), frameon=False, fontsize=8, loc="outside lower center", ncols=columns)
    note = "mean ± sd over seeds (no bar: one seed; hollow: fewer seeds than supervision there, compare by the table)"
    figure.suptitle(f"lite from ImageNet weights, {scale_of(rows)}\n{note}", fontsize=9)
    return figure


def _plain(row: dict[str, str], data: str) -> bool:
    return (row["data"], row["method"]) == (data, "supervised")


def _seeds(rows: Rows, share: float) -> set[str]:
    return {row["seed"] for row in rows if float(row["label_fraction"]) == share}


def draw_sizes(rows: Rows) -> plt.Figure | None:
    """Dice on Kvasir against parameters (log), with few labels and with all of them; filled = ImageNet weights."""
    networks = ("lite", *SIZES, "published", *RIVALS, *SAME_ENCODER)
    sides = ((RECIPE, 0.1), ("supervised", 1.0))
    rows = [
        row
        for row in rows
        if row["data"] == "kvasir"
        and row["network"] in networks
        and (row["method"], float(row["label_fraction"])) in sides
    ]
    if len({row["network"] for row in rows}) < 2:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", sharex=True)
    for axes, (method, fraction) in zip(panels, sides, strict=True):
        here = [row for row in rows if (row["method"], float(row["label_fraction"])) == (method, fraction)]
        groups = {one: having(here, network=one[0], start=one[1]) for one in kinds(here, "network", "start")}
        most = max(map(len, groups.values()), default=0)
        for (network, start), own in groups.items():
            mean, spread = mean_and_sd([float(row["best_dice"]) for row in own])
            colour, marker = f"C{networks.index(network)}", "s" if network in RIVALS else "o"
            if network in SAME_ENCODER:  # the ten colours are used up
                colour, marker = ("0.2", "0.6")[list(SAME_ENCODER).index(network)], "D"
            place = float(own[0]["parameters"]) / 1e6
            axes.errorbar(
                place, mean, spread if len(own) > 1 else None, capsize=3, markersize=7, color=colour, fmt=marker,
                markerfacecolor="none" if start == "random" else colour, label=f"{network}, {start}",
            )  # fmt: skip
            if len(own) < most:  # another mean than that of the others: seeds are splits
                seeds = "seed " + ", ".join(row["seed"] for row in own)
                axes.annotate(seeds, (place, mean), (6, -3), textcoords="offset points", fontsize=7, color=colour)
        title = f"{short_title(method)}, {fraction:.0%} of the labels"
        axes.set(xscale="log", xlabel="parameters (millions)", ylabel="test Dice, best epoch", title=title)
        axes.set_xlim(0.8, 60)
        axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    shown = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown, frameon=False, fontsize=8, loc="outside right center")
    figure.suptitle(
        "Kvasir; open = from random numbers, square = rival, diamond = rival with lite's encoder; mean ± sd of seeds; "
        + scale_of(rows),
        fontsize=10,
    )
    return figure


def draw_ablation(rows: Rows) -> plt.Figure | None:
    """Kvasir, 10 % of the labels: Dice of methods and of fusion's parts less that of supervised lite, a dot a seed."""
    at = {"data": "kvasir", "start": "imagenet", "label_fraction": "0.1"}
    rows = having(rows, **at)
    supervised = having(rows, network="lite", method="supervised")
    wanted = [("lite", method) for method in METHODS if method != "supervised"]
    wanted += [(network, RECIPE) for network in FUSION]
    bars = []
    for network, method in wanted:
        more = gains(having(rows, network=network, method=method), supervised, "best_dice")
        if more:
            title = TITLES[method] if network == "lite" else f"weak_to_strong, {network.removeprefix('lite_')}"
            bars.append((title, more, network))
    if not bars:
        return None
    figure, axes = plt.subplots(figsize=(8, 1.1 + 0.34 * len(bars)), layout="constrained")
    for place, (_, more, network) in enumerate(bars):
        mean, spread = mean_and_sd(more)
        colour = "#30638e" if network == "lite" else "#4c956c"
        axes.errorbar(mean, place, xerr=spread, fmt="D", color=colour, capsize=3)
        axes.scatter(more, [place] * len(more), s=12, color=colour, alpha=0.4)
    axes.axvline(0, color=COLOURS["supervised"], linewidth=1)
    axes.set_yticks(range(len(bars)), [f"{title} ({len(more)})" for title, more, _ in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set(xlabel="test Dice, best epoch, over supervised (same seed)")
    figure.suptitle(f"Kvasir, 10 % of the labels, lite; mean ± sd (how many seeds); {scale_of(rows)}", fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    return figure


def main() -> None:
    """Draw every preset that has rows."""
    with RESULT.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for preset in dict.fromkeys(row["preset"] for row in rows):
        for path in draw(rows, preset):
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
