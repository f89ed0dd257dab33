"""Draw benchmarks/results/severity_alpha.csv: macro F1 against alpha, as figure 3 of SEMISE does.

python benchmarks/plot_severity_alpha.py
"""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "severity_alpha.csv"
FIGURE = ROOT / "bundle" / "docs" / "figures" / "severity_alpha.png"
COLOURS = {"probe": "#30638e", "fine-tune": "#c1440e"}


def main() -> None:
    """One panel a figure, one line a mode: mean over seeds with their spread, and each seed as a dot."""
    with RESULT.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure, panels = plt.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained", sharex=True)
    for axes, (name, title) in zip(panels, {"macro_f1": "macro F1", "kappa": "quadratic kappa"}.items(), strict=True):
        for mode, colour in COLOURS.items():
            own = [(float(row["alpha"]), float(row[name])) for row in rows if row["mode"] == mode and row[name]]
            if not own:
                continue
            alphas = sorted({alpha for alpha, _ in own})
            found = [[value for other, value in own if other == alpha] for alpha in alphas]
            mean = [statistics.mean(values) for values in found]
            spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in found]
            axes.errorbar(alphas, mean, spread, fmt="o-", color=colour, capsize=3, linewidth=2, label=mode)
            axes.scatter(*zip(*own, strict=True), s=9, color=colour, alpha=0.4)
        axes.set(xlabel="alpha (0 = preference alone, 1 = NT-Xent alone)", title=title)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(FIGURE, dpi=110)
    print(FIGURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
