"""LesionEvaluation: figures by hand, bad input, merging, the CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.metrics import LesionEvaluation
from scripts.metrics.evaluation import COLUMNS

NAMES = [
    "dice", "iou", "recall", "precision", "dice_pooled", "iou_pooled", "recall_pooled", "precision_pooled", "miou",
    "mrecall", "false_positive_frames", "hd95", "surface_dice", "ece", "ece_scaled",
]  # fmt: skip


def mask(top: int = 0, left: int = 0, height: int = 0, width: int = 0, size: int = 40) -> np.ndarray:
    result = np.zeros((size, size), dtype=bool)
    result[top : top + height, left : left + width] = True
    return result


def sure(prediction: np.ndarray) -> np.ndarray:
    return np.where(prediction, 0.9, 0.1)


@pytest.fixture
def evaluation() -> LesionEvaluation:
    """Four images: perfect, half found, lesion-free and quiet, lesion-free with a false alarm."""
    result = LesionEvaluation()
    result.add("a.png", "p1", sure(mask(0, 0, 10, 10)), mask(0, 0, 10, 10))
    result.add("b.png", "p1", sure(mask(0, 0, 10, 5)), mask(0, 0, 10, 10))
    result.add("c.png", "p2", sure(mask()), mask())
    result.add("d.png", "p3", sure(mask(5, 5, 2, 5)), mask())
    return result


def random_evaluation(images: int, seed: int) -> LesionEvaluation:
    random = np.random.default_rng(seed)
    result = LesionEvaluation()
    for i in range(images):
        truth = random.random((12, 12)) > 0.7 if i % 4 else np.zeros((12, 12), dtype=bool)
        result.add(f"{i}.png", f"p{i // 2}", random.random((12, 12)).astype(np.float32), truth)
    return result


def test_figures_by_hand(evaluation: LesionEvaluation) -> None:
    figures = evaluation.figures()
    assert list(figures) == NAMES
    value = {name: figure["value"] for name, figure in figures.items()}
    assert value["dice"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert value["iou"] == pytest.approx((1 + 1 / 2 + 1 + 0) / 4)
    assert value["recall"] == pytest.approx((1 + 1 / 2 + 1 + 0) / 4)
    assert value["precision"] == pytest.approx((1 + 1 + 1 + 0) / 4)
    # pooled: tp 150, fp 10, fn 50, tn 6400 - 210
    assert value["dice_pooled"] == pytest.approx(300 / 360)
    assert value["iou_pooled"] == pytest.approx(150 / 210)
    assert value["recall_pooled"] == pytest.approx(150 / 200)
    assert value["precision_pooled"] == pytest.approx(150 / 160)
    assert value["miou"] == pytest.approx((150 / 210 + 6190 / 6250) / 2)
    assert value["mrecall"] == pytest.approx((150 / 200 + 6190 / 6200) / 2)
    assert value["false_positive_frames"] == pytest.approx(1 / 2)
    assert "2 lesion-free" in figures["false_positive_frames"]["unit"]
    assert value["hd95"] == pytest.approx((0 + 5 + 0 + np.hypot(40, 40)) / 4)
    assert figures["hd95"]["unit"] == "pixels"
    assert "2 px" in figures["surface_dice"]["definition"]


def test_every_interval_holds_its_value_and_is_json() -> None:
    figures = random_evaluation(40, 0).figures(temperature=1.5, bootstrap=300)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    for name in NAMES:
        figure = figures[name]
        assert figure["low"] <= figure["high"], name
        if not name.startswith("ece"):  # the bootstrap of an error that cannot be negative is biased upwards
            assert figure["low"] <= figure["value"] <= figure["high"], name


def test_interval_equals_a_naive_bootstrap_of_groups() -> None:
    evaluation = random_evaluation(24, 1)
    rows = evaluation.rows
    names = sorted({row["group"] for row in rows})
    random = np.random.default_rng(9)
    means = []
    for _ in range(3000):
        drawn = random.choice(names, len(names))
        means.append(np.mean([row["dice"] for name in drawn for row in rows if row["group"] == name]))
    figure = evaluation.figures(bootstrap=3000)["dice"]
    assert [figure["low"], figure["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_one_group_has_no_interval() -> None:
    evaluation = LesionEvaluation()
    evaluation.add("a.png", "only", sure(mask(0, 0, 4, 4)), mask(0, 0, 4, 4))
    figure = evaluation.figures()["dice"]
    assert (figure["value"], figure["low"], figure["high"]) == (1.0, None, None)
    assert "No interval" in figure["definition"]


def test_no_interval_from_the_one_group_that_has_lesion_free_frames() -> None:
    evaluation = LesionEvaluation()
    evaluation.add("a.png", "p1", sure(mask(0, 0, 4, 4)), mask())
    evaluation.add("b.png", "p2", sure(mask(0, 0, 4, 4)), mask(0, 0, 4, 4))
    evaluation.add("c.png", "p3", sure(mask(0, 0, 4, 4)), mask(0, 0, 4, 4))
    figures = evaluation.figures()
    assert (figures["false_positive_frames"]["value"], figures["false_positive_frames"]["low"]) == (1.0, None)
    assert "No interval" in figures["false_positive_frames"]["definition"]
    assert figures["dice"]["low"] is not None


def test_undefined_figures_say_why() -> None:
    evaluation = LesionEvaluation()
    evaluation.add("a.png", "p1", sure(mask(0, 0, 4, 4)), mask(0, 0, 4, 4))
    figures = evaluation.figures()
    assert figures["false_positive_frames"]["value"] is None
    assert "no frame of this split is free of lesion" in figures["false_positive_frames"]["definition"]
    assert figures["ece_scaled"]["value"] is None
    assert "no temperature" in figures["ece_scaled"]["definition"]
    quiet = LesionEvaluation()
    quiet.add("a.png", "p1", sure(mask()), mask())
    assert quiet.figures(temperature=2.0)["ece"]["value"] is None
    with pytest.raises(ValueError, match="No pixel lies in the lesion band"):
        quiet.fit_temperature()


def test_a_small_speck_is_no_false_alarm() -> None:
    evaluation = LesionEvaluation(false_positive_area=0.005)  # 8 of 1600 px
    evaluation.add("at.png", "p1", sure(mask(0, 0, 2, 4)), mask())
    evaluation.add("over.png", "p2", sure(mask(0, 0, 3, 3)), mask())
    assert evaluation.figures()["false_positive_frames"]["value"] == 0.5


def test_order_of_arrival_does_not_matter() -> None:
    items = [(f"{i}.png", f"p{i % 3}", sure(mask(i, 0, 9, 9)), mask(0, 0, 9, 9)) for i in range(6)]
    forward, backward = LesionEvaluation(), LesionEvaluation()
    for item in items:
        forward.add(*item)
    for item in reversed(items):
        backward.add(*item)
    assert forward.figures(temperature=1.3) == backward.figures(temperature=1.3)


def test_merging_halves_equals_the_whole_and_repeats_count_once() -> None:
    whole, first, second = random_evaluation(10, 2), random_evaluation(10, 2), random_evaluation(10, 2)
    for evaluation, dropped in ((first, range(7, 10)), (second, range(5))):
        for i in dropped:
            del evaluation._rows[f"{i}.png"], evaluation._band[f"{i}.png"]
    first.merge(second)
    assert first.rows == whole.rows
    assert first.figures(1.2) == whole.figures(1.2)
    assert first.fit_temperature() == whole.fit_temperature()


def test_merging_other_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        LesionEvaluation().merge(LesionEvaluation(surface_tolerance=5))


def test_scaling_by_the_fitted_temperature_lowers_the_error() -> None:
    random = np.random.default_rng(3)
    evaluation = LesionEvaluation()
    for i in range(12):
        calibrated = np.clip(np.add.outer(np.linspace(-1, 1, 60), np.zeros(60)) * 0.8 + 0.5, 0.02, 0.98)
        truth = random.random((60, 60)) < calibrated
        overconfident = calibrated**4 / (calibrated**4 + (1 - calibrated) ** 4)  # temperature 4
        evaluation.add(f"{i}.png", str(i), overconfident, truth)
    temperature = evaluation.fit_temperature()
    assert temperature == pytest.approx(4, rel=0.1)
    figures = evaluation.figures(temperature=temperature)
    assert figures["ece_scaled"]["value"] < 0.25 * figures["ece"]["value"]


def test_tensors_and_arrays_agree() -> None:
    arrays, tensors = LesionEvaluation(), LesionEvaluation()
    truth = mask(3, 3, 9, 9).astype(np.uint8)
    probability = sure(mask(4, 4, 9, 9)).astype(np.float32)
    arrays.add("a.png", "p", probability, truth)
    tensors.add("a.png", "p", torch.from_numpy(probability), torch.from_numpy(truth))
    assert arrays.rows == tensors.rows


def test_csv_holds_the_rows(evaluation: LesionEvaluation, tmp_path: Path) -> None:
    path = evaluation.write_csv(tmp_path / "run" / "per_image.csv")
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [row["file"] for row in rows] == ["a.png", "b.png", "c.png", "d.png"]
    assert [int(rows[1][name]) for name in ("tp", "fp", "fn", "tn", "lesion_px", "predicted_px")] == [
        50, 0, 50, 1500, 100, 50,
    ]  # fmt: skip
    assert float(rows[1]["dice"]) == pytest.approx(2 / 3, abs=1e-6)
    assert [entry.name for entry in path.parent.iterdir()] == ["per_image.csv"]


GOOD = mask(0, 0, 5, 5)


@pytest.mark.parametrize(
    ("probability", "truth", "message"),
    [
        pytest.param(sure(GOOD)[:30], GOOD, r"x\.png: probability is \(30, 40\), mask \(40, 40\)", id="size"),
        pytest.param(sure(GOOD)[None], GOOD[None], r"x\.png.*expected both \(H, W\)", id="channels"),
        pytest.param(sure(GOOD) * 10, GOOD, r"x\.png: probability ranges over 1\.\.9", id="logits"),
        pytest.param(np.full((40, 40), np.nan), GOOD, r"x\.png: probability ranges over nan", id="nan"),
        pytest.param(GOOD, GOOD, r"x\.png: probability is bool", id="thresholded"),
        pytest.param(sure(GOOD), GOOD.astype(np.uint8) * 255, r"x\.png: mask ranges over 0\.\.255", id="mask values"),
    ],
)
def test_bad_input_names_the_file(probability, truth, message) -> None:
    evaluation = LesionEvaluation()
    with pytest.raises(ValueError, match=message):
        evaluation.add("x.png", "p", probability, truth)
    assert len(evaluation) == 0


def test_a_second_image_of_one_name_is_refused(evaluation: LesionEvaluation) -> None:
    with pytest.raises(ValueError, match="a.png: added twice"):
        evaluation.add("a.png", "p1", sure(GOOD), GOOD)


@pytest.mark.parametrize("settings", [{"false_positive_area": 5}, {"surface_tolerance": -1}])
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        LesionEvaluation(**settings)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no image"):
        LesionEvaluation().figures()


def test_a_name_that_is_no_utf_8_does_not_end_an_evaluation(tmp_path: Path) -> None:
    name = b"m\xfcller.png".decode("utf-8", "surrogateescape")  # as Linux hands it over
    evaluation, truth = LesionEvaluation(), np.indices((80, 80)).sum(axis=0) > 80
    evaluation.add(name, "p", truth * 0.9, truth)
    assert evaluation.figures(1.5)["dice"]["value"] == pytest.approx(1.0)
    assert "m\\udcfcller.png" in evaluation.write_csv(tmp_path / "per_image.csv").read_text(encoding="utf-8")


def test_lesions_that_are_all_missed_are_not_certain() -> None:
    evaluation, truth = LesionEvaluation(), np.zeros((20, 20), dtype=bool)
    truth[5:12, 5:12] = True
    for number in range(8):
        evaluation.add(f"{number}.png", f"g{number}", np.zeros((20, 20)), truth)
    figures = evaluation.figures()
    exact = pytest.approx(1 - 0.025 ** (1 / 8))
    for name in ("dice", "surface_dice"):
        assert (figures[name]["value"], figures[name]["low"], figures[name]["high"]) == (0.0, 0.0, exact), name
    for name in ("dice_pooled", "recall_pooled"):
        assert (figures[name]["value"], figures[name]["low"]) == (0.0, None), name
        assert "or all have the same" in figures[name]["definition"]
