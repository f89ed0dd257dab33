"""Each objective by its config, to the last file of the run directory."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.engines.run_directory import LOCK_FILE
from scripts.metrics.definitions import TITLES
from scripts.networks import LESSNet

FILES = {
    "manifest.json", "environment.json", "config.json", "metrics.csv", "test_metrics.json", "per_image.csv",
    "predictions", "figures", "report.html", "model.pt", "last.pt", "tensorboard", LOCK_FILE,
}  # fmt: skip
COLUMNS = (
    "epoch,iteration,seconds,lr,loss,loss_supervised,loss_unsupervised,unsupervised_weight,confident_share,"
    "lesion_share,val_dice,val_iou_pooled,val_dice_pooled"
).split(",")
PER_IMAGE = "file,group,height,width,lesion_px,predicted_px,dice,iou,recall,precision,hd95,surface_dice,tp,fp,fn,tn"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_run_directory(run: Path, objective: str) -> None:
    """All files of the contract, and that they agree with each other."""
    assert {path.name for path in run.iterdir()} == FILES, "no file is missing, none is left over"
    manifest, metrics = (json.loads((run / name).read_text()) for name in ("manifest.json", "test_metrics.json"))
    table = rows(run / "metrics.csv")
    assert list(table[0])[: len(COLUMNS)] == COLUMNS
    assert [(row["epoch"], row["iteration"]) for row in table] == [("1", "2"), ("2", "4")]
    for row in table:
        assert all(math.isfinite(float(row[name])) for name in ("loss", "loss_supervised", "val_dice", "lr"))
        assert (row["loss_unsupervised"] == "") == (objective == "supervised")
    counts = {name: part["images"] for name, part in manifest["counts"].items()}
    assert counts == {"training": 8, "unlabeled": 0 if objective == "supervised" else 6, "validation": 4, "test": 4}

    images = rows(run / "per_image.csv")
    assert (run / "per_image.csv").read_text().splitlines()[0] == PER_IMAGE
    assert [row["file"] for row in images] == [e["file"] for e in manifest["files"] if e["section"] == "test"]
    for row in images:
        mask = np.asarray(Image.open((run / "predictions" / row["file"]).with_suffix(".png")))
        assert mask.shape == (int(row["height"]), int(row["width"])) and set(np.unique(mask)) <= {0, 255}
        assert (mask == 255).sum() == int(row["predicted_px"])
    for part in ("best", "last", "validation"):
        assert set(metrics[part]["figures"]) == set(TITLES)
    mean = sum(float(row["dice"]) for row in images) / 4
    assert metrics["best"]["figures"]["dice"]["value"] == pytest.approx(mean, abs=1e-5)
    best = max(table, key=lambda row: float(row["val_dice"]))
    assert metrics["best"]["epoch"] == int(best["epoch"]) and metrics["last"]["epoch"] == 2
    checked = metrics["validation"]["figures"]["dice"]["value"]
    assert checked == pytest.approx(float(best["val_dice"]), abs=1e-5), "one rule for the log and the report"

    weights = torch.load(run / "model.pt", weights_only=True)
    LESSNet(encoder_weights="none").load_state_dict(weights["model"])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<img" in page


@pytest.mark.parametrize(
    "layer", ["train_supervised", "less_net", "less_net_published", "mean_teacher", "weak_to_strong"]
)
def test_an_objective_from_start_to_report(
    layer: str, run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    run_config("train", layer, **tiny, dataset_dir=str(frames_dir), output_dir=str(tmp_path))
    objective = layer.removeprefix("train_")
    run = tmp_path / f"frames_{objective}_labels1_seed0"
    assert run.is_dir(), "the name says what was trained on what"
    check_run_directory(run, objective)


def test_labelled_frames_alone_teach_without_their_masks_too(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    changes = {"unlabeled_data": False, "labeled_as_unlabeled": True, "objective": "mean_teacher"}
    run_config("train", **(tiny | changes), dataset_dir=str(frames_dir), output_dir=str(tmp_path), run_name="x")
    assert json.loads((tmp_path / "x/manifest.json").read_text())["counts"]["unlabeled"]["images"] == 0
    for row in rows(tmp_path / "x/metrics.csv"):
        assert math.isfinite(float(row["loss_unsupervised"])), "there were frames for the objective"


def test_repeating_a_finished_command_changes_nothing(
    run_config: Any, tiny: dict[str, Any], trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_run, tmp_path / "done")
    kept = ("metrics.csv", "model.pt", "last.pt", "test_metrics.json", "per_image.csv", "manifest.json")
    before = {name: (tmp_path / "done" / name).read_bytes() for name in kept}
    run_config("train", "mean_teacher", **tiny, dataset_dir=str(frames_dir), output_dir=str(tmp_path), run_name="done")
    assert before == {name: (tmp_path / "done" / name).read_bytes() for name in kept}


def test_options_reach_the_parts(run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path) -> None:
    """Fewer labels, no validation, accumulation, clipped gradients, another loss, dropout, few validations."""
    changes = {
        "label_fraction": 0.5, "split": [0.75, 0.0, 0.25], "accumulation_steps": 2, "supervised_loss": "dice_focal",
        "network_def#dropout": 0.3, "objective": "supervised", "val_interval": 2, "seed": 3,
        "max_gradient_norm": 0.5,
    }  # fmt: skip
    run_config("train", **(tiny | changes), dataset_dir=str(frames_dir), output_dir=str(tmp_path), run_name="x")
    run = tmp_path / "x"
    manifest, metrics = (json.loads((run / name).read_text()) for name in ("manifest.json", "test_metrics.json"))
    assert {name: part["images"] for name, part in manifest["counts"].items()} == {
        "training": 6, "unlabeled": 0, "validation": 0, "test": 4,
    }  # fmt: skip
    assert metrics["best"]["epoch"] == 2 and "validation" not in metrics, "without validation the last is the best"
    assert [row["val_dice"] for row in rows(run / "metrics.csv")] == ["", ""]
    assert json.loads((run / "config.json").read_text())["network_def"]["dropout"] == 0.3
    # two iterations an epoch, one step of the optimizer: two in all, the teacher counts them
    assert int(torch.load(run / "last.pt", weights_only=True)["parts"]["teacher"]["updates"]) == 2
    assert (run / "report.html").is_file()
