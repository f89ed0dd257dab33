"""Distillation by its config: which frames it sees, what it hands over to LESSNet, and what it refuses."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from scripts.data.errors import DatasetError
from scripts.engines.run_directory import LOCK_FILE
from scripts.networks import CheckpointError, LESSNet
from scripts.reports.commands import next_commands
from scripts.reports.run_files import read_run

TEACHER = "mobilenetv2_035"
STUDENT = "mobilenetv2_050"  # the fastest; MobileViT stands in test_the_default_student
LAYERS = ("train", "distil_encoder")


@pytest.fixture(scope="module")
def teacher_weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole model of random numbers."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    torch.save(timm.create_model(TEACHER).state_dict(), path)
    return str(path)


@pytest.fixture
def distil(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, teacher_weights: str, tmp_path: Path
) -> Callable[..., Path]:
    """Run a distillation of two epochs of two iterations -> run directory."""

    def run(name: str = "run", **changes: Any) -> Path:
        taken = ("image_size", "max_epochs", "iterations_per_epoch", "warmup_iterations", "split", "encoder_weights")
        options = {key: tiny[key] for key in taken} | {"labeled_batch_size": 4}
        options |= {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path), "run_name": name}
        options |= {"backbone": STUDENT, "teacher_backbone": TEACHER, "teacher_weights": teacher_weights}
        run_config(*LAYERS, **options | changes)
        return tmp_path / name

    return run


def model(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "model.pt", weights_only=True)["model"]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def counts_of(run: Path) -> dict[str, int]:
    counts = json.loads((run / "manifest.json").read_text())["counts"]
    return {name: found["images"] for name, found in counts.items()}


def test_from_distillation_to_a_segmentation(
    distil: Callable[..., Path],
    run_config: Any,
    tiny: dict[str, Any],
    frames_dir: Path,
    teacher_weights: str,
    tmp_path: Path,
) -> None:
    run = distil()
    expected = {
        "manifest.json", "environment.json", "config.json", "metrics.csv", "figures", "report.html", "model.pt",
        "last.pt", "tensorboard", LOCK_FILE,
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == expected
    rows = rows_of(run)
    assert len(rows) == 2 and all(float(row["loss_features"]) > 0 and float(row["loss_logits"]) > 0 for row in rows)
    assert all(-1 <= float(row["val_feature_similarity"]) <= 1 and row["val_top1_agreement"] for row in rows)
    assert all(name.startswith(("encoder.", "normalize.")) for name in model(run)), "no heads, no teacher"
    page = (run / "report.html").read_text()
    assert f"the encoder {STUDENT} learned to see frames as {TEACHER}" in page and 'class="absent"' not in page
    assert "Agreement with the teacher" in page
    start = json.loads((run / "environment.json").read_text())["encoder_weights"]
    digest = hashlib.sha256(Path(teacher_weights).read_bytes()).hexdigest()
    assert (start["used"], start["teacher"]["used"], start["teacher"]["sha256"]) == ("random", teacher_weights, digest)
    assert digest in page and "sha256" not in start
    command = next_commands(read_run(run))[0].text
    assert f"--encoder_weights {run / 'model.pt'} --network_def::backbone {STUDENT} --dataset_dir" in command

    options = tiny | {"max_epochs": 1, "encoder_weights": str(run / "model.pt"), "network_def#backbone": STUDENT}
    options |= {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path), "run_name": "segmentation"}
    run_config("train", "train_supervised", **options)
    environment = json.loads((tmp_path / "segmentation" / "environment.json").read_text())
    assert environment["encoder_weights"]["used"] == str(run / "model.pt")
    started = LESSNet(backbone=STUDENT, encoder_weights=str(run / "model.pt"))
    for name, value in started.encoder.state_dict().items():
        assert torch.equal(value, model(run)[f"encoder.{name}"]), name
    assert torch.equal(started.normalize.mean, model(run)["normalize.mean"])


def test_the_default_student(distil: Callable[..., Path]) -> None:
    run = distil(backbone="mobilevit_xxs", max_epochs=1)
    started = LESSNet("lite_mobilevit_xxs", encoder_weights=str(run / "model.pt"))
    for name, value in started.encoder.state_dict().items():
        assert torch.equal(value, model(run)[f"encoder.{name}"]), name
    assert "--network_def::preset lite_mobilevit_xxs" in next_commands(read_run(run))[0].text


def test_it_learns_from_no_label_and_from_no_frame_of_validation_and_test(
    distil: Callable[..., Path], frames_dir: Path, tmp_path: Path
) -> None:
    """Masks are turned, and the frames of validation and test painted over: the weights stay the same, bit for bit."""
    one = distil("one", label_fraction=0.5)
    other = tmp_path / "other" / "frames"
    shutil.copytree(frames_dir, other)
    for path in (other / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.ascontiguousarray(mask[::-1, ::-1])).save(path)
    files = json.loads((one / "manifest.json").read_text())["files"]
    for number, entry in enumerate(entry for entry in files if entry["section"] in ("validation", "test")):
        shape = np.asarray(Image.open(other / entry["file"])).shape
        Image.fromarray(np.full(shape, 10 * number, np.uint8)).save(other / entry["file"])
    assert equal(model(one), model(distil("turned", dataset_dir=str(other))))
    seen = next(entry["file"] for entry in files if entry["section"] == "unlabeled")
    Image.fromarray(255 - np.asarray(Image.open(other / seen))).save(other / seen)
    assert not equal(model(one), model(distil("seen", dataset_dir=str(other)))), "a frame that it learns from shows"


def test_frames_of_several_sets(distil: Callable[..., Path], frames_dir: Path, tmp_path: Path) -> None:
    folders = []
    for number in range(2):
        folders.append(tmp_path / f"set_{number}" / "images")
        folders[-1].mkdir(parents=True)
        for frame in range(3):
            noise = np.random.default_rng(10 * number + frame).integers(0, 255, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(folders[-1] / f"{frame}.png")
    run = distil(unlabeled_data=[str(folder) for folder in folders])
    assert counts_of(run) == {"training": 8, "unlabeled": 12, "validation": 4, "test": 4}


def test_a_set_without_masks(distil: Callable[..., Path], frames_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(frames_dir / "images", tmp_path / "plain" / "images")
    run = distil(dataset_dir=str(tmp_path / "plain"))
    assert counts_of(run) == {"training": 0, "unlabeled": 16, "validation": 0, "test": 0}
    assert all(row["loss"] and not row.get("val_feature_similarity") for row in rows_of(run))
    assert "--dataset_dir DATASET_WITH_MASKS" in next_commands(read_run(run))[0].text


def test_maps_alone_need_no_classifier(distil: Callable[..., Path], tmp_path: Path) -> None:
    """A teacher may be a network of this bundle."""
    torch.save(LESSNet(backbone=TEACHER, encoder_weights="none").state_dict(), tmp_path / "less_net.pt")
    options = {"teacher_weights": str(tmp_path / "less_net.pt"), "max_epochs": 1, "mixup": None}
    (row,) = rows_of(distil("maps", logit_weight=0, **options))
    assert row["loss"] == row["loss_features"] and "loss_logits" not in row and "val_top1_agreement" not in row
    with pytest.raises(CheckpointError, match="holds no classifier.*set logit_weight 0"):
        distil("logits", **options)
    assert not (tmp_path / "logits").exists(), "nothing was begun"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"teacher_weights": "none"}, ValueError, "teacher_weights is 'none': a teacher of random numbers"),
        ({"teacher_weights": "nowhere.pt"}, CheckpointError, "nowhere.pt does not exist"),
        ({"teacher_backbone": "mobilenetv2_100"}, CheckpointError, "is of another architecture"),
        ({"backbone": "mobilevit_xx"}, ValueError, "timm has no backbone 'mobilevit_xx'.*did you mean"),
        ({"feature_weight": 0, "logit_weight": 0}, ValueError, "one of them above 0"),
        ({"unlabeled_data": "EMPTY"}, DatasetError, "holds no pictures"),
        ({"dataset_dir": "EMPTY"}, DatasetError, "has no images/"),
        ({"dataset_dir": "PLAIN", "unlabeled_data": False}, ValueError, "no frames to distil on.*--unlabeled_data"),
        ({"mixup_probabilty": 1}, ValueError, "did you mean --mixup_probability"),
    ],
)
def test_bad_input_is_refused_before_work(
    changes: dict[str, Any], error: type[Exception], message: str, distil: Callable[..., Path], frames_dir: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """EMPTY is a folder without a file, PLAIN a data set without masks."""
    (tmp_path / "EMPTY").mkdir()
    shutil.copytree(frames_dir / "images", tmp_path / "PLAIN" / "images")
    for name in ("dataset_dir", "unlabeled_data"):
        if changes.get(name):
            changes = changes | {name: str(tmp_path / changes[name])}
    with pytest.raises(error, match=message):
        distil(**changes)
    assert not (tmp_path / "run" / "metrics.csv").exists() and not (tmp_path / "run" / "model.pt").exists()
