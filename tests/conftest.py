"""Fixtures shared by all tests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs and servers first: begun last, one long file would keep a single process busy at the end."""
    tests = Path(__file__).parent
    long = [tests / "label_app", tests / "whole_runs"]
    items.sort(key=lambda item: not any(folder in item.path.parents for folder in long))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of real development data beside the repository; the test is skipped where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the development data (../shared) is not on this machine")
    return folder


def draw_frame(number: int, height: int, width: int, lesion: bool) -> tuple[np.ndarray, np.ndarray]:
    """A noisy pink frame (H, W, 3) uint8, with a dark red disc where its mask (H, W) uint8 0/255 says lesion."""
    random = np.random.default_rng(number)
    frame = np.array([200, 130, 110]) + random.integers(-20, 20, (height, width, 3))
    rows, columns = np.mgrid[:height, :width]
    centre = random.integers(20, 40, 2)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 12**2
    mask = np.where(disc & lesion, 255, 0).astype(np.uint8)
    frame[mask > 0] = [120, 20, 20]
    return frame.astype(np.uint8), mask


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Path:
    """Layout (a): 12 frames of 64-96 px in images/ (PNG and JPEG), the first 8 with masks (frame 7 lesion-free), 4 in
    unlabeled/; groups.csv: labelled g0, g0, g1, g1, g2..g5, unlabelled g0, g0, u0, u0;
    unlabeled_groups.csv: u1, u1, u2, u2.
    """
    root = tmp_path / "tiny"
    for name in ("images", "masks", "unlabeled"):
        (root / name).mkdir(parents=True)
    groups = ["g0", "g0", "g1", "g1", "g2", "g3", "g4", "g5", "g0", "g0", "u0", "u0", "u1", "u1", "u2", "u2"]
    rows: dict[str, list[list[str]]] = {"groups.csv": [], "unlabeled_groups.csv": []}
    for number, group in enumerate(groups):
        frame, mask = draw_frame(number, 64 + 8 * (number % 5), 64 + 8 * (number % 3), lesion=number != 7)
        folder = "images" if number < 12 else "unlabeled"
        name = f"frame_{number:02d}.{'jpg' if number % 4 == 3 else 'png'}"
        Image.fromarray(frame).save(root / folder / name, quality=95)
        if number < 8:
            Image.fromarray(mask).save(root / "masks" / f"frame_{number:02d}.png")
        rows["groups.csv" if number < 12 else "unlabeled_groups.csv"].append([name, group])
    for name, found in rows.items():
        with (root / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([["file", "group"], *found])
    return root
