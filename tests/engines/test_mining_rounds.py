"""The rounds of knowledge mining: what each is given, when they end, which network is kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue

from scripts.engines.mining_rounds import plan_rounds, run_mining_rounds
from scripts.engines.overrides import UnknownOverrideError
from scripts.engines.stage_runs import StageError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


class Runner:
    """Stands in for the processes: writes what each would write, validation Dice as it is told."""

    def __init__(self, dice: list[float], mined: int = 5, fails: str = "") -> None:
        self.dice, self.mined, self.fails = dice, mined, fails
        self.started: list[dict[str, Any]] = []

    def __call__(self, command: list[str], folder: Path) -> int:
        given = {key: DefaultParseValue(value) for key, value in zip(command[4::2], command[5::2], strict=True)}
        mining = "--run_name" not in given
        run = Path(given["--output_dir"]) / ("" if mining else given["--run_name"])
        self.started.append(given | {"part": run.name})
        if run.name == self.fails:
            return 3
        run.mkdir(parents=True, exist_ok=True)
        if mining:
            (run / "mining.json").write_text(json.dumps({"pseudo_labels": self.mined, "frames": 9, "mean_weight": 0.8}))
            (run / "pseudo_labels.json").write_text(json.dumps({"of": given["--checkpoint"]}))
        else:
            dice = self.dice[int(run.name[0])]
            (run / "metrics.csv").write_text(f"epoch,val_dice\n1,{dice - 0.1}\n2,{dice}\n3,{dice - 0.2}\n4,\n")
            (run / "model.pt").write_text(run.name)
        return 0

    @property
    def parts(self) -> list[str]:
        return [given["part"] for given in self.started]


def rounds_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "rounds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_round_begins_from_the_one_before(tmp_path: Path) -> None:
    runner = Runner([0.5, 0.6, 0.7])
    common = {
        "dataset_dir": "/data/x", "label_fraction": 0.1, "split": [0.6, 0.2, 0.2], "encoder_weights": "w.pt",
        "image_size": None, "segmenter": "random_walker", "precision": "bf16",
    }  # fmt: skip
    options = {"fine_tune": {"max_epochs": 3}, "mine": {"rules::agreement": 0.7}}
    assert run_mining_rounds(BUNDLE, tmp_path, 2, options=options, common=common, start=runner) == tmp_path / "model.pt"
    assert runner.parts == ["0_train", "1_mine", "1_fine_tune", "2_mine", "2_fine_tune"]
    train, mine, fine_tune, again, last = runner.started
    assert (train["--label_fraction"], train["--encoder_weights"], train["--precision"]) == (0.1, "w.pt", "bf16")
    assert train["--config_file"] == ["configs/train.json", "configs/train_supervised.json"]
    assert mine["--checkpoint"] == str(tmp_path / "0_train" / "model.pt") and mine["--rules::agreement"] == 0.7
    assert (mine["--label_fraction"], mine["--split"], mine["--segmenter"]) == (0.1, [0.6, 0.2, 0.2], "random_walker")
    assert not {"--precision", "--encoder_weights", "--image_size"} & set(mine)
    assert fine_tune["--init_checkpoint"] == mine["--checkpoint"]
    assert fine_tune["--dataset_dir"] == str(tmp_path / "1_mine" / "pseudo_labels.json")
    assert not {"--label_fraction", "--segmenter"} & set(fine_tune), "the datalist has its own sections"
    assert fine_tune["--split"] == [0.6, 0.2, 0.2], "a part without frames must not be taken out of the others"
    assert (fine_tune["--encoder_weights"], fine_tune["--max_epochs"]) == ("none", 3)
    assert again["--checkpoint"] == last["--init_checkpoint"] == str(tmp_path / "1_fine_tune" / "model.pt")


@pytest.mark.parametrize(
    ("dice", "parts", "kept"),
    [
        ([0.5, 0.6, 0.7, 0.8], 7, "3_fine_tune"),
        ([0.5, 0.6, 0.6, 0.8], 5, "1_fine_tune"),  # the second does not rise: no third
        ([0.5, 0.4, 0.9, 0.9], 3, "0_train"),
    ],
)
def test_rounds_end_when_validation_stops_rising(dice: list[float], parts: int, kept: str, tmp_path: Path) -> None:
    runner = Runner(dice)
    run_mining_rounds(BUNDLE, tmp_path, 3, start=runner)
    assert len(runner.parts) == parts
    assert (tmp_path / "model.pt").read_text() == kept
    rows = rounds_of(tmp_path)
    assert [float(row["val_dice"]) for row in rows] == dice[: len(rows)]
    assert [Path(row["run_dir"]).name for row in rows if row["kept"] == "yes"] == [kept]


def test_rounds_end_when_nothing_was_mined(tmp_path: Path) -> None:
    runner = Runner([0.5, 0.6], mined=0)
    run_mining_rounds(BUNDLE, tmp_path, 2, start=runner)
    assert runner.parts == ["0_train", "1_mine"] and (tmp_path / "model.pt").read_text() == "0_train"


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    runner = Runner([0.5, 0.6, 0.7], fails="2_mine")
    with pytest.raises(StageError, match=r"Round 2 of 2, mine failed \(exit code 3\).*skipped"):
        run_mining_rounds(BUNDLE, tmp_path, 2, start=runner)
    runner.fails = ""
    run_mining_rounds(BUNDLE, tmp_path, 2, start=runner)
    assert runner.parts[4:] == ["2_mine", "2_fine_tune"]
    run_mining_rounds(BUNDLE, tmp_path, 2, start=runner)
    assert len(runner.parts) == 6


def test_a_fine_tuning_that_was_begun_from_other_pseudo_labels_is_refused(tmp_path: Path) -> None:
    run_mining_rounds(BUNDLE, tmp_path, 1, start=Runner([0.5, 0.6]))
    (tmp_path / "1_fine_tune" / "last.pt").write_text("")
    (tmp_path / "1_mine" / "pseudo_labels.json").write_text("{}")
    with pytest.raises(StageError, match="1_fine_tune was begun from another dataset_dir .*pseudo_labels.json"):
        run_mining_rounds(BUNDLE, tmp_path, 1, start=Runner([0.5, 0.6]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rounds": 0}, StageError, "rounds is 0"),
        ({"options": {"fine_tun": {}}}, StageError, "the part 'fine_tun'"),
        ({"options": {"mine": {"checkpoint": "x"}}}, StageError, "sets checkpoint itself"),
        ({"extra_configs": ["configs/unett.json"]}, StageError, "unett.json does not exist"),
        ({"options": {"mine": {"rules::agrement": 0.5}}}, UnknownOverrideError, "did you mean --rules::agreement"),
        ({"options": {"fine_tune": {"max_epoch": 1}}}, UnknownOverrideError, "did you mean --max_epochs"),
    ],
)
def test_refused_before_anything_is_run(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    runner = Runner([0.5])
    with pytest.raises(error, match=message):
        run_mining_rounds(BUNDLE, tmp_path / "chain", **({"rounds": 1} | changes), start=runner)
    assert not runner.started and not (tmp_path / "chain").exists()


def test_a_run_without_validation_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no validation Dice.*--split"):
        run_mining_rounds(BUNDLE, tmp_path, 1, start=Runner([float("nan")]))


def test_networks_are_layered_over_all_parts(tmp_path: Path) -> None:
    plan = plan_rounds(BUNDLE, tmp_path, 1, ["configs/basic_unet.json"], {}, {})
    assert [stage.files[-1] for stage in plan] == ["configs/basic_unet.json"] * 3
