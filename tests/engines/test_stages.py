"""The chain: what is planned, what is refused before it starts, what is skipped, and how it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from scripts.engines.overrides import UnknownOverrideError
from scripts.engines.stage_runs import Chain, Stage, StageError, as_argument, start_process
from scripts.engines.stages import STAGES, chain_name, plan_stages, run_stages

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
ALL = list(STAGES)


class Starter:
    """Stands where a process would be started: notes the command and writes the weights that a run would."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.started: list[str] = []
        self.weights = "weights of "

    def __call__(self, command: list[str], folder: Path) -> int:
        assert folder == BUNDLE and command[:4] == [sys.executable, "-m", "monai.bundle", "run"]
        given = dict(zip(command[4::2], command[5::2], strict=True))
        name = given["--run_name"]
        self.started.append(name)
        if name == self.fails:
            return 3
        run = Path(given["--output_dir"]) / name
        run.mkdir(exist_ok=True)
        for file in ("last.pt", "model.pt"):
            (run / file).write_text(self.weights + name)
        return 0


def run(chain: Path, start: Any, stages: list[str] | None = None, **changes: Any) -> Path:
    return run_stages(BUNDLE, chain, ALL if stages is None else stages, start=start, **changes)


def record(chain: Path) -> dict[str, dict[str, Any]]:
    return json.loads((chain / "stages.json").read_text())["stages"]


def test_what_is_run(tmp_path: Path) -> None:
    options = {"train": {"max_epochs": 3, "network_def::dropout": 0.2}}
    common = {"dataset_dir": "/data/x", "split": [0.6, 0.2, 0.2], "image_size": None, "encoder_weights": "w.pt"}
    plan = plan_stages(BUNDLE, tmp_path, ALL, "mean_teacher", ["configs/volumes.json"], options, common)
    assert [stage.files for stage in plan] == [
        ["configs/train.json", f"configs/{layer}.json", "configs/volumes.json"]
        for layer in ("pretrain_global", "pretrain_local_contrastive", "mean_teacher")
    ]
    assert [stage.overrides["encoder_weights"] for stage in plan] == ["w.pt", "none", "none"]
    assert [stage.run_dir for stage in plan] == [tmp_path / f"{n}_{name}" for n, name in enumerate(ALL, 1)]
    words = plan[2].command({"init_checkpoint": "/runs/model.pt"})
    given = {name: DefaultParseValue(value) for name, value in zip(words[4::2], words[5::2], strict=True)}
    assert given["--config_file"] == plan[2].files
    assert given["--network_def::dropout"] == 0.2 and given["--max_epochs"] == 3
    assert given["--split"] == [0.6, 0.2, 0.2] and given["--init_checkpoint"] == "/runs/model.pt"
    assert "--init_checkpoint" not in plan[0].command() and "--max_epochs" not in plan[0].command()
    assert plan_stages(BUNDLE, tmp_path, ["train"], "supervised", [], {}, {})[0].files[1] == (
        "configs/train_supervised.json"
    )


@pytest.mark.parametrize("value", ["a,b", "1e5", "None", "none", "", "/a b/c,d", 1, 0.1, True, [0.6, "a"], {"a": 1}])
def test_values_survive_the_command_line(value: Any) -> None:
    read = DefaultParseValue(as_argument(value))
    assert read == value and type(read) is type(value)


def test_none_is_a_word_that_monai_does_not_pass_over() -> None:
    parser = ConfigParser({"max_gradient_norm": DefaultParseValue(as_argument(None))})
    assert parser.get_parsed_content("max_gradient_norm") is None


def test_what_has_no_words_is_refused() -> None:
    with pytest.raises(StageError, match="cannot be given on a command line"):
        as_argument(object())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ["pretrain_globl", "train"]}, "'pretrain_globl' is unknown; did you mean 'pretrain_global'"),
        ({"stages": ["train", "pretrain_global"]}, "expected some of .* in this order"),
        ({"stages": ["train", "train"]}, "each once"),
        ({"stages": []}, "expected some of"),
        ({"options": {"trian": {}}}, "'trian' is unknown; did you mean 'train'"),
        ({"stages": ["train"], "options": {"pretrain_global": {"seed": 1}}}, "name the stage 'pretrain_global', and"),
        ({"options": {"train": {"run_name": "x"}}}, "sets run_name itself"),
        ({"objective": "supervized"}, "did you mean 'supervised'"),
        ({"extra_configs": ["configs/unett.json"]}, "unett.json does not exist; give a path from"),
        ({"init_checkpoint": "nowhere.pt"}, "nowhere.pt does not exist"),
    ],
)
def test_refused_before_anything_is_run(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    start = Starter()
    with pytest.raises(StageError, match=message):
        run(tmp_path / "chain", start, **changes)
    assert not start.started and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("stage", "wrong", "near"),
    [
        ("pretrain_global", "temperatur", "temperature"),
        ("pretrain_local_contrastive", "contrast_blok", "contrast_block"),
        ("train", "lerning_rate", "learning_rate"),
        ("train", "network_def::dropot", "network_def::dropout"),
    ],
)
def test_a_mistyped_id_of_any_stage_stops_the_first(stage: str, wrong: str, near: str, tmp_path: Path) -> None:
    start = Starter()
    with pytest.raises(UnknownOverrideError, match=f"--{wrong}: train.json.*did you mean --{near}"):
        run(tmp_path / "chain", start, options={stage: {wrong: 1}})
    assert not start.started and not (tmp_path / "chain").exists()


