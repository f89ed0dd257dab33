"""Recipes side by side by choose_recipe.json, each in a process of its own, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from whole_run import TINY

from scripts.engines.overrides import UnknownOverrideError
from scripts.engines.stage_runs import StageError

#: ids of the comparison itself; the others are of the trainings
SHARED = ("image_size", "max_epochs", "split", "encoder_weights")


def test_two_recipes_and_the_better_one(run_config: Any, frames_dir: Path, tmp_path: Path) -> None:
    """Two, since each takes seconds to start."""
    numbers = {name: value for name, value in TINY.items() if name not in SHARED}
    recipes, folder = ["less_net", "supervised"], tmp_path / "frames_recipes_labels0.5_seed0"
    run_config(
        "choose_recipe", dataset_dir=str(frames_dir), output_dir=str(tmp_path), label_fraction=0.5, recipes=recipes,
        options=dict.fromkeys(recipes, numbers), **{name: TINY[name] for name in SHARED},
    )  # fmt: skip
    with (folder / "recipes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recipe"] for row in rows] == recipes
    runs = [folder / recipe / "1_train" for recipe in recipes]
    assert [row["run_dir"] for row in rows] == [str(run) for run in runs]
    for run, row in zip(runs, rows, strict=True):
        figures = json.loads((run / "test_metrics.json").read_text())["best"]["figures"]
        assert float(row["test_dice"]) == pytest.approx(figures["dice"]["value"], abs=1e-4)
    manifests = [json.loads((run / "manifest.json").read_text()) for run in runs]
    training, test = (
        [
            sorted((one["file"], one["sha256"]) for one in manifest["files"] if one["section"] == section)
            for manifest in manifests
        ]
        for section in ("training", "test")
    )
    assert training[0] == training[1] and test[0] == test[1], "the same masks and the same split"

    best = max(rows, key=lambda row: float(row["val_dice"]))
    assert [row["chosen"] for row in rows] == ["yes" if row is best else "" for row in rows]
    assert f"Kept: {best['recipe']}" in (folder / "recipes.html").read_text()
    assert torch.load(folder / "model.pt", weights_only=True)["epoch"] in (1, 2)
    assert (folder / "model.pt").read_bytes() == (Path(best["run_dir"]) / "model.pt").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"recipe": ["less_net"]}, UnknownOverrideError, "choose_recipe.json has no such id; did you mean --recipes"),
        ({"recipes": ["fixmatch", "supervised"]}, StageError, "recipe 'fixmatch' is unknown; did you mean"),
        ({"options": {"less_net": {"max_epoch": 1}}}, UnknownOverrideError, "did you mean --max_epochs"),
        ({"extra_configs": ["configs/volume.json"]}, StageError, "volume.json does not exist"),
    ],
)
def test_bad_input_begins_nothing(
    wrong: dict[str, Any], error: type[Exception], message: str, run_config: Any, frames_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run_config("choose_recipe", **({"dataset_dir": str(frames_dir), "output_dir": str(tmp_path)} | wrong))
    assert not list(tmp_path.iterdir()), "nothing was begun"
