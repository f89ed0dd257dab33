"""model.pt and last.pt: which epoch is best, what is in them, and that a resumed run is the unbroken one."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from tiny_training import make_network, make_trainer, same_state

from scripts.engines.checkpoints import RunCheckpoint, load_into, random_state, save_atomically, set_random_state
from scripts.engines.run_directory import RunDirectory
from scripts.engines.run_log import RunLog
from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.networks.checkpoints import CheckpointError
from scripts.transforms import view


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def train(
    folder: Path,
    figures: list[float | None] | None = None,
    stop_after: int | None = None,
    image_size: int | None = None,
    **options: Any,
) -> tuple[SemiSupervisedTrainer, RunCheckpoint]:
    """Train with a checkpoint whose evaluator measures ``figures``, one an epoch (None: not measured in it)."""
    torch.manual_seed(0)
    run = RunDirectory(folder, {})
    evaluator = None if figures is None else Engine(lambda engine, batch: None)
    trainer = make_trainer(make_network(), labeled_view=view(horizontal_flip=0.5, rotation=20, hue=0.1), **options)
    checkpoint = RunCheckpoint(run, evaluator, image_size=image_size)

    def measure(engine: Engine) -> None:
        figure = figures[engine.state.epoch - 1]
        if figure is not None:
            evaluator.state.metrics = {"val_dice": figure}

    if evaluator is not None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, measure)
    RunLog(folder, tensorboard=False).attach(trainer)
    checkpoint.attach(trainer)
    if stop_after:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
    trainer.run()
    return trainer, checkpoint


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    trainer, checkpoint = train(tmp_path, [0.2, 0.7, 0.7, 0.5], max_epochs=4)
    assert (checkpoint.best_epoch, checkpoint.best_value) == (2, 0.7), "the first of equals"
    best = load(tmp_path / "model.pt")
    assert (best["epoch"], best["value"]) == (2, 0.7)
    assert load(tmp_path / "last.pt")["epoch"] == 4
    assert not same_state(best["model"], trainer.teacher.network.state_dict()), "two epochs older"


def test_nan_is_never_the_best(tmp_path: Path) -> None:
    _, checkpoint = train(tmp_path, [0.1, math.nan, 0.05], max_epochs=3)
    assert (checkpoint.best_epoch, load(tmp_path / "model.pt")["epoch"]) == (1, 1)


def test_a_figure_of_zero_is_a_figure(tmp_path: Path) -> None:
    _, checkpoint = train(tmp_path, [0.0, 0.0], max_epochs=2)
    assert (checkpoint.best_epoch, checkpoint.best_value) == (1, 0.0)


def test_without_validation_the_last_is_the_best(tmp_path: Path) -> None:
    trainer, checkpoint = train(tmp_path, max_epochs=3)
    best = load(tmp_path / "model.pt")
    assert checkpoint.best_epoch == best["epoch"] == 3
    assert same_state(best["model"], trainer.teacher.network.state_dict())


def test_epochs_without_validation_are_not_the_best(tmp_path: Path) -> None:
    """val_interval 2: before the first figure the last epoch is usable, after it only a better figure counts."""
    _, checkpoint = train(tmp_path, [None, 0.6, None, 0.4], max_epochs=4, stop_after=1)
    assert load(tmp_path / "model.pt")["epoch"] == 1
    _, checkpoint = train(tmp_path, [None, 0.6, None, 0.4], max_epochs=4, stop_after=2)
    assert (checkpoint.best_epoch, checkpoint.best_value) == (2, 0.6)
    # Resumed: the evaluator of the new process has not measured anything when epoch 3 ends.
    _, checkpoint = train(tmp_path, [None, 0.6, None, 0.4], max_epochs=4)
    assert (checkpoint.best_epoch, checkpoint.best_value) == (2, 0.6)
    assert load(tmp_path / "model.pt")["epoch"] == 2


def test_what_the_files_hold(tmp_path: Path) -> None:
    trainer, _ = train(tmp_path, max_epochs=1, objective="mean_teacher")
    best, last = load(tmp_path / "model.pt"), load(tmp_path / "last.pt")
    assert same_state(best["model"], trainer.teacher.network.state_dict())
    assert same_state(best["companion"], trainer.network.state_dict())
    assert same_state(last["student"], trainer.network.state_dict())
    assert {"optimizer", "lr_scheduler", "teacher", "objective", "grad_scaler"} == last["parts"].keys()
    assert (last["epoch"], last["iteration"]) == (1, 2)


def test_without_a_teacher_the_student_is_shipped(tmp_path: Path) -> None:
    trainer, _ = train(tmp_path, max_epochs=1, teacher=None)
    best = load(tmp_path / "model.pt")
    assert "companion" not in best and same_state(best["model"], trainer.network.state_dict())


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("supervised", None),
        ("less_net", None),
        ("weak_to_strong", {"weighting": "softmatch"}),
    ],
)
def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, objective: str, options: dict[str, Any] | None) -> None:
    shared = {"objective": objective, "options": options, "max_epochs": 4}
    figures = [0.3, 0.5, 0.4, 0.2]
    unbroken, _ = train(tmp_path / "unbroken", figures, **shared)
    train(tmp_path / "broken", figures, stop_after=2, **shared)
    assert load(tmp_path / "broken" / "last.pt")["epoch"] == 2
    random.seed(5), np.random.seed(5)
    resumed, checkpoint = train(tmp_path / "broken", figures, **shared)
    assert resumed.state.iteration == 8
    assert (checkpoint.best_epoch, checkpoint.best_value) == (2, 0.5)
    for name in ("last.pt", "model.pt"):
        one, other = load(tmp_path / "unbroken" / name), load(tmp_path / "broken" / name)
        one.get("random", {}).pop("python", 0), other.get("random", {}).pop("python", 0)  # seeded apart just above
        one.get("random", {}).pop("numpy", 0), other.get("random", {}).pop("numpy", 0)
        assert same_state(one, other), name
    if options:
        assert resumed.objective.weighting.variance.lt(1).any(), "SoftMatch's moments moved, and are compared"
    tables = [
        [{key: cell for key, cell in row.items() if key != "seconds"} for row in read_rows(tmp_path / name)]
        for name in ("unbroken", "broken")
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 4


def read_rows(folder: Path) -> list[dict[str, str]]:
    lines = (folder / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=2)
    before = {name: (tmp_path / name).read_bytes() for name in ("metrics.csv", "last.pt", "model.pt")}
    trainer, _ = train(tmp_path, max_epochs=2)
    assert trainer.state.iteration == 4
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_generators_come_back() -> None:
    state = random_state()
    first = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))
    set_random_state(state)
    assert first == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_atomically(path, {"epoch": 1})
    with pytest.raises(Exception, match="pickle"):
        save_atomically(path, {"epoch": 2, "cannot be pickled": lambda: None})
    assert load(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"], "no temporary file stays"


@pytest.mark.parametrize("with_teacher", [True, False])
def test_weights_to_use_of_either_file(tmp_path: Path, with_teacher: bool) -> None:
    trainer, _ = train(tmp_path, max_epochs=2, **({} if with_teacher else {"teacher": None}))
    expected = (trainer.teacher.network if with_teacher else trainer.network).state_dict()
    for name in ("model.pt", "last.pt"):
        network = make_network(seed=9)
        assert load_into(network, tmp_path / name) == 2
        assert same_state(network.state_dict(), expected)


@pytest.mark.parametrize("name", ["model.pt", "last.pt"])
def test_another_size_than_the_one_trained_at_is_said(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, max_epochs=1, image_size=32)
    for size, said in ((32, 0), (None, 0), (64, 1)):
        caplog.clear()
        load_into(make_network(), tmp_path / name, size)
        found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(found) == said
    assert f"{name} was trained at 32 px and is used at 64 px" in found[0] and "--image_size 32" in found[0]


def test_plain_weights_have_no_epoch(tmp_path: Path) -> None:
    torch.save(make_network(seed=3).state_dict(), tmp_path / "weights.pt")
    network = make_network()
    assert load_into(network, tmp_path / "weights.pt") == 0
    assert same_state(network.state_dict(), make_network(seed=3).state_dict())


@pytest.mark.parametrize("name", ["model.pt", "last.pt"])
def test_weights_of_another_network_are_refused(tmp_path: Path, name: str) -> None:
    train(tmp_path, max_epochs=1)
    other = make_network()
    other.head = torch.nn.Conv2d(8, 3, 1)
    with pytest.raises(CheckpointError, match=r"(?s)config.json.*head.weight|head.weight.*config.json"):
        load_into(other, tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        load_into(make_network(), tmp_path / "nowhere.pt")


def test_a_run_begun_without_fp16_goes_on_with_it(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=1)
    assert load(tmp_path / "last.pt")["parts"]["grad_scaler"] == {}, "of a scaler that is not enabled"
    trainer = make_trainer(make_network(), max_epochs=2)
    trainer.grad_scaler = torch.amp.GradScaler("cpu", enabled=True)
    RunCheckpoint(RunDirectory(tmp_path, {})).restore(trainer)
    assert trainer.state.epoch == 1 and trainer.grad_scaler.is_enabled()
