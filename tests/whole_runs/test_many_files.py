"""Ten thousand files, one in a hundred broken: the night's work is done in the morning."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

FILES, BROKEN = 10_000, 100


def test_ten_thousand_files(run_config: Any, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    for number in range(FILES):
        os.link(tmp_path / ("bad.png" if number % 100 == 50 else "good.png"), folder / f"{number:05d}.png")
    torch.save({}, tmp_path / "none.pt")
    cheap = {"network": torch.nn.Conv2d(3, 2, 1), "checkpointloader": None, "companion": None, "flip": False}
    with pytest.raises(SystemExit) as stop:
        run_config(
            "inference", **cheap, dataset_dir=str(folder), output_dir=str(out), checkpoint=str(tmp_path / "none.pt"),
            image_size=16, batch_size=64, overlays=False, provenance_files=False,
        )  # fmt: skip
    assert stop.value.code == 3
    with (out / "failures.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [f"{n:05d}.png" for n in range(50, FILES, 100)]
    with (out / "results.csv").open(newline="") as file:
        assert sum(1 for _ in file) - 1 == FILES - BROKEN
    assert sum(1 for _ in (out / "masks").iterdir()) == FILES - BROKEN