def test_an_id_of_another_stage_is_mistyped_too(tmp_path: Path) -> None:
    with pytest.raises(UnknownOverrideError, match="--contrast_block"):
        run(tmp_path, Starter(), options={"train": {"contrast_block": 16}})


def test_each_stage_begins_from_the_one_before(tmp_path: Path) -> None:
    assert run(tmp_path, Starter()) == tmp_path / "3_train" / "model.pt"
    stages = record(tmp_path)
    assert list(stages) == ["1_pretrain_global", "2_pretrain_local_contrastive", "3_train"]
    starts = [stage["inputs"].get("init_checkpoint", {}).get("file") for stage in stages.values()]
    assert starts == [None, *(stage["result"] for stage in list(stages.values())[:2])]
    assert all(stage["finished"] for stage in stages.values())
    for stage in list(stages.values())[1:]:
        assert f"--init_checkpoint {stage['inputs']['init_checkpoint']['file']}" in stage["command"]


def test_a_failed_stage_is_named_and_the_finished_are_skipped(tmp_path: Path) -> None:
    start = Starter(fails="2_pretrain_local_contrastive")
    with pytest.raises(StageError, match=r"Stage 2 of 3, pretrain_local_contrastive failed \(exit code 3\).*skipped"):
        run(tmp_path, start)
    assert [stage["finished"] for stage in record(tmp_path).values()] == [True, False]
    start.fails = ""
    run(tmp_path, start)
    assert start.started == ["1_pretrain_global", *2 * ["2_pretrain_local_contrastive"], "3_train"]
    run(tmp_path, start)
    assert len(start.started) == 4, "all is finished"
    # A stage that is changed is run again (its run directory decides whether that is a continuation).
    run(tmp_path, start, options={"train": {"max_epochs": 50}})
    assert start.started[4:] == ["3_train"]


def test_a_stage_begun_from_other_weights_is_not_continued(tmp_path: Path) -> None:
    start = Starter()
    run(tmp_path, start)
    start.weights = "other weights of "
    with pytest.raises(
        StageError, match="2_pretrain_local_contrastive was begun from another init_checkpoint.*--run_name"
    ):
        run(tmp_path, start, options={"pretrain_global": {"max_epochs": 50}})
    assert start.started[3:] == ["1_pretrain_global"]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: (data / "masks/frame_01.png").write_bytes((data / "masks/frame_02.png").read_bytes()),
        lambda data: (data / "masks/frame_01.png").unlink(),
        lambda data: (data / "groups.csv").write_text("file,group\nframe_00.png,other\n"),
        lambda data: (data / "unlabeled/new.png").write_bytes((data / "images/frame_00.png").read_bytes()),
    ],
)
def test_finished_stages_are_not_skipped_over_other_data(tiny_dataset: Path, tmp_path: Path, change: Any) -> None:
    start, common = Starter(), {"dataset_dir": str(tiny_dataset)}
    run(tmp_path / "chain", start, common=common)
    (tiny_dataset / "notes.txt").write_text("no part of it")
    for path in tiny_dataset.rglob("*.png"):
        path.touch()
    run(tmp_path / "chain", start, common=common)
    assert len(start.started) == 3, "all is finished"
    change(tiny_dataset)
    with pytest.raises(StageError, match=r"Stage 1 of 3.*1_pretrain_global is finished, on other data than .*run_name"):
        run(tmp_path / "chain", start, common=common)
    assert len(start.started) == 3


def test_a_stage_that_leaves_no_weights_has_failed(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Stage 1 of 3, pretrain_global failed .*model.pt was not written"):
        run(tmp_path, lambda command, folder: 0)


def test_a_process_of_its_own(tmp_path: Path) -> None:
    code = "import os, sys; open('here', 'w').write(str(os.getpid())); sys.exit(3)"
    assert start_process([sys.executable, "-c", code], tmp_path) == 3
    assert (tmp_path / "here").is_file()


def test_names() -> None:
    assert chain_name("/d/kvasir", ALL, "supervised", 0.1, 0) == "kvasir_global_local_supervised_labels0.1_seed0"
    assert chain_name("/d/kvasir", ALL[1:], "mean_teacher", 1.0, 2) == "kvasir_local_mean_teacher_labels1_seed2"


def test_a_result_that_began_from_other_files_is_made_anew(tmp_path: Path) -> None:
    """A stage without last.pt (mining) is neither continued nor kept when what it began from has changed."""
    first, began = tmp_path / "model.pt", []

    def start(command: list[str], folder: Path) -> int:
        began.append(first.read_text())
        (tmp_path / "chain" / "mine").mkdir(exist_ok=True)
        (tmp_path / "chain" / "mine" / "list.json").write_text(first.read_text())
        return 0

    stage = Stage("mine", ["configs/inference.json"], {}, tmp_path / "chain" / "mine", "list.json")
    for weights in ("old", "old", "new"):
        first.write_text(weights)
        Chain(BUNDLE, tmp_path / "chain", start).run(stage, "mine", {"checkpoint": str(first)})
    assert began == ["old", "new"] and (stage.run_dir / "list.json").read_text() == "new"
