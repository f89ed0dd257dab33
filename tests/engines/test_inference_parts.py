"""The passes behind the agreement, broken frames, and weights with and without a companion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, LoadImaged
from PIL import Image
from tiny_training import CPU, make_frames, make_network, same_state

from scripts.engines.evaluation import prepare_frames
from scripts.engines.inference import (
    AgreementIteration,
    FlipAveragedIteration,
    FrameDataset,
    load_companion,
    load_shipped,
)
from scripts.engines.short_errors import first_cause
from scripts.io.image_reader import RGBReader
from scripts.networks.checkpoints import CheckpointError
from scripts.transforms import RecordSized, ResizeTo


def answers(
    update: type = AgreementIteration, **options: Any
) -> tuple[Any, torch.Tensor, list[dict[str, torch.Tensor]]]:
    network, frames = make_network(), make_frames(3, labelled=False)
    evaluator = SupervisedEvaluator(
        device=CPU,
        val_data_loader=DataLoader(frames, batch_size=3),
        network=network,
        prepare_batch=prepare_frames,
        iteration_update=update(**options),
    )
    evaluator.run()
    return network, torch.stack([frame["image"] for frame in frames]).float() / 255, evaluator.state.output


def test_three_passes() -> None:
    companion = make_network(seed=1)
    network, image, output = answers(companion=companion)
    with torch.no_grad():
        expected = {
            "pred": network.eval()(image),
            "pred_flip": torch.flip(network(torch.flip(image, [-1])), [-1]),
            "pred_companion": companion.eval()(image),
        }
    for name, value in expected.items():
        torch.testing.assert_close(torch.stack([item[name] for item in output]), value)
    assert not torch.allclose(expected["pred"], expected["pred_flip"])
    assert not any(item["pred"].requires_grad for item in output)


def test_passes_that_are_not_asked_for() -> None:
    _, _, output = answers(flip=False)
    assert "pred_flip" not in output[0] and "pred_companion" not in output[0]


@pytest.mark.parametrize("flip", [True, False])
def test_the_mean_with_the_mirrored_frame_or_the_frame_alone(flip: bool) -> None:
    network, image, output = answers(FlipAveragedIteration, flip=flip)
    with torch.no_grad():
        expected = network.eval()(image).softmax(1)
        if flip:
            expected = (expected + network(image.flip(-1)).flip(-1).softmax(1)) / 2
    torch.testing.assert_close(torch.stack([item["pred"] for item in output]).softmax(1), expected)


def make_dataset(folder: Path, names: list[str]) -> FrameDataset:
    transform = Compose(
        [
            LoadImaged("image", reader=RGBReader, ensure_channel_first=True, dtype=torch.uint8, image_only=True),
            RecordSized("image"),
            ResizeTo("image", [16, 24]),
        ]
    )
    return FrameDataset([{"image": str(folder / name), "file": name} for name in names], transform, [16, 24])


def test_a_broken_frame_becomes_a_black_one_with_its_error(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "empty.png").touch()
    dataset = make_dataset(tmp_path, ["good.png", "cut.png", "empty.png"])
    good, cut, empty = (dataset[index] for index in range(3))
    assert good["error"] == "" and good["original_size"].tolist() == [40, 60]
    assert good["image"].shape == (3, 16, 24) and good["path"] == str(tmp_path / "good.png")
    for item, name in ((cut, "cut.png"), (empty, "empty.png")):
        assert name in item["error"]
        assert item["image"].shape == (3, 16, 24) and not item["image"].any()
    next(iter(DataLoader(dataset, batch_size=3)))  # all of them fit into one batch


def test_an_item_that_comes_with_an_error_keeps_it(tmp_path: Path) -> None:
    """As list_frames makes of a clip outside the time window."""
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "good.png")
    dataset = make_dataset(tmp_path, ["good.png"])
    dataset.data[0]["error"] = "no frame between start_s 9 and the end"
    assert dataset[0]["error"] == "no frame between start_s 9 and the end"


def test_other_errors_are_not_swallowed(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "good.png")
    dataset = make_dataset(tmp_path, ["good.png"])
    dataset.transform = Compose([lambda item: item["no such key"]])
    with pytest.raises(RuntimeError) as caught:
        dataset[0]
    assert isinstance(first_cause(caught.value), KeyError)


def test_shipped_weights_and_companion(tmp_path: Path) -> None:
    teacher, student = make_network(seed=1).state_dict(), make_network(seed=2).state_dict()
    torch.save({"model": teacher, "companion": student, "epoch": 3, "value": 0.5}, tmp_path / "model.pt")
    shipped = load_shipped(make_network(), tmp_path / "model.pt", "cpu")
    companion = load_companion(make_network(), tmp_path / "model.pt", "cpu")
    assert same_state(shipped.state_dict(), teacher) and same_state(companion.state_dict(), student)
    assert not shipped.training and not companion.training


def test_weights_without_companion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(make_network().state_dict(), tmp_path / "weights.pt")
    assert load_companion(make_network(), tmp_path / "weights.pt", "cpu") is None
    assert "holds no companion" in caplog.text
    load_shipped(make_network(), tmp_path / "weights.pt", "cpu")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    torch.save({"model": make_network(norm=False).state_dict()}, tmp_path / "other.pt")
    for load in (load_shipped, load_companion):
        with pytest.raises(CheckpointError, match="does not exist"):
            load(make_network(), tmp_path / "missing.pt", "cpu")
    with pytest.raises(CheckpointError, match="tensors missing"):
        load_shipped(make_network(), tmp_path / "other.pt", "cpu")


def test_a_frame_that_may_not_be_read_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "locked.png")
    dataset = make_dataset(tmp_path, ["locked.png"])

    def refuse(item: dict[str, Any]) -> None:
        raise PermissionError(13, "Permission denied", item["image"])

    dataset.transform = Compose([refuse])
    assert "Permission denied" in dataset[0]["error"] and not dataset[0]["image"].any()


def test_the_last_checkpoint_of_a_run_can_be_used_too(tmp_path: Path) -> None:
    student, teacher = make_network(seed=1).state_dict(), make_network(seed=2).state_dict()
    parts = {"teacher": {f"network.{name}": value for name, value in teacher.items()}}
    torch.save({"student": student, "parts": parts, "epoch": 3}, tmp_path / "last.pt")
    assert same_state(load_shipped(make_network(), tmp_path / "last.pt", "cpu").state_dict(), teacher)
    torch.save({"student": student, "parts": {}, "epoch": 3}, tmp_path / "last.pt")
    assert same_state(load_shipped(make_network(), tmp_path / "last.pt", "cpu").state_dict(), student)
