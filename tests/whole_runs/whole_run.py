"""How whole runs of the bundle's configs are made in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigWorkflow
from PIL import Image

from scripts.engines.short_errors import first_cause

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
#: two epochs of two iterations, from random numbers
TINY: dict[str, Any] = {
    "image_size": 64,
    "max_epochs": 2,
    "iterations_per_epoch": 2,
    "labeled_batch_size": 2,
    "unlabeled_batch_size": 2,
    "warmup_iterations": 1,
    "unsupervised_start": 0,
    "unsupervised_rampup": 0,
    "encoder_weights": "none",
    "split": [0.5, 0.25, 0.25],
    "num_workers": 0,
}
RunConfig = Callable[..., ConfigWorkflow]


def write_frames(folder: Path, count: int, labelled: bool, first: int = 0) -> None:
    """Frames of different sizes, pink with a dark red disc; the last labelled one has no lesion."""
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        height, width = 64 + 8 * (number % 5), 64 + 8 * (number % 3)
        frame = np.array([200, 130, 110]) + random.integers(-20, 20, (height, width, 3))
        rows, columns = np.mgrid[:height, :width]
        row, column = random.integers(20, 44, 2)
        mask = (rows - row) ** 2 + (columns - column) ** 2 < random.integers(8, 18) ** 2
        mask &= not (labelled and number == first + count - 1)
        frame[mask] = [120, 20, 20]
        place = folder / ("images" if labelled else "unlabeled")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(place / f"frame_{number:02d}.png")
        if labelled:
            (folder / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(folder / "masks" / f"frame_{number:02d}.png")


@contextmanager
def in_bundle() -> Iterator[None]:
    """In the bundle's folder, as its commands are run; what a run changes in this process is put back."""
    folder, hook, path = os.getcwd(), sys.excepthook, sys.path[:]
    os.chdir(BUNDLE)
    try:
        yield
    finally:
        os.chdir(folder)
        sys.excepthook, sys.path[:] = hook, path


def run_layers(*layers: str, **overrides: Any) -> ConfigWorkflow:
    """Run configs/<layer>.json, ... with overrides to the end; an error is raised as the person is shown it."""
    files = [f"configs/{layer}.json" for layer in layers]
    with in_bundle():
        workflow = ConfigWorkflow(files, meta_file="configs/metadata.json", logging_file=False, **overrides)
        try:
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        except Exception as error:
            raise first_cause(error) from None
    return workflow
