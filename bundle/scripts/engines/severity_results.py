"""How severe the pictures of a folder are: a folder in, a table out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scripts.engines.frame_loop import end_with, over_frames
from scripts.io.table import Table
from scripts.io.writers import ensure_writable

logger = logging.getLogger(__name__)

TABLE = "severity_scores.csv"  # in the output folder; severity.csv is what a data set is told by


def network_for(score: str, networks: Mapping[str, nn.Module]) -> nn.Module:
    """The network that gives this score.

    Raises:
        ValueError: no such score.
    """
    if score not in networks:
        raise ValueError(f"score is {score!r}; expected {' or '.join(networks)}.")
    return networks[score]


def write_severities(
    network: nn.Module,
    dataloader: DataLoader,
    output_dir: str | Path,
    device: str | torch.device,
    inferer: Inferer,
    grades: Sequence[str] | None = None,
) -> Path:
    """Run a network over pictures and frames, and write severity_scores.csv, the most severe first.

    Columns: file, frame, score; of a classifier also grade, its name, and the probability of each grade. A file that
    cannot be read is listed in failures.csv; the others are written.

    Args:
        network: SeverityEmbedder (the score is the distance from healthy) or SeverityClassifier (the expected grade).
        dataloader: of a FrameDataset.
        inferer: SeverityInferer.
        grades: names, for a classifier.

    Returns:
        the table's path.

    Raises:
        SystemExit: exit code 3 when files could not be read.
    """
    output_dir = ensure_writable(output_dir)
    rows: list[dict[str, Any]] = []

    def take(item: dict[str, Any], assessed: Tensor) -> None:
        score, *probabilities = assessed[0].cpu().tolist()
        row = {"file": item["source"], "frame": int(item["frame"]), "score": score}
        if grades is not None:
            grade = max(range(len(probabilities)), key=probabilities.__getitem__)
            row |= {"grade": grade, "name": str(grades[grade])}
            row |= {f"p_{place}": value for place, value in enumerate(probabilities)}
        rows.append(row)

    failures = over_frames(network, dataloader, device, take, inferer=inferer)
    columns = ["file", "frame", "score"]
    if grades is not None:
        columns += ["grade", "name", *(f"p_{place}" for place in range(len(grades)))]
    table = Table(columns)
    for row in sorted(rows, key=lambda row: (-row["score"], row["file"], row["frame"])):
        table.add(**row)
    table.write(output_dir / TABLE)
    logger.info("Severities: %s", output_dir / TABLE)
    end_with(failures, output_dir)
    return output_dir / TABLE
