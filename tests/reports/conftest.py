"""make_run: a small run directory made by code: drawn frames, plausible curves, figures from the real evaluation."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.io.writers import OutputNamer, write_mask_png
from scripts.metrics import LesionEvaluation

SIZE = (90, 120)  # pixels: height, width


def disc(row: float, column: float, radius: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def build_run(folder: Path, images: int = 14, epochs: int = 12, sample: bool = False, name: str = "a run") -> Path:
    """Write a data set and the directory of a run on it; every fifth test frame is free of lesion."""
    dataset, run = folder / "data set", folder / "runs" / name
    random = np.random.default_rng(0)
    files: list[dict[str, Any]] = []
    best, last = LesionEvaluation(), LesionEvaluation()
    names = [f"images/frame {i:02d}.png" for i in range(images)]
    namer = OutputNamer(names)
    for i, file in enumerate([*names, *(f"images/train_{j}.png" for j in range(3))]):
        test = i < images
        centre = random.uniform((30, 35), (60, 85))
        truth = disc(*centre, 8 + i) if i % 5 or not test else np.zeros(SIZE, dtype=bool)
        pixels = np.array([176, 96, 84]) + random.normal(0, 9, (*SIZE, 3)) + 40 * disc(45, 60, 50)[..., None]
        pixels[truth] += (20, -50, -45)
        label = file.replace("images/", "masks/")
        for path, content in ((file, pixels.clip(0, 255)), (label, truth * 255)):
            (dataset / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content.astype(np.uint8)).save(dataset / path)
        digests = [hashlib.sha256((dataset / path).read_bytes()).hexdigest() for path in (file, label)]
        files.append({"section": "test" if test else "training", "file": file, "group": f"patient {i // 2}",
                      "label": label, "sha256": digests[0], "label_sha256": digests[1]})  # fmt: skip
        if test:
            shift = random.normal(0, 1 + i / 2, 2)
            guess = disc(*(centre + shift), 8 + i) if i % 5 else disc(20, 20, 6 if i == 5 else 0.1) & (i == 5)
            best.add(file, files[-1]["group"], np.where(guess, 0.9, 0.08), truth)
            last.add(file, files[-1]["group"], np.where(np.roll(guess, 3, 0), 0.9, 0.08), truth)
            write_mask_png(run / "predictions" / namer(file), guess)
    figures = {
        "best": {"epoch": 9, "figures": best.figures(1.4)},
        "last": {"epoch": epochs, "figures": last.figures(1.4)},
    }
    figures |= {"validation": {"epoch": 9, "figures": last.figures(1.4)}, "temperature": 1.4, "key_metric": "val_dice"}
    counts = {"training": (3, 2, 3), "unlabeled": (120, 20, 0), "validation": (8, 4, 8), "test": (images, 7, images)}
    manifest = {
        "dataset_dir": str(dataset), "seed": 0, "label_fraction": 0.1, "sample": sample,
        "split": {"training": 0.7, "validation": 0.1, "test": 0.2}, "warnings": [], "files": files,
        "counts": {key: dict(zip(("images", "groups", "labelled"), row, strict=True)) for key, row in counts.items()},
    }  # fmt: skip
    environment = {
        "versions": {"python": "3.11.2", "torch": "2.15.0", "monai": "1.6.1"},
        "machine": {"system": "Linux", "processor": "a processor", "cores": 2, "gpu": None}, "device": "cpu",
        "encoder_weights": {
            "requested": "auto", "used": "imagenet", "substituted": False, "message": "read from a file"
        },
        "substitutions": [], "command": "python -m monai.bundle run --config_file configs/train.json --seed 0",
        "started": "2025-11-20T18:33:00+00:00", "seconds": 192.4,
    }  # fmt: skip
    config = {
        "_desc_": {"max_epochs": "number of epochs"}, "dataset_dir": str(dataset), "max_epochs": epochs, "seed": 0,
        "run_dir": "$os.path.join(@output_dir, @run_name)", "network_def": {"_target_": "LESSNet", "preset": "lite"},
    }  # fmt: skip
    for file, content in (("manifest", manifest), ("environment", environment), ("config", config)):
        (run / f"{file}.json").write_text(json.dumps(content))
    (run / "test_metrics.json").write_text(json.dumps(figures))
    best.write_csv(run / "per_image.csv")
    with (run / "metrics.csv").open("w", newline="") as stream:
        writer = None
        for epoch in range(1, epochs + 1):
            dice = 0.84 - 0.5 * math.exp(-epoch / 4) + 0.01 * math.sin(3 * epoch)
            row = {
                "epoch": epoch, "iteration": epoch * 20, "seconds": epoch * 9.5,
                "lr": 2e-3 * (1 - epoch / epochs) ** 0.9,
                "loss": 1.2 * math.exp(-epoch / 5) + 0.2, "loss_supervised": math.exp(-epoch / 5) + 0.1,
                "loss_unsupervised": 0.2 * math.exp(-epoch / 8), "unsupervised_weight": min(1.0, epoch / 6),
                "confident_share": 0.95 - 0.5 * math.exp(-epoch / 3),
                "lesion_share": 0.09 + 0.04 * math.exp(-epoch / 4),
                "val_dice": dice, "val_iou_pooled": dice - 0.1, "val_dice_pooled": dice + 0.02,
            }  # fmt: skip
            if writer is None:
                writer = csv.DictWriter(stream, row)
                writer.writeheader()
            writer.writerow(row)
    return run


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return build_run
