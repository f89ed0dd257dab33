"""Severity by its configs: pretraining, grading, figures, scores of a folder, and what is handed to a segmentation."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import numpy as np
import pytest
import torch
from graded_pictures import write_severities
from PIL import Image

from scripts.data.errors import DatasetError
from scripts.networks import LESSNet
from scripts.reports.commands import next_commands
from scripts.reports.run_files import read_run

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
GRADES = ["healthy", "mild", "severe"]
PRETRAIN, TRAIN = ("train", "severity", "pretrain_severity"), ("train", "severity", "train_severity")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def settings(tiny: dict[str, Any], graded_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of two epochs of two iterations on the graded pictures."""
    taken = ("image_size", "max_epochs", "iterations_per_epoch", "warmup_iterations", "encoder_weights", "split")
    small = {name: tiny[name] for name in taken}
    return small | {
        "dataset_dir": str(graded_dir), "output_dir": str(tmp_path), "labeled_batch_size": 6, "unlabeled_batch_size": 2,
    }  # fmt: skip


@pytest.fixture
def pretrained(run_config: Any, settings: dict[str, Any], tmp_path: Path) -> Path:
    """Directory of a finished SEMISE pretraining."""
    run_config(*PRETRAIN, **settings, discrimination_epochs=1, run_name="semise")
    return tmp_path / "semise"


def model(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "model.pt", weights_only=True)["model"]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_from_pretraining_to_grades_and_scores(
    pretrained: Path, run_config: Any, settings: dict[str, Any], graded_dir: Path, tmp_path: Path
) -> None:
    names = {path.name for path in pretrained.iterdir()}
    assert {"model.pt", "last.pt", "manifest.json", "metrics.csv", "report.html", "embedding.csv"} <= names
    rows = rows_of(pretrained / "metrics.csv")
    assert len(rows) == 2 and all(row["val_spearman"] and row["order_share"] for row in rows)
    assert not rows[0]["loss_preference"] and rows[1]["loss_preference"] and rows[1]["loss_ntxent"]
    assert "accuracy" not in rows[0]
    counts = json.loads((pretrained / "manifest.json").read_text())["counts"]
    assert [counts[name]["images"] for name in ("training", "unlabeled", "validation", "test")] == [12, 4, 6, 6]

    settings |= {"grades": GRADES, "encoder_weights": str(pretrained / "model.pt")}
    run_config(*TRAIN, **settings, run_name="grading")
    run = tmp_path / "grading"
    metrics = json.loads((run / "test_metrics.json").read_text())
    assert metrics["key_metric"] == "val_kappa"
    assert set(metrics["best"]["figures"]) == {"macro_f1", "macro_recall", "accuracy", "maee", "kappa", "spearman"}
    assert len(rows_of(run / "per_picture.csv")) == 6
    environment = json.loads((run / "environment.json").read_text())
    assert environment["encoder_weights"]["used"] == str(pretrained / "model.pt")

    run_config(*TRAIN, "evaluate_severity", **settings, run_name="grading", checkpoint=str(run / "model.pt"))
    again = json.loads((tmp_path / "evaluation_grading" / "test_metrics.json").read_text())
    assert again["best"]["figures"] == metrics["best"]["figures"]
    assert rows_of(tmp_path / "evaluation_grading" / "per_picture.csv") == rows_of(run / "per_picture.csv")

    common = {"dataset_dir": str(graded_dir / "images"), "image_size": 64}
    for score, of, options in (("grade", run, {"grades": GRADES}), ("distance", pretrained, {})):
        place = tmp_path / score
        run_config(
            "train", "severity", "inference_severity",
            **common, **options, score=score, checkpoint=str(of / "model.pt"), output_dir=str(place),
        )  # fmt: skip
        table = rows_of(place / "severity_scores.csv")
        assert len(table) == 28
        scores = [float(row["score"]) for row in table]
        assert scores == sorted(scores, reverse=True), "the most severe first"
    of_test = {row["file"]: row for row in rows_of(run / "per_picture.csv")}
    of_folder = {f"images/{row['file']}": row for row in rows_of(tmp_path / "grade" / "severity_scores.csv")}
    for file, row in of_test.items():
        assert of_folder[file]["grade"] == row["predicted"] and of_folder[file]["name"] == GRADES[int(row["predicted"])]
        assert float(of_folder[file]["score"]) == pytest.approx(float(row["score"]), abs=1e-4)


