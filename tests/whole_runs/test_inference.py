"""A folder of anything in, masks and a table out."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.data.errors import DatasetError
from scripts.engines.overrides import UnknownOverrideError
from scripts.networks.checkpoints import CheckpointError

SIZES = {"one.png": (70, 90), "sub/Größe 2.jpg": (64, 64), "sub/deep er/three.bmp": (131, 77), "one.jpg": (80, 80)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes in sub-folders, a broken one, a video named .png, and a note."""
    root = tmp_path / "my frames é"
    random = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (height, width, 3)).astype(np.uint8)).save(path)
    (root / "broken.png").write_bytes((root / "one.png").read_bytes()[:1500])
    (root / "video.png").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(600))
    (root / "notes.txt").write_text("no picture")
    return root


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def infer(run_config: Any, folder: Path, out: Path, checkpoint: Path, **changes: Any) -> None:
    overrides = {"dataset_dir": str(folder), "output_dir": str(out), "checkpoint": str(checkpoint), "image_size": 64}
    run_config("inference", **(overrides | {"batch_size": 2, "allow_failures": True} | changes))


def test_a_folder_of_anything(run_config: Any, folder: Path, trained_run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    infer(run_config, folder, out, trained_run / "model.pt")
    results, failures = table(out / "results.csv"), table(out / "failures.csv")
    assert results.keys() == SIZES.keys()
    for name, (height, width) in SIZES.items():
        row = results[name]
        mask = np.asarray(Image.open(out / row["mask"]))
        overlay = np.asarray(Image.open(out / row["overlay"]))
        assert mask.shape == (height, width) and set(np.unique(mask)) <= {0, 255}
        assert overlay.shape == (height, width, 3)
        assert (int(row["height"]), int(row["width"])) == (height, width)
        assert (mask == 255).sum() == int(row["lesion_px"])
        assert float(row["lesion_share"]) == pytest.approx((mask == 255).mean(), abs=1e-6)
        assert 0.5 <= float(row["mean_confidence"]) <= 1
        assert row["agreement_of"] == "network+companion+flip" and 0 <= float(row["agreement"]) <= 1
        assert Path(row["mask"]).parent == Path("masks") / Path(name).parent, "sub-folders as in the input"
    assert len({row["mask"] for row in results.values()}) == 4, "one.png and one.jpg do not overwrite each other"
    assert failures.keys() == {"broken.png", "video.png"}
    assert "broken.png" in failures["broken.png"]["error"]
    assert "it is a video" in failures["video.png"]["error"] and "ffmpeg" in failures["video.png"]["error"]
    assert len(list((out / "masks").rglob("*.png"))) == 4
    with pytest.raises(SystemExit) as stop:  # the same again, and the exit code tells of the broken ones
        infer(run_config, folder, out, trained_run / "model.pt", allow_failures=False)
    assert stop.value.code == 3 and table(out / "results.csv").keys() == SIZES.keys()
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}, "input is untouched"


@pytest.mark.parametrize(("size", "said"), [(64, False), (96, True)])
def test_another_size_than_the_one_trained_at_is_said(
    run_config: Any,
    folder: Path,
    trained_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    size: int,
    said: bool,
) -> None:
    infer(run_config, folder, tmp_path / "out", trained_run / "model.pt", image_size=size)
    assert ("was trained at 64 px and is used at 96 px" in caplog.text) == said


def test_masks_are_those_of_the_evaluation(
    run_config: Any, trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    infer(run_config, frames_dir / "images", tmp_path / "out", trained_run / "model.pt", flip=False, overlays=False)
    predicted = sorted((trained_run / "predictions" / "images").glob("*.png"))
    assert len(predicted) == 4
    for path in predicted:
        assert np.array_equal(
            np.asarray(Image.open(path)), np.asarray(Image.open(tmp_path / "out" / "masks" / path.name))
        )
    assert not (tmp_path / "out" / "overlays").exists()
    assert {row["agreement_of"] for row in table(tmp_path / "out" / "results.csv").values()} == {"network+companion"}


def test_weights_without_companion(
    run_config: Any, folder: Path, trained_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = torch.load(trained_run / "model.pt", weights_only=True)["model"]
    torch.save(weights, tmp_path / "plain.pt")
    with caplog.at_level(logging.WARNING):
        infer(run_config, folder / "sub", tmp_path / "out", tmp_path / "plain.pt")
    assert "plain.pt holds no companion" in caplog.text
    assert {row["agreement_of"] for row in table(tmp_path / "out" / "results.csv").values()} == {"network+flip"}
    assert not (tmp_path / "out" / "failures.csv").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"checkpoint": "nowhere.pt"}, CheckpointError, "nowhere.pt does not exist"),
        ({"network_def#preset": "lite_mobilevit_xs"}, CheckpointError, "model.pt.*preset"),
        ({"network_def#out_channels": 3}, CheckpointError, r"head.weight has shape \(2, .*expects \(3, "),
        ({"dataset_dir": "/no/such/folder"}, DatasetError, "/no/such/folder does not exist"),
        ({"dataset_dir": ""}, DatasetError, "--dataset_dir"),
        ({"treshold": 0.3}, UnknownOverrideError, "--treshold.*did you mean --threshold"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    run_config: Any, folder: Path, trained_run: Path, tmp_path: Path, changes: dict[str, Any], error: type, message: str
) -> None:
    changes = {"checkpoint": str(trained_run / "model.pt")} | changes
    with pytest.raises(error, match=message):
        infer(run_config, folder, tmp_path / "out", changes.pop("checkpoint"), **changes)
    assert not (tmp_path / "out").exists()
