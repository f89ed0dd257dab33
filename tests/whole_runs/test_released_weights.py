"""The weights that are shipped, what metadata.json says of them, and figures measured again on some test frames."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.io.mask_reader import read_mask
from scripts.metrics.confusion import confusion_counts, overlap_figures

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FRAMES = 12  # of the test split, that are measured again

pytestmark = pytest.mark.skipif(
    not (ROOT / "bundle" / "models" / "model.pt").is_file(), reason="no weights are released with this version"
)


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text())


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return json.loads((RESULTS / "released_weights.json").read_text())


def test_metadata_is_of_these_files(metadata: dict[str, Any]) -> None:
    hashes = metadata["weights"]["sha256"]
    assert hashes.keys() == {f"models/{path.name}" for path in (ROOT / "bundle" / "models").glob("*.pt")}
    for name, expected in hashes.items():
        assert hashlib.sha256((ROOT / "bundle" / name).read_bytes()).hexdigest() == expected


def test_metadata_has_the_measured_figures(metadata: dict[str, Any], found: dict[str, Any]) -> None:
    assert found["weights"] == metadata["weights"]
    for name, value in metadata["eval_metrics"].items():
        assert value == pytest.approx(found["figures"][name]["value"], abs=5e-5)


def test_figures_are_the_means_of_the_rows(found: dict[str, Any]) -> None:
    with (RESULTS / "released_weights.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["counts"]["test"]["images"]
    for name in ("dice", "iou", "recall", "precision"):
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(found["figures"][name]["value"], abs=1e-5)


def test_some_test_frames_give_their_figures_again(
    run_config: Any, shared_dir: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    with (RESULTS / "released_weights.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = rows[:: len(rows) // FRAMES][:FRAMES]
    masks = {}
    for row in rows:
        _, source, name = row["file"].split("/", 2)
        dataset = shared_dir / "data" / found["data"][source]
        target = tmp_path / "frames" / source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dataset / "images" / name, target)
        masks[f"{source}/{name}"] = next((dataset / "masks").glob(f"{Path(name).stem}.*"))
    run_config("inference", dataset_dir=str(tmp_path / "frames"), output_dir=str(tmp_path / "out"))
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        predicted = {row["file"]: tmp_path / "out" / row["mask"] for row in csv.DictReader(file)}
    for row in rows:
        name = row["file"].split("/", 1)[1]
        mask = np.asarray(Image.open(predicted[name])) > 0
        again = overlap_figures(*confusion_counts(mask, read_mask(masks[name]) > 0))["dice"]
        assert float(again) == pytest.approx(float(row["dice"]), abs=0.01), name
