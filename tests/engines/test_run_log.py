"""metrics.csv, TensorBoard and the progress bar of real, tiny runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events
from tiny_training import make_network, make_trainer

from scripts.engines.run_log import COLUMNS, ProgressBar, RunLog


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_are_the_documented_ones() -> None:
    assert COLUMNS == (
        "epoch,iteration,seconds,lr,loss,loss_supervised,loss_unsupervised,unsupervised_weight,confident_share,"
        "lesion_share,val_dice,val_iou_pooled,val_dice_pooled"
    ).split(",")


def test_means_of_an_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(make_network(), objective="mean_teacher", iterations=3)
    seen: list[dict[str, float]] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.append({k: float(v) for k, v in engine.state.output[0].items()})
    )
    RunLog(tmp_path, tensorboard=False).attach(trainer)
    trainer.run()
    found = rows(tmp_path)
    assert [(row["epoch"], row["iteration"]) for row in found] == [("1", "3"), ("2", "6")]
    for number, row in enumerate(found):
        of_epoch = seen[3 * number : 3 * number + 3]
        for name in ("loss", "loss_supervised", "loss_unsupervised", "lesion_share", "unsupervised_weight"):
            assert float(row[name]) == pytest.approx(sum(one[name] for one in of_epoch) / 3, rel=1e-5)
        assert row["val_dice"] == "", "not measured is empty, not 0"


def test_terms_of_an_objective_are_further_columns(tmp_path: Path) -> None:
    trainer = make_trainer(make_network(), objective="weak_to_strong")
    RunLog(tmp_path, tensorboard=False).attach(trainer)
    trainer.run()
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header == [*COLUMNS, "pseudo_ce", "pseudo_dice"]


def test_supervised_leaves_unsupervised_columns_empty(tmp_path: Path) -> None:
    trainer = make_trainer(make_network())
    RunLog(tmp_path, tensorboard=False).attach(trainer)
    trainer.run()
    assert {row["loss_unsupervised"] for row in rows(tmp_path)} == {""}
    assert list(rows(tmp_path)[0]) == COLUMNS


def measuring_evaluator(trainer: Any, every: int) -> Engine:
    """An engine that is run at every so many epochs as MONAI's ValidationHandler does, and measures the epoch / 10."""
    evaluator = Engine(lambda engine, batch: None)

    @trainer.on(Events.EPOCH_COMPLETED(every=every))
    def validate(engine: Engine) -> None:
        evaluator.state.epoch = engine.state.epoch - 1
        evaluator.state.max_epochs = engine.state.epoch
        evaluator.run([0], max_epochs=engine.state.epoch, epoch_length=1)
        evaluator.state.metrics = {"val_dice": engine.state.epoch / 10, "other": 1.0}

    return evaluator


def test_validation_stands_in_the_epoch_it_was_made(tmp_path: Path) -> None:
    trainer = make_trainer(make_network(), max_epochs=4)
    RunLog(tmp_path, measuring_evaluator(trainer, every=2), tensorboard=False).attach(trainer)
    trainer.run()
    assert [row["val_dice"] for row in rows(tmp_path)] == ["", "0.2", "", "0.4"]
    assert "other" not in rows(tmp_path)[0]


def test_rows_after_the_checkpoint_are_made_again(tmp_path: Path) -> None:
    """A run killed after its row and before its checkpoint would have that epoch twice."""
    trainer = make_trainer(make_network(), max_epochs=3)
    RunLog(tmp_path, tensorboard=False).attach(trainer)
    trainer.run()
    first = rows(tmp_path)
    resumed = make_trainer(make_network(), max_epochs=4)
    RunLog(tmp_path, tensorboard=False).attach(resumed)

    @resumed.on(Events.STARTED)
    def restore(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = 2, 4

    resumed.run()
    second = rows(tmp_path)
    assert [row["epoch"] for row in second] == ["1", "2", "3", "4"]
    assert second[:2] == first[:2]
    assert float(second[2]["seconds"]) >= float(first[1]["seconds"]), "the clock goes on"


def test_tensorboard_holds_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = make_trainer(make_network())
    RunLog(tmp_path).attach(trainer)
    trainer.run()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = events.Scalars("loss")
    assert [point.step for point in points] == [2, 4]
    assert [point.value for point in points] == pytest.approx([float(row["loss"]) for row in rows(tmp_path)])


def test_progress_bar_shows_terms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(make_network(), objective="mean_teacher", max_epochs=2)
    evaluator = measuring_evaluator(trainer, every=1)
    ProgressBar(evaluator, every=1).attach(trainer)
    trainer.run()
    shown = capsys.readouterr().err
    assert "training: 100%" in shown and "4/4" in shown
    for label in ("loss=", "sup=", "unsup=", "conf=", "lesion=", "val_dice=0.100"):
        assert label in shown


def test_progress_bar_lets_errors_through(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(make_network())
    bar = ProgressBar()
    bar.attach(trainer)

    @trainer.on(Events.ITERATION_COMPLETED(once=3))
    def fail(engine: Engine) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        trainer.run()
    assert bar.bar is None, "the bar is closed"
