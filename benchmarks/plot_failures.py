"""Where the shipped weights fail: outlines of the test frames with the lowest Dice, without a pixel of the frames.

The terms of the data do not let frames be shown here, so an outline stands for a lesion; who has the data finds the
frame by the name over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from bundle_run import kept_rows  # noqa: E402
from model_card import ROOT, of_source  # noqa: E402

from scripts.io.mask_reader import read_mask  # noqa: E402
from scripts.metrics.subgroups import subgroups  # noqa: E402
from scripts.reports.run_files import read_run  # noqa: E402

FIGURE = ROOT / "bundle" / "docs" / "figures" / "failures.png"
COLUMNS = 6
TRUE, PREDICTED = "#1b7837", "#c1440e"


def draw_failures(run_dir: Path, target: Path = FIGURE, columns: int = COLUMNS) -> Path:
    """A row of panels a source, the worst on the left; writes and returns the picture."""
    run = read_run(run_dir)
    rows = kept_rows(run_dir / "per_image.csv")
    sources = [part.name for part in subgroups(rows, bootstrap=1) if part.axis == "source"] or [""]
    truths, predictions = run.labels("test"), run.predictions()
    figure, panels = plt.subplots(
        len(sources), columns, figsize=(2.0 * columns, 2.35 * len(sources)), layout="constrained", squeeze=False
    )
    for line, source in zip(panels, sources, strict=True):
        worst = sorted(of_source(rows, source), key=lambda row: float(row["dice"]))[:columns]
        for axes in line:
            axes.set_axis_off()
        for axes, row in zip(line, worst, strict=False):
            axes.set_axis_on()
            masks = [read_mask(truths[row["file"]]), np.asarray(Image.open(predictions[row["file"]])) > 0]
            _outlines(axes, masks)
            axes.set_title(f"{Path(row['file']).stem[:16]}\nDice {float(row['dice']):.2f}", fontsize=7)
        line[0].set_ylabel(source, fontsize=9)
    handles = [plt.Line2D([], [], color=colour) for colour in (TRUE, PREDICTED)]
    figure.legend(handles, ["annotated", "predicted"], loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(target, dpi=100)
    plt.close(figure)
    return target


def _outlines(axes: plt.Axes, masks: Sequence[np.ndarray]) -> None:
    """Both outlines in the frame's own proportions."""
    height, width = masks[0].shape
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    for mask, colour, style in zip(masks, (TRUE, PREDICTED), ("-", "--"), strict=True):
        if mask.any():
            # A lesion at the border is closed by the ring of background around the frame.
            padded, columns, rows = np.pad(mask.astype(float), 1), np.arange(-1, width + 1), np.arange(-1, height + 1)
            axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linestyles=[style], linewidths=1.2)
