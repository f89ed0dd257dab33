"""What a person may get wrong: the error names file and cure, and no run is left behind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.data.errors import DatasetError, LeakError
from scripts.engines.overrides import UnknownOverrideError
from scripts.io.writers import OutputError
from scripts.networks.checkpoints import CheckpointError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
Change = Callable[[Path], dict[str, Any] | None]


@pytest.fixture
def copied(frames_dir: Path, tmp_path: Path) -> Path:
    """A copy of the frames, to be spoilt."""
    shutil.copytree(frames_dir, tmp_path / "data")
    return tmp_path / "data"


def no_masks(data: Path) -> None:
    shutil.rmtree(data / "masks")


def mask_without_image(data: Path) -> None:
    (data / "images" / "frame_03.png").unlink()


def mask_of_another_size(data: Path) -> None:
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(data / "masks" / "frame_03.png")


def empty_file(data: Path) -> None:
    (data / "images" / "frame_03.png").write_bytes(b"")


def truncated_file(data: Path) -> None:
    path = data / "images" / "frame_03.png"
    path.write_bytes(path.read_bytes()[:2000])


def truncated_unlabelled_file(data: Path) -> None:
    path = data / "unlabeled" / "frame_17.png"
    path.write_bytes(path.read_bytes()[:2000])


def no_image(data: Path) -> None:
    (data / "images" / "frame_03.png").write_text("I am a text")


def video_named_png(data: Path) -> None:
    (data / "images" / "frame_03.png").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(2000))


def broken_video(data: Path) -> None:
    (data / "images" / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(2000))


def leak(data: Path) -> dict[str, Any]:
    """The same pixels under two names, on two sides of the split that a datalist gives."""
    shutil.copy(data / "images" / "frame_00.png", data / "images" / "copy.png")
    shutil.copy(data / "masks" / "frame_00.png", data / "masks" / "copy.png")

    def entries(*names: str) -> list[dict[str, str]]:
        return [{"image": f"images/{name}.png", "label": f"masks/{name}.png"} for name in names]

    content = {"training": entries("frame_00", "frame_01", "frame_02"), "test": entries("frame_03", "copy")}
    (data / "list.json").write_text(json.dumps(content))
    return {"dataset_dir": str(data / "list.json")}


def group_on_two_sides(data: Path) -> dict[str, Any]:
    def entry(name: str, group: str) -> dict[str, str]:
        return {"image": f"images/{name}.png", "label": f"masks/{name}.png", "group": group}

    content = {"training": [entry("frame_00", "a"), entry("frame_01", "b")], "test": [entry("frame_02", "b")]}
    (data / "list.json").write_text(json.dumps(content))
    return {"dataset_dir": str(data / "list.json"), "split": [1.0, 0.0, 0.0]}


CASES: list[tuple[Change, type[Exception], list[str]]] = [
    (
        lambda data: {"dataset_dir": str(data / "nowhere")},
        DatasetError,
        ["nowhere does not exist", "images/ and masks/"],
    ),
    (no_masks, DatasetError, ["no masks at all", "put at least a few into masks/"]),
    (mask_without_image, DatasetError, ["masks/frame_03.png", "add the image, rename or remove the mask"]),
    (mask_of_another_size, DatasetError, ["masks/frame_03.png", "40x30", "export the mask at the image's size"]),
    (empty_file, DatasetError, ["images/frame_03.png", "empty (0 bytes)", "remove"]),
    (truncated_file, DatasetError, ["images/frame_03.png", "mend or remove"]),
    (truncated_unlabelled_file, DatasetError, ["unlabeled/frame_17.png", "mend or remove"]),
    (no_image, DatasetError, ["images/frame_03.png", "mend or remove"]),
    (video_named_png, DatasetError, ["images/frame_03.png", "it is a video", "ffmpeg"]),
    (broken_video, DatasetError, ["images/clip.mp4", "mend or remove"]),
    (lambda data: {"label_fraction": 0.01}, DatasetError, ["fewer than one labelled image", "use at least 0.06"]),
    (lambda data: {"label_fraction": 0}, DatasetError, ["label_fraction is 0", "e.g. 0.1"]),
    (lambda data: {"split": [0.9, 0.2, 0.2]}, DatasetError, ["add up to 1"]),
    (leak, LeakError, ["frame_00.png", "copy.png", "give both the same group"]),
    (group_on_two_sides, LeakError, ["group b", "move each group into one section"]),
]


@pytest.mark.parametrize(("spoil", "error", "parts"), CASES, ids=[getattr(c[0], "__name__", "") for c in CASES])
def test_bad_data(
    run_config: Any, tiny: dict[str, Any], copied: Path, tmp_path: Path, spoil: Change, error: type, parts: list[str]
) -> None:
    changes = {"dataset_dir": str(copied)} | (spoil(copied) or {})
    with pytest.raises(error) as caught:
        run_config("train", **(tiny | changes), output_dir=str(tmp_path / "runs"), run_name="mine")
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert not (tmp_path / "runs" / "mine").exists(), "nothing half written"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"max_epoch": 3}, UnknownOverrideError, "--max_epoch: .*did you mean --max_epochs"),
        ({"network_def#dropot": 0.1}, UnknownOverrideError, "did you mean --network_def::dropout"),
        ({"output_dir": "/proc/runs"}, OutputError, "/proc/runs/mine: cannot write.*give another output_dir"),
        ({"network_def#preset": "lght"}, ValueError, "unknown preset 'lght'"),
        ({"encoder_weights": "/no/weights.safetensors"}, CheckpointError, "/no/weights.safetensors does not exist"),
        ({"init_checkpoint": "/no/model.pt"}, CheckpointError, "/no/model.pt does not exist"),
    ],
)
def test_bad_settings(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path,
    changes: dict[str, Any], error: type, message: str,
) -> None:  # fmt: skip
    options = (
        tiny | {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path / "runs"), "run_name": "mine"} | changes
    )
    with pytest.raises(error, match=message):
        run_config("train", **options)
    assert not (tmp_path / "runs" / "mine").exists(), "nothing half written"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mean_techer"}, "did you mean 'mean_teacher'"),
        ({"supervised_loss": "dice"}, "supervised_loss 'dice' is unknown"),
        ({"precision": "half"}, "precision 'half' is unknown"),
        ({"accumulation_steps": 3}, "accumulation_steps is 3"),
        ({"max_gradient_norm": 0}, "max_gradient_norm is 0"),
        ({"unlabeled_data": False}, "needs unlabelled frames and there are none"),
    ],
)
def test_bad_choices(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    options = tiny | {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path), "run_name": "mine"} | changes
    with pytest.raises(ValueError, match=message):
        run_config("train", **options)
    assert not (tmp_path / "mine" / "last.pt").exists(), "and the mended command starts afresh"


def test_a_checkpoint_of_another_shape(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, trained_run: Path, tmp_path: Path
) -> None:
    weights = torch.load(trained_run / "model.pt", weights_only=True)
    weights["model"]["head.weight"] = torch.zeros(5, *weights["model"]["head.weight"].shape[1:])
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other.pt: head.weight has shape \(5, .*expects \(2, .*preset"):
        run_config(
            "train", **tiny, dataset_dir=str(frames_dir), output_dir=str(tmp_path / "runs"), run_name="mine",
            init_checkpoint=str(tmp_path / "other.pt"),
        )  # fmt: skip
    assert not (tmp_path / "runs" / "mine").exists(), "nothing half written"


def test_a_file_in_the_place_of_the_output_folder(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(OutputError, match="give another output_dir"):
        run_config("train", **tiny, dataset_dir=str(frames_dir), output_dir=str(tmp_path / "runs"))
    assert (tmp_path / "runs").read_text() == "mine"


def test_an_all_lesion_mask_is_a_warning(
    run_config: Any, tiny: dict[str, Any], copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = Image.open(copied / "masks" / "frame_03.png").size
    Image.new("L", size, 255).save(copied / "masks" / "frame_03.png")
    with caplog.at_level(logging.WARNING):
        run_config(
            "train", "train_supervised", **(tiny | {"max_epochs": 1}), dataset_dir=str(copied),
            output_dir=str(tmp_path), run_name="mine",
        )  # fmt: skip
    warnings = json.loads((tmp_path / "mine" / "manifest.json").read_text())["warnings"]
    assert len(warnings) == 1 and "lesion all over" in warnings[0] and "masks/frame_03.png" in warnings[0]
    assert "lesion all over" in caplog.text


def test_the_command_ends_with_the_cause(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/train.json"),
            *("--output_dir", str(tmp_path / "runs"), "--max_epoch", "3"),
        ],
        cwd=BUNDLE,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "LESION_TRACEBACK"},
    )
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "--max_epoch: train.json has no such id; did you mean --max_epochs?"
    assert done.stderr.splitlines()[-2].startswith("ERROR (UnknownOverrideError")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
