"""Unit tests of the app, run by the MONAI Label environment: .venv-label/bin/python -m pytest label_app/tests."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "label_app"), str(REPOSITORY / "bundle")]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Ten grey pictures, image_0.png to image_9.png."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number in range(10):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"image_{number}.png")
    return folder
