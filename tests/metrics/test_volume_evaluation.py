"""Figures of volumes against MONAI on stacked volumes, by hand, and for structures that are not there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, MeanIoU

from scripts.metrics import VolumeEvaluation
from scripts.metrics.definitions import title

CLASSES = ("background", "head", "tail")


def random_volumes(count: int = 5) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{file: (prediction, truth)} of different shapes (H, W, D), all structures present."""
    random = np.random.default_rng(0)
    found = {}
    for number in range(count):
        shape = (6 + number, 7, 3 + number)
        truth = random.integers(0, 3, shape).astype(np.uint8)
        prediction = np.where(random.random(shape) < 0.2 * number, random.integers(0, 3, shape), truth).astype(np.uint8)
        found[f"images/v {number}.nii.gz"] = (prediction, truth)
    return found


def add_all(evaluation: VolumeEvaluation, volumes: dict[str, tuple[np.ndarray, np.ndarray]]) -> VolumeEvaluation:
    for file, (prediction, truth) in volumes.items():
        for index in range(truth.shape[2]):
            evaluation.add(f"{file}#{index}", f"group of {file}", prediction[..., index], truth[..., index])
    return evaluation


def one_hot(classes: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.as_tensor(classes.astype(np.int64)), 3).movedim(-1, 0)[None]


def test_equal_to_monai_on_stacked_volumes() -> None:
    volumes = random_volumes()
    figures = add_all(VolumeEvaluation(CLASSES), volumes).figures()
    for name, metric in (("dice", DiceMetric(False, reduction="none")), ("iou", MeanIoU(False, reduction="none"))):
        for prediction, truth in volumes.values():
            metric(one_hot(prediction), one_hot(truth))
        expected = metric.aggregate()
        assert figures[name]["value"] == pytest.approx(float(expected.mean()), abs=1e-6)
        if name == "dice":
            assert figures["dice_head"]["value"] == pytest.approx(float(expected[:, 0].mean()), abs=1e-6)
            assert figures["dice_tail"]["value"] == pytest.approx(float(expected[:, 1].mean()), abs=1e-6)
    flat = [np.concatenate([pair[side].ravel() for pair in volumes.values()]) for side in (0, 1)]
    pooled = [
        2 * np.sum((flat[0] == k) & (flat[1] == k)) / (np.sum(flat[0] == k) + np.sum(flat[1] == k)) for k in (1, 2)
    ]
    assert figures["dice_pooled"]["value"] == pytest.approx(np.mean(pooled))
    assert list(figures) == ["dice", "iou", "dice_head", "dice_tail", "dice_pooled"]
    for figure in figures.values():
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["definition"]


def test_by_hand() -> None:
    """two slices; class 1: tp 2, fp 1, fn 1 -> 4 / 6; class 2: tp 0, fp 0, fn 1 -> 0"""
    evaluation = VolumeEvaluation(CLASSES)
    evaluation.add("v.nii#0", "g", np.array([[1, 1, 0]]), np.array([[1, 0, 2]]))
    evaluation.add("v.nii#1", "g", np.array([[1, 0, 0]]), np.array([[1, 1, 0]]))
    head, tail = evaluation.rows
    assert (head["file"], head["group"], head["slices"], head["class"], head["voxels"]) == ("v.nii", "g", 2, "head", 6)
    assert [head[name] for name in ("tp", "fp", "fn", "truth_voxels", "predicted_voxels")] == [2, 1, 1, 3, 3]
    assert head["dice"] == pytest.approx(2 / 3) and head["iou"] == pytest.approx(0.5)
    assert (tail["dice"], tail["fn"]) == (0.0, 1)
    figures = evaluation.figures()
    assert figures["dice"]["value"] == pytest.approx(1 / 3)
    assert figures["dice"]["low"] is None and "too few groups" in figures["dice"]["definition"]
    assert len(evaluation) == 2


def test_it_is_not_the_mean_over_slices() -> None:
    """a slice without the structure in which one voxel is predicted costs little, not a whole slice"""
    evaluation = VolumeEvaluation(("background", "organ"))
    full = np.ones((10, 10), int)
    speck = np.zeros((10, 10), int)
    speck[0, 0] = 1
    evaluation.add("v.nii#0", "g", full, full)
    evaluation.add("v.nii#1", "g", speck, np.zeros((10, 10), int))
    assert evaluation.rows[0]["dice"] == pytest.approx(200 / 201)


@pytest.mark.parametrize(("prediction", "truth", "dice"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0), (1, 1, 1.0)], ids=str)
def test_empty_structures(prediction: int, truth: int, dice: float) -> None:
    evaluation = VolumeEvaluation(("background", "organ"))
    evaluation.add("v.nii#0", "g", np.full((3, 3), prediction), np.full((3, 3), truth))
    assert evaluation.rows[0]["dice"] == evaluation.rows[0]["iou"] == dice


