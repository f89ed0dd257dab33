"""Evaluation at original resolution: frames of several sizes against a naive loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from PIL import Image
from tiny_training import CPU, TinyNet, make_frames, make_network, make_trainer
from torch.nn import functional

from scripts.engines.evaluation import EvaluationHandler, evaluate, lesion_and_label, prepare_frames
from scripts.engines.finish import evaluate_checkpoint, finish_run, measure_checkpoint
from scripts.engines.run_directory import RunDirectory
from scripts.io.writers import OutputError
from scripts.metrics.evaluation import LesionEvaluation
from scripts.networks.checkpoints import CheckpointError
from scripts.transforms import RestoreLesionProbabilityd

SIZES = [(16, 16), (33, 21), (40, 64), (17, 90)]


def make_items() -> list[dict[str, Any]]:
    """Frames as the validation's transforms give them: image at 16 px, label at its own size."""
    items = []
    for number, (frame, size) in enumerate(zip(make_frames(4, seed=5), SIZES, strict=True)):
        label = functional.interpolate(frame["label"][None].float(), size=size, mode="nearest")[0].to(torch.uint8)
        frame |= {"label": label, "original_size": torch.tensor(size), "group": f"g{number // 2}"}
        items.append(frame | {"file": f"sub {number % 2}/frame_é{number}.jpg"})
    return items


@pytest.fixture(scope="module")
def network() -> TinyNet:
    """Trained for a moment, so that its masks are neither empty nor full."""
    network = make_network()
    make_trainer(network, max_epochs=15, batch_size=4, total=60).run()
    return network


def run(network: TinyNet, items: list[dict[str, Any]], **options: Any) -> LesionEvaluation:
    loader = DataLoader(items, batch_size=1, num_workers=0)
    return evaluate(network, loader, "cpu", RestoreLesionProbabilityd("pred"), **options)


def naive(network: TinyNet, item: dict[str, Any]) -> np.ndarray:
    """Predicted mask (H, W) at the frame's size."""
    network.eval()
    with torch.no_grad():
        logits = network(item["image"][None].float() / 255)
        logits = functional.interpolate(logits, size=item["label"].shape[1:], mode="bilinear")
    return logits.argmax(1)[0].bool().numpy()


def test_figures_of_frames_of_several_sizes(network: TinyNet, tmp_path: Path) -> None:
    items = make_items()
    evaluation = run(network, items, predictions_dir=tmp_path)
    rows = {row["file"]: row for row in evaluation.rows}
    assert len(rows) == 4
    for item, size in zip(items, SIZES, strict=True):
        mask, truth = naive(network, item), item["label"][0].numpy() > 0
        row = rows[item["file"]]
        assert (row["height"], row["width"]) == size
        assert row["group"] == item["group"]
        both = sum(1 for p, t in zip(mask.ravel(), truth.ravel(), strict=True) if p and t)
        assert (row["tp"], row["predicted_px"], row["lesion_px"]) == (both, mask.sum(), truth.sum())
        assert row["dice"] == pytest.approx(2 * both / (mask.sum() + truth.sum()))
        written = np.asarray(Image.open((tmp_path / item["file"]).with_suffix(".png")))
        assert np.array_equal(written, np.where(mask, 255, 0)), "the mask on disk is the one that was measured"
    assert 0 < sum(row["predicted_px"] for row in rows.values()) < sum(h * w for h, w in SIZES)


def test_the_network_is_in_eval_mode_and_unchanged(network: TinyNet) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    first, second = run(network, make_items()), run(network, make_items()[::-1])
    assert first.rows == second.rows, "the order does not matter"
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_no_folder_no_files(network: TinyNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(network, make_items()[:1])
    assert not list(tmp_path.iterdir())


def test_an_evaluation_may_be_given() -> None:
    evaluation = LesionEvaluation(surface_tolerance=5.0)
    assert run(make_network(), make_items()[:2], evaluation=evaluation) is evaluation
    assert len(evaluation) == 2
    handler = EvaluationHandler(evaluation, None)
    assert handler.predictions is None


def test_pixels_are_brought_to_0_1() -> None:
    batch = {"image": torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)}
    image, label = prepare_frames(batch, "cpu")
    assert image.flatten().tolist() == pytest.approx([0.0, 0.2, 1.0]) and label is None
    assert batch["image"].dtype == torch.uint8, "the batch itself is left alone"
    assert prepare_frames(batch | {"label": torch.ones(1, 1, 1, 1)}, CPU)[1] is not None


