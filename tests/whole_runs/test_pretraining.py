"""Pretraining by its configs: which masks it sees, what it hands over, and the chain of three stages."""

from __future__ import annotations

import csv
import json
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
from monai.bundle import ConfigWorkflow
from PIL import Image
from whole_run import BUNDLE

from scripts.engines.overrides import UnknownOverrideError
from scripts.engines.run_directory import LOCK_FILE
from scripts.engines.short_errors import first_cause
from scripts.engines.stages import STAGES, run_stages
from scripts.networks import LESSNet

#: MONAI's UNet at its smallest, one epoch of three steps
SMALL: dict[str, Any] = {
    "image_size": 64,
    "max_epochs": 1,
    "iterations_per_epoch": 3,
    "labeled_batch_size": 4,
    "warmup_iterations": 1,
    "split": [0.5, 0.25, 0.25],
    "network_def::channels": [8, 16],
    "network_def::strides": [2],
    "label_fraction": 0.5,
}
LAYERS = ("pretrain_global", "pretrain_local_contrastive")


def move_mask(path: Path) -> None:
    """Shift and turn a mask round: another one with the same number of lesion pixels."""
    mask = np.asarray(Image.open(path))
    Image.fromarray(np.ascontiguousarray(np.roll(mask[::-1, ::-1], (5, 9), (0, 1)))).save(path)


def files_of(run: Path, section: str) -> list[str]:
    manifest = json.loads((run / "manifest.json").read_text())
    return [Path(entry["file"]).name for entry in manifest["files"] if entry["section"] == section]


