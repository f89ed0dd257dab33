"""Recipes side by side: what each is given, which is kept, what is refused before anything is run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue

from scripts.engines.compared_runs import figures_of, shipped_validation
from scripts.engines.overrides import UnknownOverrideError
from scripts.engines.recipes import RECIPES, choose_recipe
from scripts.engines.stage_runs import StageError
from scripts.losses import OBJECTIVES

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
FOUR = ["weak_to_strong", "less_net", "local_contrast", "supervised"]


class Runner:
    """Stands in for the processes: writes what each would write, Dice on validation and test as it is told."""

    def __init__(self, dice: dict[str, tuple[float, float]], fails: str = "") -> None:
        self.dice, self.fails = dice, fails
        self.started: list[dict[str, Any]] = []

    def __call__(self, command: list[str], folder: Path) -> int:
        given = {key: DefaultParseValue(value) for key, value in zip(command[4::2], command[5::2], strict=True)}
        run = Path(given["--output_dir"]) / given["--run_name"]
        recipe = run.parent.name
        self.started.append(given | {"recipe": recipe})
        if recipe == self.fails:
            return 3
        run.mkdir(parents=True, exist_ok=True)
        if run.name.endswith("train"):
            validation, test = self.dice[recipe]
            (run / "metrics.csv").write_text(f"epoch,val_dice\n1,{validation}\n2,{validation - 0.1}\n3,\n")
            figures = {"dice": {"value": test}, "iou": {"value": test - 0.1}}
            (run / "test_metrics.json").write_text(json.dumps({"best": {"figures": figures}}))
        (run / "manifest.json").write_text(f"frames of {recipe}")
        (run / "model.pt").write_text(f"{recipe} {run.name}")
        return 0


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "recipes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def choose(folder: Path, runner: Runner, recipes: list[str] | None = None, **more: Any) -> Path:
    return choose_recipe(BUNDLE, folder, FOUR if recipes is None else recipes, 6, start=runner, **more)


#: the best on test is not the best on validation
DICE = {
    "weak_to_strong": (0.8, 0.7),
    "less_net": (0.7, 0.9),
    "local_contrast": (0.85, 0.75),
    "supervised": (0.85, 0.6),
}


def test_the_best_on_validation_is_kept_whatever_the_test_split_says(tmp_path: Path) -> None:
    model = choose(tmp_path, Runner(DICE))
    assert model == tmp_path / "model.pt" and model.read_text() == "local_contrast 2_train", "the first of equals"
    assert (tmp_path / "manifest.json").read_text() == "frames of local_contrast"
    rows = table(tmp_path)
    assert [row["recipe"] for row in rows] == FOUR
    assert [row["chosen"] for row in rows] == ["", "", "yes", ""]
    assert [float(row["val_dice"]) for row in rows] == [0.8, 0.7, 0.85, 0.85]
    assert [float(row["test_dice"]) for row in rows] == [0.7, 0.9, 0.75, 0.6]
    assert [float(row["test_iou"]) for row in rows] == pytest.approx([0.6, 0.8, 0.65, 0.5])
    assert [Path(row["run_dir"]).name for row in rows] == ["1_train", "1_train", "2_train", "1_train"]


def test_what_each_is_given(tmp_path: Path) -> None:
    runner = Runner(DICE)
    choose(
        tmp_path,
        runner,
        train_options={"max_epochs": 9, "val_interval": None},
        options={"less_net": {"max_epochs": 4, "network_def::dropout": 0.2}},
        common={"dataset_dir": "/data/x", "seed": 3, "image_size": None, "encoder_weights": "w.pt"},
    )
    assert [given["recipe"] for given in runner.started] == [*FOUR[:3], FOUR[2], FOUR[3]]
    layers = [Path(given["--config_file"][1]).stem for given in runner.started]
    assert layers == ["weak_to_strong", "less_net", "pretrain_local_contrastive", "weak_to_strong", "train_supervised"]
    assert [given["--max_epochs"] for given in runner.started] == [9, 4, 6, 9, 9]
    assert [given.get("--network_def::dropout") for given in runner.started] == [None, 0.2, None, None, None]
    assert [given["--encoder_weights"] for given in runner.started] == ["w.pt", "w.pt", "w.pt", "none", "w.pt"]
    assert all((given["--seed"], given["--dataset_dir"]) == (3, "/data/x") for given in runner.started)
    assert not {"--val_interval", "--image_size"} & {key for given in runner.started for key in given}
    starts = [given.get("--init_checkpoint") for given in runner.started]
    before = str(tmp_path / "local_contrast" / "1_pretrain_local_contrastive" / "model.pt")
    assert starts == [None, None, None, before, None]


def test_the_same_call_goes_on(tmp_path: Path) -> None:
    runner = Runner(DICE, fails="local_contrast")
    with pytest.raises(StageError, match=r"pretrain_local_contrastive failed \(exit code 3\)"):
        choose(tmp_path, runner)
    assert not (tmp_path / "model.pt").exists() and not (tmp_path / "recipes.csv").exists()
    runner.fails = ""
    choose(tmp_path, runner)
    assert [given["recipe"] for given in runner.started] == [*FOUR[:3], "local_contrast", "local_contrast", FOUR[3]]


@pytest.mark.parametrize(
    ("recipes", "more", "message"),
    [
        (["supervised", "les_net"], {}, "recipe 'les_net' is unknown; did you mean 'less_net'"),
        (["supervised"], {}, "expected two or more of"),
        ([], {}, "expected two or more of"),
        (["supervised", "less_net", "supervised"], {}, "each once"),
        (["supervised", "less_net"], {"options": {"mean_teacher": {"seed": 1}}}, "name the recipe 'mean_teacher', and"),
        (["supervised", "less_net"], {"options": {"less_net": {"run_name": "x"}}}, "sets run_name itself"),
        (["supervised", "less_net"], {"extra_configs": ["configs/unett.json"]}, "unett.json does not exist"),
        (["supervised", "less_net"], {"common": {"split": [0.7, 0, 0.3]}}, "compared on validation, and it has none"),
    ],
)
def test_refused_before_anything_is_run(recipes: list[str], more: dict[str, Any], message: str, tmp_path: Path) -> None:
    runner = Runner(DICE)
    with pytest.raises(StageError, match=message):
        choose(tmp_path / "chain", runner, recipes, **more)
    assert not runner.started and not (tmp_path / "chain").exists()


def test_a_mistyped_id_of_the_last_recipe_stops_the_first(tmp_path: Path) -> None:
    runner = Runner(DICE)
    with pytest.raises(UnknownOverrideError, match="--lerning_rate: .*did you mean --learning_rate"):
        choose(tmp_path / "chain", runner, options={"supervised": {"lerning_rate": 1}})
    assert not runner.started and not (tmp_path / "chain").exists()


def test_a_run_without_validation_cannot_be_compared(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val_dice\n1,\n2,nan\n")
    with pytest.raises(StageError, match="no validation Dice, by which runs are compared; give --split"):
        shipped_validation(tmp_path)


def test_runs_are_compared_by_the_epoch_that_they_ship(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val_dice\n1,0.5\n2,0.4\n3,nan\n")
    (tmp_path / "config.json").write_text('{"shipped_epoch": "best"}')
    assert shipped_validation(tmp_path) == 0.5
    (tmp_path / "config.json").write_text('{"shipped_epoch": "last"}')
    assert shipped_validation(tmp_path) == 0.4
    metrics = {"validation": {"epoch": 3, "figures": {"dice": {"value": 0.45}}}}
    (tmp_path / "test_metrics.json").write_text(json.dumps(metrics))
    assert shipped_validation(tmp_path) == 0.45, "the last epoch was not validated while it learned"


def test_a_run_that_was_not_tested_has_no_test_figures(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val_dice\n1,0.5\n2,nan\n3,0.4\n")
    found = {"val_dice": 0.5, "test_dice": None, "test_iou": None, "run_dir": str(tmp_path)}
    assert figures_of(tmp_path) == found
    (tmp_path / "test_metrics.json").write_text('{"key_metric": "val_dice", "validation": {"figures": {}}}')
    assert figures_of(tmp_path) == found, "a split without a test part"


def test_every_recipe_ends_in_an_objective_that_needs_nothing_else() -> None:
    assert {objective for _, objective in RECIPES.values()} == set(OBJECTIVES) - {"pseudo_labels"}
