"""Counts and overlap figures: by hand, against a naive loop, and against MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import ConfusionMatrixMetric, DiceMetric, MeanIoU

from scripts.metrics.confusion import batch_confusion_counts, confusion_counts, overlap_figures, pooled_figures

# truth       prediction
# 1 1 0 0     1 0 0 0
# 1 1 0 0     1 1 1 0
# 0 0 0 0     0 0 0 0
# 0 0 0 0     0 0 0 1     -> tp 3, fp 2, fn 1, tn 10
TRUTH = np.zeros((4, 4), dtype=bool)
TRUTH[:2, :2] = True
PREDICTION = np.zeros((4, 4), dtype=bool)
PREDICTION[0, 0] = True
PREDICTION[1, :3] = True
PREDICTION[3, 3] = True
EMPTY = np.zeros((4, 4), dtype=bool)
FULL = np.ones((4, 4), dtype=bool)


def random_masks(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.6


def test_counts_and_figures_by_hand() -> None:
    assert confusion_counts(PREDICTION, TRUTH) == (3, 2, 1, 10)
    figures = overlap_figures(3, 2, 1, 10)
    assert figures["dice"] == pytest.approx(6 / 9)
    assert figures["iou"] == pytest.approx(3 / 6)
    assert figures["recall"] == pytest.approx(3 / 4)
    assert figures["precision"] == pytest.approx(3 / 5)


def test_pooled_figures_by_hand() -> None:
    figures = pooled_figures(3, 2, 1, 10)
    assert figures["iou_pooled"] == pytest.approx(3 / 6)
    assert figures["miou"] == pytest.approx((3 / 6 + 10 / 13) / 2)
    assert figures["mrecall"] == pytest.approx((3 / 4 + 10 / 12) / 2)


@pytest.mark.parametrize(
    ("truth", "prediction", "dice", "iou", "recall", "precision"),
    [
        pytest.param(EMPTY, EMPTY, 1, 1, 1, 1, id="nothing there, nothing predicted"),
        pytest.param(EMPTY, PREDICTION, 0, 0, 0, 0, id="false alarm"),
        pytest.param(TRUTH, EMPTY, 0, 0, 0, 0, id="missed"),
        pytest.param(TRUTH, TRUTH, 1, 1, 1, 1, id="perfect"),
        pytest.param(TRUTH, ~TRUTH, 0, 0, 0, 0, id="inverted"),
        pytest.param(TRUTH, FULL, 8 / 20, 4 / 16, 1, 4 / 16, id="all predicted"),
        pytest.param(FULL, FULL, 1, 1, 1, 1, id="all lesion"),
    ],
)
def test_rules_for_empty_and_extreme_masks(truth, prediction, dice, iou, recall, precision) -> None:
    figures = overlap_figures(*confusion_counts(prediction, truth))
    assert {name: float(value) for name, value in figures.items()} == pytest.approx(
        {"dice": dice, "iou": iou, "recall": recall, "precision": precision}
    )


def test_all_lesion_split_has_a_defined_background() -> None:
    assert float(pooled_figures(16, 0, 0, 0)["miou"]) == 1  # no background, none predicted
    assert float(pooled_figures(8, 0, 8, 0)["miou"]) == pytest.approx(0.25)  # no background, half predicted as such


def test_counts_equal_a_naive_loop() -> None:
    prediction, truth = random_masks(0, (3, 7, 5)), random_masks(1, (3, 7, 5))
    expected = torch.zeros(3, 4, dtype=torch.int64)
    for b in range(3):
        for y in range(7):
            for x in range(5):
                p, t = bool(prediction[b, y, x]), bool(truth[b, y, x])
                expected[b, [[3, 2], [1, 0]][p][t]] += 1
    assert torch.equal(batch_confusion_counts(prediction, truth), expected)


def test_per_image_figures_equal_monai() -> None:
    prediction, truth = random_masks(2, (6, 1, 9, 8)), random_masks(3, (6, 1, 9, 8))
    truth[0] = False  # false alarm: MONAI agrees on 0 with ignore_empty=False
    prediction[1] = truth[1] = False
    ours = overlap_figures(*batch_confusion_counts(prediction[:, 0], truth[:, 0]).numpy().T)
    for metric, name in ((DiceMetric(ignore_empty=False), "dice"), (MeanIoU(ignore_empty=False), "iou")):
        theirs = metric(prediction.float(), truth.float())[:, 0].numpy()
        np.testing.assert_allclose(ours[name], theirs, rtol=1e-6)


@pytest.mark.parametrize(("name", "monai_name"), [("recall", "sensitivity"), ("precision", "precision")])
def test_pooled_figures_equal_monai(name: str, monai_name: str) -> None:
    prediction, truth = random_masks(4, (5, 1, 6, 6)), random_masks(5, (5, 1, 6, 6))
    metric = ConfusionMatrixMetric(metric_name=monai_name, compute_sample=False, reduction="sum")
    metric(prediction.float(), truth.float())
    counts = batch_confusion_counts(prediction[:, 0], truth[:, 0]).sum(0).numpy()
    assert float(pooled_figures(*counts)[f"{name}_pooled"]) == pytest.approx(metric.aggregate()[0].item())


def test_dice_is_never_below_iou_and_follows_from_it() -> None:
    counts = batch_confusion_counts(random_masks(6, (50, 4, 4)), random_masks(7, (50, 4, 4))).numpy().T
    figures = overlap_figures(*counts)
    np.testing.assert_allclose(figures["dice"], 2 * figures["iou"] / (1 + figures["iou"]))
    assert (figures["dice"] >= figures["iou"]).all()


def test_a_probability_is_refused() -> None:
    with pytest.raises(TypeError, match="prediction is torch.float32.*threshold"):
        confusion_counts(np.full((4, 4), 0.2, dtype=np.float32), TRUTH)


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"prediction is \(1, 2, 4\), truth \(1, 4, 4\).*original size"):
        confusion_counts(PREDICTION[:2], TRUTH)