def test_an_order_is_learned(run_config: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    """Redness is the severity: the distance from healthy follows it on patients that were never seen."""
    run_config(
        *PRETRAIN,
        **settings | {"max_epochs": 6, "iterations_per_epoch": 10, "encoder_learning_rate_ratio": 1},
        run_name="order",
    )
    rows = rows_of(tmp_path / "order" / "metrics.csv")
    assert float(rows[-1]["val_spearman"]) > 0.7


def test_severities_of_validation_and_test_are_not_seen(
    pretrained: Path, run_config: Any, settings: dict[str, Any], graded_dir: Path, tmp_path: Path
) -> None:
    manifest = json.loads((pretrained / "manifest.json").read_text())

    def swapped(section: str) -> dict[str, torch.Tensor]:
        """Pretrained on the same pictures in the same sections, mild and severe changed for each other in one."""
        datalist: dict[str, list[Any]] = {}
        for entry in manifest["files"]:
            found = {"image": str(graded_dir / entry["file"]), "group": entry["group"]}
            if entry["severity"] is not None:
                turn = {0: 0, 1: 2, 2: 1} if entry["section"] == section else {0: 0, 1: 1, 2: 2}
                found["severity"] = turn[int(entry["severity"])]
            datalist.setdefault(entry["section"], []).append(found)
        path = tmp_path / f"{section or 'as it is'}.json"
        path.write_text(json.dumps(datalist))
        run_config(*PRETRAIN, **settings | {"dataset_dir": str(path)}, discrimination_epochs=1, run_name=path.stem)
        return model(tmp_path / path.stem)

    plain = swapped("")
    assert equal(plain, swapped("validation")) and equal(plain, swapped("test"))
    assert not equal(plain, swapped("training"))


def test_the_encoder_goes_into_a_segmentation(
    pretrained: Path, run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    options = tiny | {"max_epochs": 1, "encoder_weights": str(pretrained / "model.pt"), "dataset_dir": str(frames_dir)}
    run_config("train", "train_supervised", **options, output_dir=str(tmp_path), run_name="segmentation")
    environment = json.loads((tmp_path / "segmentation" / "environment.json").read_text())
    assert environment["encoder_weights"]["used"] == str(pretrained / "model.pt")
    started = LESSNet(encoder_weights=str(pretrained / "model.pt"))
    for name, value in started.encoder.state_dict().items():
        assert torch.equal(value, model(pretrained)[f"encoder.{name}"])


@pytest.mark.parametrize("objective", ["supcon", "simclr"])
def test_other_objectives(
    objective: str, pretrained: Path, run_config: Any, settings: dict[str, Any], graded_dir: Path, tmp_path: Path
) -> None:
    run_config(*PRETRAIN, **settings, objective=objective, run_name="run")
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    assert all(float(row["loss"]) > 0 and not row.get("val_spearman") for row in rows)
    assert not model(tmp_path / "run")["healthy"].any()
    with pytest.raises(RuntimeError, match="knows no healthy picture"):
        run_config(
            "train", "severity", "inference_severity", score="distance", checkpoint=str(tmp_path / "run" / "model.pt"),
            dataset_dir=str(graded_dir / "images"), output_dir=str(tmp_path / "out"), image_size=64,
        )  # fmt: skip


def test_both_readings_of_the_first_phase(
    pretrained: Path, run_config: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    run_config(*PRETRAIN, **settings, discrimination_epochs=1, objective_options={"had": "ntxent"}, run_name="other")
    one, other = (float(rows_of(run / "metrics.csv")[0]["loss"]) for run in (pretrained, tmp_path / "other"))
    assert one < 0.5 < other, "the margin of pairs is at most 1/2, NT-Xent of 16 views about log 15"


def test_frames_with_masks_and_no_grades(
    run_config: Any, settings: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    settings |= {"dataset_dir": str(frames_dir)}
    data = tmp_path / "frames"
    shutil.copytree(frames_dir, data)
    for number in (1, 4, 8):  # more lesion-free frames than the one there is
        path = data / "masks" / f"frame_{number:02d}.png"
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    run_config(*PRETRAIN, **settings | {"dataset_dir": str(data)}, discrimination_epochs=1, run_name="area")
    page = (tmp_path / "area" / "report.html").read_text()
    assert "severity is the share of the picture that is lesion" in page


def test_a_linear_probe_leaves_the_encoder_as_it_was(
    pretrained: Path, run_config: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    settings |= {"grades": GRADES, "encoder_weights": str(pretrained / "model.pt"), "freeze_encoder": True}
    run_config(*TRAIN, **settings, run_name="probe")
    before, after = model(pretrained), model(tmp_path / "probe")
    encoder = [name for name in after if name.startswith("encoder.")]
    assert encoder and all(torch.equal(after[name], before[name]) for name in encoder)


@pytest.mark.parametrize(
    ("severities", "layers", "message"),
    [
        ([1] * 12, PRETRAIN, "all 24 graded pictures have the severity 1"),
        ([1, 2, 3] * 4, PRETRAIN, "no picture is healthy"),
        ([0, 2] * 6, TRAIN, "no picture has the grade 1 \\(mild\\)"),
        ([], PRETRAIN, "is graded; give each picture a `severity`"),
        ([0, 1] * 5 + [0, 2], TRAIN, "the grade 2 \\(severe\\) has pictures of fewer than two patients"),
    ],
)
def test_bad_grades_are_refused_before_work(
    severities: list[int], layers: tuple[str, ...], message: str, run_config: Any, settings: dict[str, Any],
    graded_dir: Path, tmp_path: Path,
) -> None:  # fmt: skip
    data = tmp_path / "bad"
    shutil.copytree(graded_dir, data)
    write_severities(data, {f"p{place:02d}_{eye}.png": value for place, value in enumerate(severities) for eye in "LR"})
    if not severities:
        (data / "severity.csv").unlink()
    options = settings | {"dataset_dir": str(data), "run_name": "run"}
    if layers == TRAIN:
        options["grades"] = GRADES
    with pytest.raises(DatasetError, match=message):
        run_config(*layers, **options)
    assert not (tmp_path / "run" / "model.pt").exists()


def test_a_broken_picture_is_listed_and_the_others_are_scored(
    pretrained: Path, run_config: Any, graded_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(graded_dir / "images", tmp_path / "in")
    (tmp_path / "in" / "p00_L.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as stopped:
        run_config(
            "train", "severity", "inference_severity", score="distance", checkpoint=str(pretrained / "model.pt"),
            dataset_dir=str(tmp_path / "in"), output_dir=str(tmp_path / "out"), image_size=64,
        )  # fmt: skip
    assert stopped.value.code == 3
    assert len(rows_of(tmp_path / "out" / "severity_scores.csv")) == 27
    assert [row["file"] for row in rows_of(tmp_path / "out" / "failures.csv")] == ["p00_L.png"]


def test_the_commands_of_the_report_run_as_they_stand(
    pretrained: Path, run_config: Any, settings: dict[str, Any], graded_dir: Path, frames_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(BUNDLE)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    places = {
        "FOLDER_WITH_IMAGES": str(graded_dir / "images"), "FOLDER_FOR_RESULTS": str(tmp_path / "results"),
        "DATASET_WITH_MASKS": str(frames_dir), "['healthy','mild']": str(GRADES),
    }  # fmt: skip
    short = ["--max_epochs", "1", "--iterations_per_epoch", "1", "--output_dir", str(tmp_path)]

    def start(command: Callable[[], Any], *more: str) -> None:
        words = [places.get(word, word) for word in shlex.split(command.text)[3:]]  # without "python -m monai.bundle"
        fire.Fire({"run": monai.bundle.run}, command=[*words, *more, "--logging_file", "False"])

    train, segment, score, *_ = next_commands(read_run(pretrained))
    start(train, *short, "--run_name", "graded")
    start(segment, *short, "--run_name", "segmented", "--image_size", "64")
    start(score)
    assert len(rows_of(tmp_path / "results" / "severity_scores.csv")) == 28
    first = json.loads((tmp_path / "graded" / "test_metrics.json").read_text())
    grade, again, *_ = next_commands(read_run(tmp_path / "graded"))
    shutil.rmtree(tmp_path / "results")
    start(grade)
    assert rows_of(tmp_path / "results" / "severity_scores.csv")[0]["name"] in GRADES
    start(again)
    second = json.loads((tmp_path / "evaluation_graded" / "test_metrics.json").read_text())
    assert second["best"]["figures"] == first["best"]["figures"]
