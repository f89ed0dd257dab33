"""Made-up volumes of three classes, as MR comes: float32, intensities of a scale of their own, blank last slice."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

VALUE_MAP = {"0": 0, "1": 1, "2": 2}
CLASSES = ("background", "anterior", "posterior")


def affine(number: int) -> np.ndarray:
    """Millimetres, another origin for each volume."""
    return np.array([[1.0, 0, 0, number], [0, 1.2, 0, -3], [0, 0, 2, 1], [0, 0, 0, 1]])


def draw_volume(number: int, side: int = 64, depth: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Intensities (W, H, D) float32, the last slice blank where there are several, and labels uint8 0, 1, 2."""
    random = np.random.default_rng(number)
    x, y, z = np.mgrid[:side, : side - 4, :depth]
    column, row = random.integers(side // 3, side // 2, 2)
    labels = np.zeros(x.shape, np.uint8)
    labels[(x - column) ** 2 + (y - row) ** 2 < (side / 6) ** 2] = 1
    labels[(x - column - side // 6) ** 2 + (y - row - side // 8) ** 2 < (side / 8) ** 2] = 2
    values = (random.normal(100, 6, x.shape) + np.array([0, 70, 140])[labels]) * 10 ** random.uniform(0, 3)
    if depth > 1:
        labels[z == depth - 1], values[z == depth - 1] = 0, 0
    return values.astype(np.float32), labels


def write_volume(
    root: Path, number: int, values: np.ndarray, labels: np.ndarray | None, of_label: np.ndarray | None = None
) -> None:
    """images/v<number>.nii.gz and labels/v<number>.nii.gz, of one affine unless `of_label` says otherwise."""
    for folder, array, geometry in (("images", values, affine(number)), ("labels", labels, of_label)):
        if array is not None:
            (root / folder).mkdir(parents=True, exist_ok=True)
            geometry = affine(number) if geometry is None else geometry
            nib.save(nib.Nifti1Image(array, geometry), root / folder / f"v{number}.nii.gz")


def write_volumes(root: Path, count: int = 6, side: int = 64, depth: int = 6) -> Path:
    """A data set of `count` volumes, each with its labels."""
    for number in range(count):
        write_volume(root, number, *draw_volume(number, side, depth))
    return root
