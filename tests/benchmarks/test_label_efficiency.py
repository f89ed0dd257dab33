"""Finished cells are kept, failed ones leave no row, and the time left is that of cells of the same kind."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import label_efficiency
import pytest
from bundle_run import kept_rows, run_bundle
from label_cell import Setting, run_cell
from label_efficiency import run_cells
from label_grid import Cell
from label_time import listing, seconds_of, time_left
from rows import row

CELLS = [Cell("kvasir", "lite", "supervised", 0.1, "random", seed) for seed in range(3)]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path / "data", tmp_path / "work", "cpu")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """Cells that were run, by a stand-in that takes no time: the real one has a test of its own below."""
    cells: list[Cell] = []

    def stand_in(cell: Cell, setting: Setting) -> dict[str, Any]:
        cells.append(cell)
        if cell.seed == 1:
            raise subprocess.CalledProcessError(1, "train")
        return row(0.8, start="random") | cell.key(setting.preset, setting.settings)

    monkeypatch.setattr(label_efficiency, "run_cell", stand_in)
    return cells


def test_finished_cells_are_kept_and_failed_ones_are_named(setting: Setting, ran: list[Cell], tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    failed = run_cells(CELLS, setting, path)
    assert ran == CELLS
    assert [one["seed"] for one in kept_rows(path)] == ["0", "2"]
    assert len(failed) == 1 and "seed 1: exit code 1" in failed[0]
    ran.clear()
    run_cells(CELLS, setting, path)
    assert ran == [CELLS[1]], "only what has no row"


def test_other_presets_and_overrides_are_other_cells(setting: Setting, ran: list[Cell], tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    for other in (
        setting,
        Setting(setting.data, setting.work, "gpu"),
        Setting(setting.data, setting.work, "cpu", {"learning_rate": "0.001"}),
    ):
        run_cells(CELLS[:1], other, path)
    assert len(ran) == 3
    assert [(one["preset"], one["settings"]) for one in kept_rows(path)] == [
        ("cpu", ""), ("gpu", ""), ("cpu", "learning_rate=0.001"),
    ]  # fmt: skip


def test_cells_at_once_give_the_same_rows(setting: Setting, ran: list[Cell], tmp_path: Path) -> None:
    run_cells([*CELLS, Cell("kvasir", "lite", "supervised", 0.5, "random")], setting, tmp_path / "grid.csv", parallel=3)
    assert len(ran) == 4
    assert sorted((one["label_fraction"], one["seed"]) for one in kept_rows(tmp_path / "grid.csv")) == [
        ("0.1", "0"), ("0.1", "2"), ("0.5", "0"),
    ]  # fmt: skip


def test_rows_of_another_call_are_kept(setting: Setting, ran: list[Cell], tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"

    def other_call(cell: Cell, one: Setting) -> dict[str, Any]:
        """While this cell runs, another call finishes seed 2."""
        if cell.seed == 0:
            run_cells(CELLS[2:], setting, path)
        ran.append(cell)
        return row(0.7, start="random") | cell.key(one.preset, one.settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_efficiency, "run_cell", other_call)
        run_cells([CELLS[0], CELLS[2]], setting, path)
    assert sorted(one["seed"] for one in kept_rows(path)) == ["0", "2"]
    assert [cell.seed for cell in ran] == [2, 0], "seed 2 was not run again"


def test_missing_weights_are_said_before_anything_runs(setting: Setting, ran: list[Cell], tmp_path: Path) -> None:
    wrong = Cell("kvasir", "lite", "supervised", 0.1, "distilled")
    with pytest.raises(ValueError, match="no file for it"):
        run_cells([CELLS[0], wrong], setting, tmp_path / "grid.csv")
    assert ran == []


def test_time_is_that_of_the_same_kind(setting: Setting) -> None:
    rows = [row(0.8, seconds="600"), row(0.8, seed=1, seconds="1200"), row(0.8, data="wce_bleeding", seconds="60")]
    assert seconds_of(CELLS[0], rows, setting) == 900  # of the same data set
    assert seconds_of(Cell("cxr_montgomery", "lite", "supervised", 0.1, "random"), rows, setting) == 620  # of all three
    assert seconds_of(Cell("kvasir", "published", "supervised", 0.1, "random"), rows, setting) is None
    cells = [*CELLS[:2], Cell("kvasir", "published", "supervised", 0.1, "random")]
    assert time_left(cells, rows, setting) == "3 cells left, 0.5 h and 1 cells of kinds without a finished one"
    assert time_left(cells[:2], rows, setting, parallel=2) == "2 cells left, 0.2 h"


def test_list_says_what_is_done(setting: Setting) -> None:
    cells = [Cell("kvasir", "lite", "supervised", 0.1, "imagenet", seed) for seed in range(2)]
    first, second, last = listing(cells, [row(0.8)], setting).splitlines()
    assert first.endswith("seed 0  done, Dice 0.800")
    assert second.endswith("seed 1  about 10 min")
    assert last == "cpu: 1 cells left, 0.2 h"


def tiny(method: str, network: str, folder: Path, work: Path, more: Sequence[str] = ()) -> dict[str, Any]:
    """One cell by real runs on the tiny data set."""
    few = {"max_epochs": 1, "iterations_per_epoch": 1, "image_size": 64, "labeled_batch_size": 2, "val_interval": 1}
    few |= {"unlabeled_batch_size": 2, "unsupervised_start": 0, "unsupervised_rampup": 0, "warmup_iterations": 0}
    few |= {"split": "[0.4,0.3,0.3]"}
    setting = Setting(folder, work, "cpu", {name: str(value) for name, value in few.items()})
    return run_cell(Cell("kvasir", network, method, 0.5, "random"), setting)


def test_a_real_cell_is_run_once(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_dataset.rename(tmp_path / "kvasir_seg")
    made = tiny("supervised", "lite", tmp_path, tmp_path / "work")
    assert (made["steps"], made["steps_all"], made["image_size"], made["parameters"]) == (1, 1, 64, 2_142_882)
    assert made["encoder_weights"] == "random" and made["unlabelled"] == 0
    assert 0 <= made["best_dice"] <= 1 and "last_dice" in made
    monkeypatch.setattr("bundle_run._start", lambda *words: pytest.fail("a finished run was started again"))
    assert tiny("supervised", "lite", tmp_path, tmp_path / "work") == made


def test_a_run_that_fails_is_an_error_and_leaves_its_log(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_bundle(tmp_path, "wrong", ["train"], {"max_epoch": 1}, "report.html")
    (log,) = tmp_path.glob("wrong_*.log")
    assert "did you mean --max_epochs?" in log.read_text()


def test_rows_are_plain_csv(setting: Setting, ran: list[Cell], tmp_path: Path) -> None:
    run_cells(CELLS[:1], setting, tmp_path / "grid.csv")
    with (tmp_path / "grid.csv").open(newline="") as file:
        (only,) = csv.DictReader(file)
    assert only["data"] == "kvasir" and not any("\n" in value for value in only.values())
