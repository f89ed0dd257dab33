"""Pictures of severity: what the charts say of rows that a person can count, and the page as a whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import matplotlib.axes
import numpy as np
import pytest
import torch

from scripts.networks import SeverityEmbedder
from scripts.reports.embedding_map import main_directions
from scripts.reports.report import write_report
from scripts.reports.severity import (
    confusion_chart,
    embedding_chart,
    score_chart,
    write_embedding_table,
)

GRADES = ["healthy", "mild", "severe"]


def rows(*pairs: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        {"file": f"{number}.png", "severity": float(true), "predicted": float(found), "score": found + 0.25}
        for number, (true, found) in enumerate(pairs)
    ]


def test_the_confusion_matrix_has_truth_in_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    draw = matplotlib.axes.Axes.imshow

    def spy(axes: Any, image: np.ndarray, **options: Any) -> Any:
        shown.append(image)
        return draw(axes, image, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "imshow", spy)
    chart = confusion_chart(tmp_path, rows((0, 0), (0, 0), (0, 1), (0, 2), (2, 1)), GRADES)
    assert shown[0].tolist() == [[0.5, 0.25, 0.25], [0, 0, 0], [0, 1, 0]]
    assert chart.summary == "2 of 5 pictures have their grade, 4 are at most one grade off."
    assert (tmp_path / "confusion.png").stat().st_size > 1000
    assert "healthy (4)" in chart.svg and "mild (0)" in chart.svg


def test_scores_by_severity(tmp_path: Path) -> None:
    chart = score_chart(tmp_path, rows((0, 0), (0, 1), (2, 2)))
    assert chart.summary == "Mean score by severity 0: 0.75, 2: 2.25."
    assert score_chart(tmp_path, rows((0, 0))) is None
    areas = [{"severity": number / 50, "score": number / 100} for number in range(20)]
    assert score_chart(tmp_path, areas).summary == "20 pictures.", "shares of area are no grades"


def test_embeddings_of_grades_and_of_areas(tmp_path: Path) -> None:
    points = [{"x": 0.1 * n, "y": 0.0, "severity": float(n % 3)} for n in range(9)]
    assert embedding_chart(tmp_path, points, "test").summary == "9 pictures of severity 0 to 2."
    areas = [{"x": 0.1 * n, "y": 0.0, "severity": n / 40} for n in range(20)]
    assert embedding_chart(tmp_path, areas, "training").summary == "20 pictures of severity 0 to 0.475."
    assert embedding_chart(tmp_path, [], "test") is None


def test_main_directions_are_those_of_the_largest_spread() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(200, 5).double() * torch.tensor([1.0, 9.0, 0.5, 3.0, 0.1]) + 7
    found = main_directions(vectors)
    assert found.mean(dim=0).abs().max() < 1e-9
    for column, place in enumerate((1, 3)):
        correlation = np.corrcoef(found[:, column], vectors[:, place])[0, 1]
        assert correlation > 0.99, "and the sign is the direction's own"


def test_the_table_of_embeddings_leaves_out_the_ungraded(tmp_path: Path) -> None:
    network = SeverityEmbedder(encoder_weights="none", channels=(8, 4))
    items = [
        {
            "image": torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8),
            "label": torch.tensor([math.nan if number == 2 else float(number)]),
            "file": f"{number}.png",
        }
        for number in range(5)
    ]
    path = write_embedding_table(tmp_path, network, items)
    lines = path.read_text().splitlines()
    assert lines[0] == "file,severity,x,y" and [line.split(",")[0] for line in lines[1:]] == [
        "0.png", "1.png", "3.png", "4.png",
    ]  # fmt: skip
    assert write_embedding_table(tmp_path / "few", network, items[:2]) is None


def test_the_page_of_a_grading(tmp_path: Path) -> None:
    run = tmp_path / "grading"
    run.mkdir()
    figure = {"value": -0.2, "low": -0.5, "high": 0.1, "unit": "-1..1", "definition": "Cohen's kappa."}
    maee = {"value": 1.5, "low": 1.2, "high": 1.9, "unit": "1 or more", "definition": "Mean of exp."}
    figures = {"kappa": figure, "maee": maee, "spearman": figure | {"value": None, "low": None, "high": None}}
    metrics = {"key_metric": "val_kappa", "best": {"epoch": 2, "figures": figures}}
    (run / "test_metrics.json").write_text(json.dumps(metrics))
    config = {"grades": GRADES, "objective": "grading", "finish": {"evaluation": "SeverityEvaluation"}}
    (run / "config.json").write_text(json.dumps(config))
    table = ["file,group,severity,score,predicted", "a.png,p,0,0.2,0", "b.png,q,2,1.8,2", "c.png,q,1,0.4,0"]
    (run / "per_picture.csv").write_text("\n".join(table) + "\n")
    page = write_report(run).read_text()
    assert "3 pictures of 2 groups, the predicted grade being the likeliest" in " ".join(page.split())
    assert "<title>grading · severity report</title>" in page and "Grading of pictures" in page
    assert "Confusion matrix" in page and "Quadratic kappa" in page and "its grades need the eyes" in page
    assert "per_image.csv" not in page and "at original resolution" not in page
    assert (run / "figures" / "confusion.png").is_file()


@pytest.mark.parametrize(("objective", "validated"), [("semise", True), ("semise", False), ("simclr", False)])
def test_a_pretraining_says_whether_validation_was_seen(tmp_path: Path, objective: str, validated: bool) -> None:
    run = tmp_path / "run"
    run.mkdir()
    trainer = {"_target_": "scripts.engines.severity_trainer.SeverityTrainer"}
    config = {"objective": objective, "train": {"trainer": trainer}, "finish": {"evaluation": "SeverityEvaluation"}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.csv").write_text(f"epoch,loss,val_spearman\n1,3.9,\n2,3,{0.5 if validated else ''}\n")
    page = " ".join(write_report(run).read_text().split())
    assert ("Pictures of validation were measured" in page) == validated
    assert ("No picture of validation or test was seen" in page) != validated
