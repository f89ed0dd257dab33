"""evaluate.json measures a run's model.pt as the run did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.data.errors import LeakError
from scripts.io.writers import OutputError
from scripts.networks.checkpoints import CheckpointError


def test_figures_are_those_of_the_run(
    run_config: Any, tiny: dict[str, Any], trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    run_config(
        "train", "evaluate", **tiny, dataset_dir=str(frames_dir), checkpoint=str(trained_run / "model.pt"),
        evaluation_dir=str(tmp_path / "out"), output_dir=str(tmp_path / "unused"),
    )  # fmt: skip
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "test_metrics.json",
        "per_image.csv",
        "predictions",
        "manifest.json",
    }
    assert not (tmp_path / "unused").exists(), "an evaluation makes no run directory"
    expected, found = (json.loads((folder / "test_metrics.json").read_text()) for folder in (trained_run, out))
    for part in ("best", "validation", "temperature"):
        assert found[part] == expected[part]
    assert found["checkpoint"] == str(trained_run / "model.pt")
    assert (out / "per_image.csv").read_bytes() == (trained_run / "per_image.csv").read_bytes()
    for mask in (trained_run / "predictions").rglob("*.png"):
        assert (out / mask.relative_to(trained_run)).read_bytes() == mask.read_bytes()


def test_last_checkpoint_can_be_measured_too(
    run_config: Any, tiny: dict[str, Any], trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    run_config(
        "train", "evaluate", **tiny, dataset_dir=str(frames_dir), checkpoint=str(trained_run / "last.pt"),
        evaluation_dir=str(tmp_path / "out"),
    )  # fmt: skip
    expected, found = (
        json.loads((folder / "test_metrics.json").read_text()) for folder in (trained_run, tmp_path / "out")
    )
    assert found["best"]["epoch"] == expected["last"]["epoch"] == 2
    for name in ("dice", "iou_pooled", "recall"):
        assert found["best"]["figures"][name]["value"] == pytest.approx(expected["last"]["figures"][name]["value"])


def test_another_split_would_measure_frames_of_the_training(
    run_config: Any, tiny: dict[str, Any], trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    other = {**tiny, "seed": 1, "dataset_dir": str(frames_dir), "checkpoint": str(trained_run / "model.pt")}
    with pytest.raises(LeakError, match=r"of 8 frames that are to be measured have trained or chosen .*model.pt"):
        run_config("train", "evaluate", **other, evaluation_dir=str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]
    run_config("train", "evaluate", **other, evaluation_dir=str(tmp_path / "out"), allow_seen_frames=True)
    assert (tmp_path / "out" / "test_metrics.json").is_file()


def test_the_run_itself_is_not_written_over(
    run_config: Any, tiny: dict[str, Any], trained_run: Path, frames_dir: Path
) -> None:
    before = {path: path.read_bytes() for path in trained_run.iterdir() if path.is_file()}
    with pytest.raises(OutputError, match="is the folder of .*model.pt, whose manifest.json .* --evaluation_dir"):
        run_config(
            "train", "evaluate", **tiny, dataset_dir=str(frames_dir), checkpoint=str(trained_run / "model.pt"),
            evaluation_dir=str(trained_run / "." ), allow_seen_frames=True,
        )  # fmt: skip
    assert before == {path: path.read_bytes() for path in trained_run.iterdir() if path.is_file()}


def test_a_missing_checkpoint_is_named(run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        run_config(
            "train", "evaluate", **tiny, dataset_dir=str(frames_dir), checkpoint=str(tmp_path / "nowhere.pt"),
            evaluation_dir=str(tmp_path / "out"),
        )  # fmt: skip
