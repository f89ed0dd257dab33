"""`--tracking mlflow` and TensorBoard, read back from their stores."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from whole_run import BUNDLE, RunConfig


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


def test_a_run_is_tracked_by_mlflow_and_tensorboard(
    run_config: RunConfig, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    """In a database of this machine; the same command, for one epoch more, continues the run."""
    mlflow = pytest.importorskip("mlflow", reason="the optional extra for tracking is not installed")
    pytest.importorskip("sqlalchemy", reason="the optional extra for tracking is not installed")
    output = tmp_path / "my runs"
    options = tiny | {"dataset_dir": str(frames_dir), "output_dir": str(output), "run_name": "tracked"}
    run_config("train", tracking="mlflow", **options)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output / 'mlruns.db'}")

    def tracked() -> list[Any]:
        experiment = client.get_experiment_by_name("monai_experiment")
        return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])

    def history(run: Any, name: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]

    (run,) = tracked()
    assert (run.info.run_name, run.info.status) == ("tracked", "FINISHED")
    assert history(run, "val_dice") == [
        (1, *column(output / "tracked", "val_dice")[:1]),
        (2, column(output / "tracked", "val_dice")[1]),
    ]
    losses = history(run, "train_loss")
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert sum(value for _, value in losses[:2]) / 2 == pytest.approx(column(output / "tracked", "loss")[0], rel=1e-5)
    params = run.data.params
    assert (params["max_epochs"], params["epoch_length"], params["image_size"]) == ("2", "2", "64")
    assert (params["objective"], params["split.0"], params["label_fraction"]) == ("weak_to_strong", "0.5", "1.0")
    figures = json.loads((output / "tracked" / "test_metrics.json").read_text())["best"]["figures"]
    assert run.data.metrics["test_dice"] == figures["dice"]["value"]
    files = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert {"config.json", "manifest.json", "test_metrics.json", "report.html"} <= files
    assert {path.name for path in output.iterdir()} == {"tracked", "mlruns.db", "mlruns"}, "no config lies about"

    run_config("train", tracking="mlflow", tracking_uri=client.tracking_uri, **(options | {"max_epochs": 3}))
    first, second = tracked()
    assert history(first, "val_dice") == history(run, "val_dice")
    assert history(second, "val_dice") == [(3, column(output / "tracked", "val_dice")[2])]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "tracked" / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("val_dice")]
    assert [step for step, _ in shown] == [2, 4, 6]
    assert [value for _, value in shown] == pytest.approx(column(output / "tracked", "val_dice"), rel=1e-6)


def test_a_store_without_tracking_is_refused(
    run_config: RunConfig, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    options = tiny | {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path / "runs")}
    with pytest.raises(ValueError, match="--tracking_uri is given without --tracking: add --tracking mlflow"):
        run_config("train", tracking_uri="sqlite:///some.db", **options)


def test_a_missing_package_is_named_before_the_work(
    run_config: RunConfig, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)  # as if it were not installed
    options = tiny | {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path / "runs")}
    with pytest.raises(
        ImportError, match="sqlalchemy cannot be imported, expected pip install mlflow-skinny sqlalchemy"
    ):
        run_config("train", tracking="mlflow", **options)
    assert not (tmp_path / "runs").exists()
    assert "tracking = [" in (BUNDLE.parent / "pyproject.toml").read_text()