def test_metric_transform_thresholds() -> None:
    output = [{"pred": torch.tensor([[[0.4, 0.6]]]), "label": torch.tensor([[[1, 0]]], dtype=torch.uint8)}]
    predicted, label = lesion_and_label()(output)
    assert predicted[0].tolist() == [[[0, 1]]] and label[0].tolist() == [[[1, 0]]]
    assert lesion_and_label(0.3)(output)[0][0].tolist() == [[[1, 1]]]


def test_without_validation_or_test_split(network: TinyNet, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pt")
    empty, full = DataLoader([], batch_size=1), DataLoader(make_items(), batch_size=1)
    shared = {"device": CPU, "postprocessing": RestoreLesionProbabilityd("pred")}
    found = measure_checkpoint(make_network(), tmp_path / "w.pt", empty, full, tmp_path, **shared)
    assert set(found) == {"temperature", "best"} and found["temperature"] is None
    assert "No validation split" in caplog.text
    found = measure_checkpoint(make_network(), tmp_path / "w.pt", full, empty, tmp_path, **shared)
    assert set(found) == {"temperature", "validation"} and found["temperature"] > 0
    assert "No test split" in caplog.text


@pytest.mark.parametrize("with_validation", [True, False])
def test_the_last_epoch_has_a_temperature_of_its_own(network: TinyNet, tmp_path: Path, with_validation: bool) -> None:
    """The last epoch's network answers three times as surely as the best one's: its temperature is three times that."""
    full = DataLoader(make_items(), batch_size=1)
    validation = full if with_validation else DataLoader([], batch_size=1)
    surer = {key: value * 3 if key.startswith("head.") else value for key, value in network.state_dict().items()}
    run_directory = RunDirectory(tmp_path / "run", {})
    run_directory.write_environment(network, CPU)
    torch.save({"model": network.state_dict(), "epoch": 1}, tmp_path / "run" / "model.pt")
    torch.save({"model": surer, "epoch": 2}, tmp_path / "run" / "last.pt")
    found = finish_run(run_directory, make_network(), validation, full, CPU, RestoreLesionProbabilityd("pred"))
    best, last = (found[name]["figures"] for name in ("best", "last"))
    assert best["ece"]["value"] != last["ece"]["value"] and best["dice"]["value"] == last["dice"]["value"]
    if with_validation:
        assert found["last"]["temperature"] == pytest.approx(3 * found["temperature"], rel=0.02)
        assert last["ece_scaled"]["value"] == pytest.approx(best["ece_scaled"]["value"], abs=0.002)
    else:
        assert found["last"]["temperature"] is found["temperature"] is None
        assert last["ece_scaled"]["value"] is None


def test_bad_checkpoint_or_folder_is_an_error_before_work(tmp_path: Path) -> None:
    loader = DataLoader(make_items(), batch_size=1)
    shared = {
        "validation": loader,
        "test": loader,
        "device": "cpu",
        "postprocessing": RestoreLesionProbabilityd("pred"),
    }
    with pytest.raises(CheckpointError, match="does not exist"):
        evaluate_checkpoint(tmp_path / "no.pt", tmp_path / "out", make_network(), **shared)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/out"):
        evaluate_checkpoint(tmp_path / "no.pt", tmp_path / "file" / "out", make_network(), **shared)


def test_nothing_is_left_of_an_earlier_evaluation_in_the_folder(network: TinyNet, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pt")
    (tmp_path / "out" / "predictions").mkdir(parents=True)
    (tmp_path / "out" / "predictions" / "mine.png").write_text("of somebody: no table says that it is an evaluation's")
    empty = DataLoader([], batch_size=1)

    def files(test: DataLoader) -> list[str]:
        shared = {"device": CPU, "postprocessing": RestoreLesionProbabilityd("pred")}
        evaluate_checkpoint(tmp_path / "w.pt", tmp_path / "out", make_network(), empty, test, **shared)
        return sorted(path.name for path in (tmp_path / "out").rglob("*.*"))

    first, second = (DataLoader(part, batch_size=1) for part in (make_items()[:2], make_items()[2:]))
    assert files(first) == ["frame_é0.png", "frame_é1.png", "mine.png", "per_image.csv", "test_metrics.json"]
    assert files(second) == ["frame_é2.png", "frame_é3.png", "per_image.csv", "test_metrics.json"]
    assert files(empty) == ["test_metrics.json"]
