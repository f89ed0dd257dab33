"""Whole runs of the bundle's configs in this process, on frames of 64 to 96 px."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graded_pictures import write_severities
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


@pytest.fixture(scope="session")
def frames_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 labelled frames, each a group of its own (8 / 4 / 4 by TINY's split), and 6 without masks. Read only."""
    folder = tmp_path_factory.mktemp("data") / "frames"
    write_frames(folder, 16, labelled=True)
    write_frames(folder, 6, labelled=False, first=16)
    return folder


@pytest.fixture(scope="session")
def graded_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 graded pictures of 12 patients, the redder the more severe, and 4 that are not graded. Read only."""
    folder = tmp_path_factory.mktemp("data") / "graded"
    (folder / "images").mkdir(parents=True)
    severities = {}
    for number in range(28):
        random = np.random.default_rng(number)
        patient, severity = number // 2, (number // 2) % 3
        picture = np.array([150, 130 - 50 * severity, 110 - 40 * severity]) + random.integers(-20, 20, (64, 72, 3))
        name = f"p{patient:02d}_{'LR'[number % 2]}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / name)
        if patient < 12:
            severities[name] = severity
    write_severities(folder, severities)
    return folder


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


@pytest.fixture
def run_config() -> RunConfig:
    """``run_layers``."""
    return run_layers


@pytest.fixture
def tiny() -> dict[str, Any]:
    """A copy of TINY."""
    return dict(TINY)


@pytest.fixture(scope="session")
def trained_run(frames_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run with a teacher and a student. Read only."""
    output_dir = tmp_path_factory.mktemp("runs")
    run_layers(
        "train", "mean_teacher", **TINY, dataset_dir=str(frames_dir), output_dir=str(output_dir), run_name="done"
    )
    return output_dir / "done"