def test_pictures_are_volumes_of_one_slice() -> None:
    evaluation = VolumeEvaluation(CLASSES)
    for file in ("a.png", "b.png"):
        evaluation.add(file, file, torch.ones(2, 2, dtype=torch.uint8), torch.ones(2, 2, dtype=torch.uint8))
    assert [(row["file"], row["slices"]) for row in evaluation.rows[::2]] == [("a.png", 1), ("b.png", 1)]


def test_order_and_processes_do_not_matter() -> None:
    volumes = random_volumes()
    whole = add_all(VolumeEvaluation(CLASSES), volumes)
    parts = [VolumeEvaluation(CLASSES), VolumeEvaluation(CLASSES)]
    place = 0
    for file, (prediction, truth) in reversed(volumes.items()):
        for index in range(truth.shape[2]):  # slices of one volume on two processes, one of them on both
            for part in {place % 2, 0 if index == 0 else place % 2}:
                parts[part].add(f"{file}#{index}", f"group of {file}", prediction[..., index], truth[..., index])
            place += 1
    parts[0].merge(parts[1])
    assert parts[0].rows == whole.rows and parts[0].figures() == whole.figures()
    with pytest.raises(ValueError, match="differ"):
        whole.merge(VolumeEvaluation(("background", "x")))


def test_interval_draws_groups() -> None:
    """ten slices that fail in one of two patients: the interval spans both patients, whatever the slices"""
    evaluation = VolumeEvaluation(("background", "organ"))
    ones = np.ones((2, 2), int)
    for index in range(10):
        evaluation.add(f"good.nii#{index}", "p1", ones, ones)
        evaluation.add(f"bad.nii#{index}", "p2", 1 - ones, ones)
    dice = evaluation.figures()["dice"]
    assert (dice["value"], dice["low"], dice["high"]) == (0.5, 0.0, 1.0)


def test_table(tmp_path: Path) -> None:
    evaluation = add_all(VolumeEvaluation(CLASSES), random_volumes(2))
    with evaluation.write_csv(tmp_path / "x" / "per_volume.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["class"]) for row in rows] == [
        (f"images/v {number}.nii.gz", name) for number in (0, 1) for name in ("head", "tail")
    ]
    assert float(rows[1]["dice"]) == pytest.approx(evaluation.rows[1]["dice"], abs=1e-6)


def test_bad_input() -> None:
    evaluation, good = VolumeEvaluation(CLASSES), np.zeros((4, 4), int)
    with pytest.raises(ValueError, match=r"v\.nii#3: label ranges over 0\.\.3, expected class indices 0\.\.2 of"):
        evaluation.add("v.nii#3", "g", good, np.full((4, 4), 3) * np.eye(4, dtype=int))
    with pytest.raises(ValueError, match=r"v\.nii#3: prediction is \(4, 4\), label \(4, 5\)"):
        evaluation.add("v.nii#3", "g", good, np.zeros((4, 5), int))
    with pytest.raises(ValueError, match="float64, expected class index"):
        evaluation.add("v.nii#3", "g", good.astype(float), good)
    with pytest.raises(ValueError, match="holds no slice"):
        evaluation.figures()
    evaluation.add("v.nii#3", "g", good, good)
    with pytest.raises(ValueError, match=r"v\.nii#3: added twice"):
        evaluation.add("v.nii#3", "g", good, good)
    evaluation.add("v.nii#4", "h", good, good)
    with pytest.raises(ValueError, match=r"v\.nii#4: of group 'h', other slices of v\.nii are of 'g'"):
        evaluation.figures()
    for classes in ((), ("background",), ("background", "a", "a"), ("background", ""), ("background", "pooled")):
        with pytest.raises(ValueError, match="classes are"):
            VolumeEvaluation(classes)


def test_titles() -> None:
    assert [title(name) for name in ("dice", "dice_pooled", "dice_left atrium")] == [
        "Dice", "Dice, pooled", "Dice, left atrium",
    ]  # fmt: skip


def test_three_right_volumes_are_not_certain() -> None:
    """Every draw of groups has 1 as well; the exact interval of three says what three can say."""
    evaluation = VolumeEvaluation(CLASSES)
    for number in range(3):
        evaluation.add(f"v{number}.nii#0", f"p{number}", np.array([[1, 0]]), np.array([[1, 0]]))
    figures = evaluation.figures()
    for name in ("dice", "iou", "dice_head", "dice_tail"):  # the tail is nowhere, and nowhere predicted
        assert (figures[name]["value"], figures[name]["high"]) == (1.0, 1.0), name
        assert figures[name]["low"] == pytest.approx(0.025 ** (1 / 3)), name
