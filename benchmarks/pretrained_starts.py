"""Stages that come before a training in more than one benchmark, each made once for all cells that share it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle_run import run_bundle

SEVERITY = ["train", "severity", "pretrain_severity"]


def severity_start(
    work: Path,
    name: str,
    data: Path,
    encoder_weights: str | Path,
    start: str,
    fraction: float,
    seed: int,
    more: Mapping[str, Any],
) -> Path:
    """An encoder pretrained on severity ("semise", "supcon") or on pictures alone ("simclr"); its run directory."""
    fraction = 1.0 if start == "simclr" else fraction  # looks at no grade
    overrides = {
        "dataset_dir": data.resolve(),
        "encoder_weights": encoder_weights,
        "objective": start,
        "label_fraction": fraction,
        "seed": seed,
        # As many pictures a step for every start; without ungraded ones beside them they are all graded.
        "labeled_batch_size": 32 if fraction == 1.0 else 16,
        **more,
    }
    return run_bundle(work, f"{name}_{start}_{fraction:g}_seed{seed}", SEVERITY, overrides, "report.html")


def local_contrast_start(
    work: Path,
    name: str,
    data: Path,
    layers: list[str],
    fraction: float,
    seed: int,
    more: Mapping[str, Any],
) -> Path:
    """A network pretrained by local contrast on the labelled frames; its run directory."""
    overrides = {"dataset_dir": data.resolve(), "label_fraction": fraction, "seed": seed, **more}
    configs = ["train", "pretrain_local_contrastive", *layers]
    return run_bundle(work, f"{name}_local_contrast_{fraction:g}_seed{seed}", configs, overrides, "report.html")
