"""Whole runs of the bundle's configs in this process, on frames of 64 to 96 px."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graded_pictures import write_severities
from PIL import Image
from whole_run import BUNDLE, TINY, RunConfig, run_layers, write_frames


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


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundle's folder without weights, to be spoilt."""
    left_out = shutil.ignore_patterns("runs", "models", "__pycache__")
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle", ignore=left_out))
