"""Figures of severity: by hand, against scikit-learn and SciPy, with intervals over patients."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from scripts.metrics.severity_evaluation import SeverityEvaluation

GRADES = ["healthy", "mild", "severe"]


def one_hot(grade: int, count: int = 3) -> np.ndarray:
    """Score and probabilities of a prediction that is sure of its grade."""
    return np.array([grade, *np.eye(count)[grade]])


def collected(
    truth: list[int], predicted: list[int], count: int = 3, groups: list[str] | None = None
) -> SeverityEvaluation:
    evaluation = SeverityEvaluation([f"grade {number}" for number in range(count)])
    for number, (true, found) in enumerate(zip(truth, predicted, strict=True)):
        group = groups[number] if groups else str(number)
        evaluation.add(f"{number:03d}.png", group, one_hot(found, count), float(true))
    return evaluation


def values(evaluation: SeverityEvaluation) -> dict[str, float]:
    return {name: figure["value"] for name, figure in evaluation.figures(bootstrap=1).items()}


def test_by_hand() -> None:
    found = values(collected([0, 0, 1, 2], [0, 1, 1, 0]))
    # F1: healthy 2*1/(2+2), mild 2*1/(1+2), severe 0; recall 1/2, 1, 0
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert found["macro_recall"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["accuracy"] == 0.5
    assert found["maee"] == pytest.approx((1 + math.e + 1 + math.e**2) / 4)
    # squares missed 0+1+0+4 = 5; by chance, rows 2 1 1 and columns 2 2 0: (2*2*1 + 1*2*1 + 1*2*4 + 1*2*1) / 4 = 4
    assert found["kappa"] == pytest.approx(1 - 5 / 4)


def test_against_scikit_learn_and_scipy() -> None:
    random = np.random.default_rng(0)
    for grades in (2, 3, 5):
        truth = random.integers(0, grades, 60)
        predicted = np.clip(truth + random.integers(-1, 2, 60), 0, grades - 1)
        found = values(collected(truth.tolist(), predicted.tolist(), grades))
        assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
        assert found["macro_recall"] == pytest.approx(metrics.recall_score(truth, predicted, average="macro"))
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
        assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, predicted, weights="quadratic"))
        assert found["spearman"] == pytest.approx(stats.spearmanr(truth, predicted).statistic)
        assert found["maee"] == pytest.approx(np.exp(np.abs(truth - predicted)).mean())
        matrix = collected(truth.tolist(), predicted.tolist(), grades).confusion()
        assert np.array_equal(matrix, metrics.confusion_matrix(truth, predicted))


def test_a_grade_that_is_neither_there_nor_predicted_does_not_count() -> None:
    found = values(collected([0, 2, 2], [0, 2, 2]))
    assert found["macro_f1"] == found["macro_recall"] == found["kappa"] == 1.0 and found["maee"] == 1.0


def test_the_likeliest_grade_and_the_score_are_two_things() -> None:
    evaluation = SeverityEvaluation(GRADES)
    evaluation.add("a.png", "a", np.array([0.9, 0.5, 0.1, 0.4]), 0)
    evaluation.add("b.png", "b", np.array([1.1, 0.3, 0.3, 0.4]), 2)
    evaluation.add("c.png", "c", np.array([0.4, 0.7, 0.2, 0.1]), 0)
    assert values(evaluation)["accuracy"] == 1.0
    assert values(evaluation)["spearman"] == pytest.approx(stats.spearmanr([0, 2, 0], [0.9, 1.1, 0.4]).statistic)
    assert [row["predicted"] for row in evaluation.rows] == [0, 2, 0]


def test_a_score_alone() -> None:
    evaluation = SeverityEvaluation()
    for number, score in enumerate([0.1, 0.2, 0.6, 0.5]):
        evaluation.add(f"{number}.png", str(number), np.array([score]), number / 10)  # shares of area, no grades
    assert values(evaluation) == {"spearman": pytest.approx(0.8)}
    evaluation = SeverityEvaluation()
    evaluation.add("a.png", "a", np.array([0.5]), 1)
    evaluation.add("b.png", "b", np.array([0.5]), 2)
    assert values(evaluation) == {"spearman": None}, "a score that is always the same has no order"


def test_intervals_are_over_patients() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, 80)
    predicted = np.where(random.random(80) < 0.6, truth, random.integers(0, 3, 80))
    alone = collected(truth.tolist(), predicted.tolist()).figures()
    twins = collected(
        np.repeat(truth, 2).tolist(), np.repeat(predicted, 2).tolist(), groups=[str(n // 2) for n in range(160)]
    ).figures()
    for name, figure in alone.items():
        assert figure["low"] < figure["value"] < figure["high"], name
        assert twins[name]["value"] == pytest.approx(figure["value"], abs=2e-3)
        # Twice the pictures of the same patients tell nothing new.
        width, other = (one["high"] - one["low"] for one in (figure, twins[name]))
        assert other == pytest.approx(width, rel=0.3), name
    single = collected([0, 1, 2], [0, 1, 1], groups=["one"] * 3).figures()
    assert all(figure["low"] is None for figure in single.values())


def test_the_interval_of_spearman_holds_the_truth() -> None:
    """The share of 95 % intervals that hold the true correlation, over many draws of pictures."""
    random = np.random.default_rng(2)
    true = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman of a bivariate normal with correlation 0.6
    held = 0
    for _ in range(60):
        first, second = random.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 80).T
        evaluation = SeverityEvaluation()
        for number, (severity, score) in enumerate(zip(first - first.min(), second, strict=True)):
            evaluation.add(str(number), str(number), np.array([score]), severity)
        figure = evaluation.figures(bootstrap=300)["spearman"]
        held += figure["low"] <= true <= figure["high"]
    assert 50 <= held <= 60


def test_rows_and_table(tmp_path: Path) -> None:
    evaluation = SeverityEvaluation(GRADES)
    evaluation.add("b.png", "p1", np.array([1.25, 0.25, 0.25, 0.5]), 1)
    evaluation.add("a.png", "p2", one_hot(0), 0)
    evaluation.write_csv(tmp_path / evaluation.table)
    with (tmp_path / "per_picture.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", "b.png"]
    assert rows[1] == {
        "file": "b.png", "group": "p1", "severity": "1.000000", "score": "1.250000", "predicted": "2",
        "p_0": "0.250000", "p_1": "0.250000", "p_2": "0.500000",
    }  # fmt: skip


def test_bad_input() -> None:
    evaluation = SeverityEvaluation(GRADES)
    with pytest.raises(ValueError, match="holds no picture"):
        evaluation.figures()
    evaluation.add("a.png", "a", one_hot(0), 0)
    with pytest.raises(ValueError, match=r"a.png: added twice"):
        evaluation.add("a.png", "a", one_hot(0), 0)
    with pytest.raises(ValueError, match=r"b.png: prediction is .* expected 4 finite numbers"):
        evaluation.add("b.png", "b", np.array([1.0]), 0)
    with pytest.raises(ValueError, match=r"b.png: prediction is \[nan.*, expected 4 finite numbers"):
        evaluation.add("b.png", "b", np.array([np.nan, 1, 0, 0]), 0)
    for severity in (3, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"b.png: severity is .*, expected a grade 0..2"):
            evaluation.add("b.png", "b", one_hot(0), severity)
    with pytest.raises(ValueError, match="expected at least two names"):
        SeverityEvaluation(["healthy"])


def test_five_right_pictures_are_not_certain() -> None:
    accuracy = collected([0, 1, 2, 0, 1], [0, 1, 2, 0, 1]).figures()["accuracy"]
    assert accuracy["value"] == accuracy["high"] == 1.0 and accuracy["low"] == pytest.approx(0.025 ** (1 / 5))
    wrong = collected([0, 1], [1, 0]).figures()["accuracy"]
    assert wrong["value"] == wrong["low"] == 0.0 and wrong["high"] == pytest.approx(1 - 0.025 ** (1 / 2))
    figures = collected([0, 1, 2, 0, 1], [0, 1, 2, 0, 1]).figures()
    for name in ("macro_f1", "macro_recall", "maee", "kappa"):
        assert (figures[name]["value"], figures[name]["low"], figures[name]["high"]) == (1.0, None, None), name
        assert "No interval: too few groups, or all have the same." in figures[name]["definition"]
    assert "No interval" not in figures["accuracy"]["definition"]