def model(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "model.pt", weights_only=True)["model"]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture
def pretrain(run_config: Any, frames_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run a pretraining on a copy of the frames in which the masks of the named frames are moved -> run directory."""

    def run(name: str, layer: str, moved: list[str] | None = None, **changes: Any) -> Path:
        data = tmp_path / name / "frames"  # The same name: it is part of a file's address.
        shutil.copytree(frames_dir, data)
        for file in moved or []:
            move_mask(data / "masks" / file)
        options = SMALL | {"dataset_dir": str(data), "output_dir": str(tmp_path / name), "run_name": "run"} | changes
        options = {key.replace("::", "#"): value for key, value in options.items()}
        run_config("train", layer, "unet", **options)
        return tmp_path / name / "run"

    return run


def test_local_contrast_sees_the_labels_of_its_subset_and_no_others(pretrain: Callable[..., Path]) -> None:
    run = pretrain("first", "pretrain_local_contrastive")
    training, validation, test = (files_of(run, section) for section in ("training", "validation", "test"))
    assert (len(training), len(validation), len(test)) == (4, 4, 4)
    known = {*training, *validation, *test}
    beyond = sorted({path.name for path in (run.parent / "frames" / "masks").iterdir()} - known)
    assert len(beyond) == 4, "masks beyond label_fraction, and no part of the run"

    for name, moved in {"evaluation": validation + test, "beyond": beyond}.items():
        assert equal(model(run), model(pretrain(name, "pretrain_local_contrastive", moved))), name
    assert not equal(model(run), model(pretrain("training", "pretrain_local_contrastive", training)))


def test_global_contrast_sees_no_label(pretrain: Callable[..., Path], frames_dir: Path) -> None:
    run = pretrain("first", "pretrain_global")
    assert (len(files_of(run, "training")), len(files_of(run, "unlabeled"))) == (4, 10)
    every = sorted(path.name for path in (frames_dir / "masks").iterdir())
    assert equal(model(run), model(pretrain("moved", "pretrain_global", every)))
    assert equal(model(run), model(pretrain("all", "pretrain_global", label_fraction=1.0))), "nor who has one"
    assert not equal(model(run), model(pretrain("seed", "pretrain_global", seed=1)))


def test_global_contrast_sees_no_frame_of_validation_and_test(pretrain: Callable[..., Path], tmp_path: Path) -> None:
    """With those frames in plain grey it would learn something else, if it saw them."""
    run = pretrain("first", "pretrain_global")
    datalist = {name: [] for name in ("training", "validation", "test", "unlabeled")}
    for entry in json.loads((run / "manifest.json").read_text())["files"]:
        paths = {key: f"first/frames/{entry[key]}" for key in ("label",) if entry.get(key)}
        datalist[entry["section"]].append({"image": f"first/frames/{entry['file']}", "group": entry["group"], **paths})
    (tmp_path / "list.json").write_text(json.dumps(datalist))
    options = {"dataset_dir": str(tmp_path / "list.json"), "label_fraction": 1.0}
    same = pretrain("same", "pretrain_global", **options)
    for section in ("validation", "test"):
        for number, entry in enumerate(datalist[section]):
            shape = np.asarray(Image.open(tmp_path / entry["image"])).shape
            grey = np.full(shape, 10 * number + (100 if section == "test" else 0), np.uint8)
            Image.fromarray(grey).save(tmp_path / entry["image"])
    assert equal(model(same), model(pretrain("grey", "pretrain_global", **options)))
    seen = tmp_path / datalist["training"][0]["image"]
    Image.fromarray(255 - np.asarray(Image.open(seen))).save(seen)
    assert not equal(model(same), model(pretrain("seen", "pretrain_global", **options))), "a frame of training shows"


def test_less_net_hands_over_its_encoder(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path), "run_name": "run"}
    run_config("train", "pretrain_global", **tiny, **options)
    run = tmp_path / "run"
    expected = {
        "manifest.json", "environment.json", "config.json", "metrics.csv", "figures", "report.html", "model.pt",
        "last.pt", "tensorboard", LOCK_FILE,
    }  # fmt: skip
    assert {path.name for path in run.iterdir()} == expected, "and no figures of a test that was not made"
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(float(row["loss"]) > 0 and row["val_dice"] == "" for row in rows)
    weights = model(run)
    untouched = LESSNet(encoder_weights="none")
    assert weights.keys() == untouched.state_dict().keys(), "the head is dropped"
    started = LESSNet(encoder_weights=str(run / "model.pt"))
    for name, value in started.encoder.state_dict().items():
        assert torch.equal(value, weights[f"encoder.{name}"])
    assert started.encoder_weights_report["used"] == str(run / "model.pt")


@pytest.fixture
def chain(frames_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a chain of the smallest runs."""
    network = {name: value for name, value in SMALL.items() if name.startswith("network_def")}
    numbers = {name: SMALL[name] for name in ("max_epochs", "iterations_per_epoch", "warmup_iterations")}
    return {
        "dataset_dir": str(frames_dir), "output_dir": str(tmp_path), "label_fraction": 0.5, "image_size": 64,
        "split": SMALL["split"], "extra_configs": ["configs/unet.json"],
        "options": {name: network | numbers | {"labeled_batch_size": 4} for name in STAGES},
    }  # fmt: skip


def in_this_process(command: list[str], folder: Path) -> int:
    """The same command line without the seconds that a new process takes to import."""
    assert command[1:3] == ["-m", "monai.bundle"] and folder == Path.cwd()
    fire.Fire({"run": monai.bundle.run}, command=[*command[3:], "--logging_file", "False"])
    return 0


def test_three_stages(chain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BUNDLE)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    common = {name: chain.pop(name) for name in ("dataset_dir", "label_fraction", "image_size", "split")}
    del chain["output_dir"]
    arguments = {"bundle_root": BUNDLE, "chain_dir": tmp_path / "chain", "stages": list(STAGES), "common": common}

    stopped = {name: dict(options) for name, options in chain["options"].items()}
    stopped["train"]["network_def::channels"] = [8, 24]  # which the weights of the stage before do not fit
    with pytest.raises(RuntimeError) as caught:
        run_stages(**arguments, **(chain | {"options": stopped}), start=in_this_process)
    assert "expects (24, 8" in str(first_cause(caught.value))
    first, second = tmp_path / "chain" / "1_pretrain_global", tmp_path / "chain" / "2_pretrain_local_contrastive"
    before = [path.stat().st_mtime_ns for path in (first / "last.pt", second / "last.pt")]

    result = run_stages(**arguments, **chain, start=in_this_process)
    assert before == [path.stat().st_mtime_ns for path in (first / "last.pt", second / "last.pt")], "skipped"
    run = tmp_path / "chain" / "3_train"
    assert result == run / "model.pt"
    report = json.loads((run / "environment.json").read_text())["encoder_weights"]
    assert report["used"] == str(second / "model.pt")
    assert json.loads((run / "test_metrics.json").read_text())["best"]["figures"]["dice"]["value"] is not None
    stages = [model(path) for path in (first, second, run)]
    assert not equal(stages[0], stages[1]) and not equal(stages[1], stages[2]), "each stage trained"
    head = "model.2.conv.weight"  # contrast reads what goes into it, and leaves it alone
    assert torch.equal(stages[0][head], stages[1][head]) and not torch.equal(stages[1][head], stages[2][head])


def test_a_stage_in_a_process_of_its_own(
    chain: dict[str, Any], run_config: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By three_stages.json; one stage, since each takes seconds to start."""
    chain["options"] = {"pretrain_local_contrastive": chain["options"]["pretrain_local_contrastive"]}
    run_config("three_stages", **chain, stages=["pretrain_local_contrastive"])
    folder = tmp_path / "frames_local_labels0.5_seed0"
    stage = json.loads((folder / "stages.json").read_text())["stages"]["1_pretrain_local_contrastive"]
    assert stage["finished"] and Path(stage["result"]) == folder / "1_pretrain_local_contrastive" / "model.pt"
    shown = capfd.readouterr()
    assert "ContrastiveTrainer: Epoch[1] Complete" in shown.out + shown.err, "the stage's own log"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"datset_dir": "x"}, "--datset_dir: three_stages.json has no such id; did you mean --dataset_dir"),
        (
            {"options": {"train": {"max_epoch": 1}}},
            r"--max_epoch: train.json has no such id; did you mean --max_epochs",
        ),
    ],
)
def test_a_mistyped_id_of_the_chain(
    wrong: dict[str, Any], message: str, run_config: Callable[..., ConfigWorkflow], frames_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownOverrideError, match=message):
        run_config("three_stages", **({"dataset_dir": str(frames_dir), "output_dir": str(tmp_path)} | wrong))
    assert not list(tmp_path.iterdir()), "nothing was begun"
