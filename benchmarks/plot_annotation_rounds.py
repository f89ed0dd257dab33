"""Draw benchmarks/results/annotation_rounds.csv: test Dice against labels, a line a strategy.

python benchmarks/plot_annotation_rounds.py
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "annotation_rounds.csv"
FIGURE = ROOT / "bundle" / "docs" / "figures" / "annotation_rounds.png"
COLOURS = {"uncertainty": "#c1440e", "random": "#30638e", "diversity": "#3a7d44"}


def main() -> None:
    """One panel: seeds as thin lines, their mean as a thick one."""
    with RESULT.open(newline="") as file:
        rows = list(csv.DictReader(file))
    start = {row["seed"]: row for row in rows if row["strategy"] == "start"}
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for strategy in [name for name in COLOURS if any(row["strategy"] == name for row in rows)]:
        curves: dict[str, list[tuple[int, float]]] = {}
        for seed, first in start.items():
            own = [first, *(row for row in rows if row["strategy"] == strategy and row["seed"] == seed)]
            curves[seed] = [(int(row["labels"]), float(row["dice"])) for row in own]
            axes.plot(*zip(*curves[seed], strict=True), color=COLOURS[strategy], alpha=0.35, linewidth=1)
        labels = sorted({number for curve in curves.values() for number, _ in curve})
        complete = [n for n in labels if all(n in dict(curve) for curve in curves.values())]
        mean = [statistics.mean(dict(curve)[number] for curve in curves.values()) for number in complete]
        axes.plot(
            complete, mean, "o-", color=COLOURS[strategy], linewidth=2.5, label=f"{strategy}, mean of {len(curves)}"
        )
    axes.set(xlabel="labelled images", ylabel="Dice on held-out frames", xticks=labels)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(f"{rows[0]['data']}: rounds of annotation through the MONAI Label server", fontsize=10)
    figure.savefig(FIGURE, dpi=110)
    print(FIGURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
