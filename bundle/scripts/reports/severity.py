"""What a run on severity has learnt, as pictures: embeddings, confusion matrix, score by grade."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from scripts.engines.run_directory import is_main_process
from scripts.io.table import Table
from scripts.networks.severity import SeverityEmbedder
from scripts.reports.embedding_map import main_directions
from scripts.reports.figures import BLUE, Chart, chart
from scripts.reports.run_files import RunFiles

logger = logging.getLogger(__name__)

TABLE = "embedding.csv"  # in a run directory
COLOURS = "cividis"  # in order of lightness, and apart for all colour deficiencies
BATCH = 16  # pictures a pass
MOST = 2000  # pictures that are shown
CROWDED = 30  # letters of all grades, from which their names stand aslant


@torch.no_grad()
def write_embedding_table(run_dir: str | Path, network: nn.Module, dataset: Dataset) -> Path | None:
    """Write embedding.csv: where each graded picture lies in the two main directions of embedding.

    The embedding is a SeverityEmbedder's unit vector, in which severity is measured, or a SeverityClassifier's vector
    of features. The directions are the first two principal components over the pictures shown.

    Args:
        run_dir: of the run.
        network: is left in eval mode.
        dataset: items {"image": (3, H, W) uint8, "label": (1,) severity, "file": str}.

    Returns:
        the path, of several processes written by rank 0; None where fewer than three pictures are graded.
    """
    target = Path(run_dir) / TABLE
    if not is_main_process():
        return target
    device = next(network.parameters()).device
    network.eval()
    graded = [item for item in (dataset[index] for index in range(min(len(dataset), MOST))) if item["label"].isfinite()]
    if len(graded) < 3:
        return None
    vectors = []
    for start in range(0, len(graded), BATCH):
        image = torch.stack([item["image"] for item in graded[start : start + BATCH]]).to(device).float() / 255.0
        embedder = isinstance(network, SeverityEmbedder)
        vectors.append((functional.normalize(network(image).float()) if embedder else network.vector(image)).cpu())
    places = main_directions(torch.cat(vectors).double())
    table = Table(("file", "severity", "x", "y"))
    for item, (x, y) in zip(graded, places.tolist(), strict=True):
        table.add(file=item["file"], severity=float(item["label"]), x=x, y=y)
    table.write(target)
    logger.info("Embedding: %s", target)
    return target


def embedding_chart(folder: Path, rows: Sequence[dict[str, Any]], of: str) -> Chart | None:
    """The rows of embedding.csv as dots, coloured by severity; None without rows."""
    points = [(row["x"], row["y"], row["severity"]) for row in rows if math.isfinite(row.get("severity", math.nan))]
    if not points:
        return None
    severities = sorted({severity for _, _, severity in points})

    def draw(axes: Axes, ink: str) -> None:
        x, y, severity = zip(*points, strict=True)
        colours = matplotlib.colormaps[COLOURS]
        top = max(severities[-1], 1e-9)
        if len(severities) > 8:  # shares of lesion area: no legend could name them
            axes.scatter(x, y, s=12, c=severity, cmap=COLOURS, linewidths=0)
        else:
            for grade in severities:
                own = [(a, b) for a, b, other in points if other == grade]
                axes.scatter(
                    *zip(*own, strict=True), s=12, color=colours(grade / top), linewidths=0, label=f"{grade:g}"
                )
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")

    note = f"One dot a {of} picture, coloured by its severity: dark = healthy, light = severe."
    summary = f"{len(points)} pictures of severity {severities[0]:g} to {severities[-1]:g}."
    return chart(folder, "embedding_by_severity", "Embeddings by severity", note, summary, draw)


def confusion_chart(folder: Path, rows: Sequence[dict[str, Any]], grades: Sequence[str]) -> Chart | None:
    """Pictures by true and predicted grade, from the rows of per_picture.csv; None where no grade is predicted."""
    pairs = [
        (int(row["severity"]), int(row["predicted"])) for row in rows if math.isfinite(row.get("predicted", math.nan))
    ]
    if not pairs:
        return None
    matrix = np.zeros((len(grades), len(grades)), int)
    for pair in pairs:
        matrix[pair] += 1
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes, ink: str) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", zorder=2)  # over the grid
        for (row, column), count in np.ndenumerate(matrix):
            dark = shares[row, column] > 0.5
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                color="#ffffff" if dark else "#222222",
                fontsize=9,
                zorder=3,
            )
        names = [str(name).replace(" ", "\n") for name in grades]
        crowded = sum(map(len, names)) > CROWDED
        axes.set_xticks(range(len(grades)), names, rotation=20 if crowded else 0, ha="right" if crowded else "center")
        axes.set_yticks(
            range(len(grades)), [f"{name} ({total})" for name, total in zip(grades, matrix.sum(axis=1), strict=True)]
        )
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    right = int(np.trace(matrix))
    near = int(sum(abs(true - found) <= 1 for true, found in pairs))
    summary = f"{right} of {len(pairs)} pictures have their grade, {near} are at most one grade off."
    return chart(folder, "confusion", "Confusion matrix", "Colour: share of the true grade.", summary, draw)


def score_chart(folder: Path, rows: Sequence[dict[str, Any]]) -> Chart | None:
    """Severity score against true severity; None with fewer than two pictures."""
    points = [(row["severity"], row["score"]) for row in rows if math.isfinite(row.get("score", math.nan))]
    if len(points) < 2:
        return None
    generator = np.random.default_rng(0)
    severities = np.array([severity for severity, _ in points])
    few = len(set(severities.tolist())) <= 10
    spread = generator.uniform(-0.2, 0.2, len(points)) if few else np.zeros(len(points))

    def draw(axes: Axes, ink: str) -> None:
        axes.scatter(severities + spread, [score for _, score in points], s=12, color=BLUE, alpha=0.6, linewidths=0)
        axes.set_xlabel("true severity")
        axes.set_ylabel("severity score")
        if few:
            axes.set_xticks(sorted(set(severities.tolist())))

    means = [
        f"{grade:g}: {np.mean([score for severity, score in points if severity == grade]):.2f}"
        for grade in sorted(set(severities.tolist()))
    ]
    summary = f"Mean score by severity {', '.join(means)}." if few else f"{len(points)} pictures."
    note = "One dot a picture" + (", moved a little sideways so that none hides another." if few else ".")
    return chart(folder, "score_by_severity", "Severity score", note, summary, draw)


def severity_charts(run: RunFiles) -> list[Chart | None]:
    """The charts of a run on severity; none of another run."""
    if not run.of_severity:
        return []
    folder, grades = run.path / "figures", run.config.get("grades")
    return [
        confusion_chart(folder, run.graded, grades) if isinstance(grades, list) else None,
        score_chart(folder, run.graded),
        embedding_chart(folder, run.embedding, "training" if run.of_pretraining else "test"),
    ]
