"""Which volumes a report shows, how they are drawn, and that nothing is called missing that was not to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.metrics import VolumeEvaluation
from scripts.reports import write_report
from scripts.reports.volumes import Volume, choose, draw_classes

CONFIG = {"finish": {"evaluation": {"_target_": "scripts.metrics.VolumeEvaluation"}}, "value_map": {"0": 0, "1": 1}}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 20])
def test_no_volume_is_shown_twice(count: int) -> None:
    ranked = [Volume(str(place), 1, {"a": place / 20}) for place in range(count)]  # the worst first
    shown = choose(ranked)
    names = [volume.file for chosen in shown.values() for volume in chosen]
    assert len(set(names)) == len(names) == min(count, 3 if count < 6 else 6)
    if count:
        assert shown["best"][0].file == str(count - 1)
    if count == 20:
        assert [volume.file for volume in shown["worst"]] == ["0", "1"]
        assert [volume.file for volume in shown["median"]] == ["9", "10"]


def test_fill_is_the_prediction_and_line_the_truth() -> None:
    image = np.full((30, 30, 3), 100, np.uint8)
    prediction, truth = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    prediction[:, :10], truth[:, 20:] = 1, 2
    drawn = draw_classes(image, prediction, truth)
    assert drawn.shape == (300, 604, 3) and (drawn[:, :300] == 100).all()
    right = drawn[:, 304:]
    assert (right[150, 50] == right[40, 20]).all() and (right[150, 50] != 100).any(), "filled all over"
    assert (right[150, 150] == 100).all() and (right[150, 250] == 100).all(), "no fill where nothing was predicted"
    assert (right[150, 200] == (0xF0, 0xA0, 0x00)).all(), "the second structure's line"


def write_run(run: Path, measured: str) -> None:
    evaluation = VolumeEvaluation(("background", "organ <b>"))
    for number in range(4):
        classes = np.ones((3, 3), int)
        classes[0, :number] = 0
        evaluation.add(f"images/v{number}.nii.gz#0", f"g{number}", classes, np.ones((3, 3), int))
    run.mkdir()
    (run / "config.json").write_text(json.dumps(CONFIG))
    (run / "test_metrics.json").write_text(json.dumps({measured: {"epoch": 1, "figures": evaluation.figures()}}))
    if measured == "best":
        evaluation.write_csv(run / "per_volume.csv")


def test_a_run_without_test_split(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "validation")
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "per_image.csv" not in page and "per_volume.csv" not in page
    assert "Dice, organ &lt;b&gt;" in page and "<b>" not in page


def test_volumes_that_are_gone_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run", "best")
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "Not drawn: manifest.json names no mask for it." in page
    assert "4 volumes of 4 groups" in page
