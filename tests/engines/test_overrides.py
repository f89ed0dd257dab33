"""Mistyped names are refused with the nearest one, all that is meant is let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from scripts.engines.overrides import (
    TRACKING_IDS,
    MisspeltValueError,
    PassedOverError,
    UnknownOverrideError,
    refuse_unknown_overrides,
    running_config,
    running_workflow,
)
from scripts.engines.short_errors import first_cause

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def check(*layers: str, run_id: str = "training#1", **overrides: Any) -> None:
    """Run the check alone of a config with overrides, which the command line gives with # or :: between names."""
    files = [str(BUNDLE / "configs" / layer) for layer in layers or ("train.json",)]
    workflow = ConfigWorkflow(
        files,
        logging_file=False,
        run_id=run_id,
        **{name.replace("__", "#"): value for name, value in overrides.items()},
    )
    try:
        workflow.run()
    except Exception as error:
        raise first_cause(error) from None


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("max_epoch", "max_epochs"),
        ("lerning_rate", "learning_rate"),
        ("data_dir", "dataset_dir"),
        ("objectiv", "objective"),
        ("train__iterations", None),
    ],
)
def test_a_mistyped_name_gets_the_nearest(wrong: str, near: str | None) -> None:
    with pytest.raises(UnknownOverrideError) as caught:
        check(**{wrong: 1})
    message = str(caught.value)
    assert message.startswith(f"--{wrong.replace('__', '::')}: train.json has no such id; did you mean --")
    if near:
        assert message.endswith(f"did you mean --{near}?")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("network_def__dropot", "network_def::dropout"),
        ("network_def__presett", "network_def::preset"),
        ("train__dataloader__batchsize", "train::dataloader::batch_size"),
        ("train__labeled_view__huee", "train::labeled_view::hue"),
        ("validate__dataloader__batchsize", "validate::dataloader::batch_size"),
    ],
)
def test_a_mistyped_name_inside_of_a_component(wrong: str, near: str) -> None:
    with pytest.raises(UnknownOverrideError, match=rf"^--{wrong.replace('__', '::')}: .*did you mean --{near}\?$"):
        check(**{wrong: 1})


@pytest.mark.parametrize(
    "right",
    [
        {"max_epochs": 1, "dataset_dir": "/data", "label_fraction": 0.1, "seed": 3, "objective": "less_net"},
        {"network_def__preset": "published", "network_def__dropout": 0.2},
        {"network_def__backbone": "mobilevit_xs"},  # an argument that train.json does not give
        {"network_def__context_layers": 0},  # a field of the preset, which LESSNet takes as one of **overrides
        {"train__dataloader__num_workers": 2},
        {"train__labeled_view__grayscale": 0.1},
        {"validate__dataloader__sampler": {"_target_": "DistributedSampler", "dataset": "@validate#dataset"}},
        {"objective_options": {"threshold": 0.9, "weighting": "softmatch"}},
        {"objective_options__threshold": 0.9},
        {"optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.1}},
        {"_desc_#seed": "a comment"},
        {"resume": False, "value_map": None, "encoder_weights": "none"},
    ],
    ids=lambda right: ",".join(right),
)
def test_what_is_meant_is_let_through(right: dict[str, Any]) -> None:
    check(**right)


@pytest.mark.parametrize(("name", "word", "cure"), [
    ("resume", "false", "--resume False"),
    ("unlabeled_data", "true", "--unlabeled_data True"),
    ("value_map", "null", r"--value_map '\$None'"),
    ("objective_options__flip_averaging", "false", "--objective_options::flip_averaging False"),
])  # fmt: skip
def test_a_switch_spelt_as_in_json_is_refused(name: str, word: str, cure: str) -> None:
    """MONAI hands it on as a word, and every word is true."""
    with pytest.raises(MisspeltValueError, match=f"{cure}$"):
        check("train.json", "weak_to_strong.json", **{name: word})


COMMAND = "/site-packages/monai/bundle/__main__.py"


@pytest.mark.parametrize("words", [("--cache_gb", "None"), ("--cache_gb=None",), ("--network_def::dropout", "None")])
def test_a_none_that_monai_passes_over_is_refused(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr("sys.argv", [COMMAND, "run", "--config_file", "train.json", *words])
    name = words[0].removeprefix("--").removesuffix("=None")
    with pytest.raises(PassedOverError, match=rf"^--{name} None is passed over.*: give --{name} '\$None'$"):
        check()


@pytest.mark.parametrize("words", [
    (COMMAND, "run", "--max_gradient_norm", "None", "--meta_file", "None"),  # None anyway, and MONAI's own
    (COMMAND, "run", "--cache_gb", "$None"),
    (COMMAND, "run", "--cache_gb"),
    ("/bin/pytest", "--cache_gb", "None"),
])  # fmt: skip
def test_other_nones_are_let_through(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr("sys.argv", list(words))
    check()


def test_ids_of_tracking_are_let_through() -> None:
    assert {"experiment_name", "tracking_uri", "handlers_id"} <= TRACKING_IDS
    check(**{name: "x" for name in TRACKING_IDS - {"configs", "handlers"}})


@pytest.mark.parametrize("objective", ["less_net", "less_net_published", "mean_teacher", "weak_to_strong"])
def test_shipped_layers_are_let_through(objective: str) -> None:
    check("train.json", f"{objective}.json")


@pytest.mark.parametrize("layers", [("train_supervised.json",), ("multi_gpu_train.json",)])
def test_more_shipped_layers_are_let_through(layers: tuple[str, ...]) -> None:
    check("train.json", *layers)


def test_evaluation_is_layered_over_training() -> None:
    check("train.json", "evaluate.json", run_id="evaluating#1", checkpoint="a.pt", evaluation_dir="out", seed=1)
    check("train.json", "evaluate.json", "multi_gpu_evaluate.json", run_id="evaluating#1")
    with pytest.raises(UnknownOverrideError, match=r"train.json \+ evaluate.json .*did you mean --checkpoint\?"):
        check("train.json", "evaluate.json", run_id="evaluating#1", chekpoint="a.pt")
    with pytest.raises(UnknownOverrideError):  # which means nothing to a training
        check(checkpoint="a.pt")


def test_inference_has_names_of_its_own() -> None:
    check("inference.json", run_id="evaluating#1", dataset_dir="/frames", flip=False, network_def__preset="published")
    with pytest.raises(UnknownOverrideError, match="inference.json has no such id; did you mean --overlays"):
        check("inference.json", run_id="evaluating#1", overlay=False)


def test_running_config_has_overrides_and_resolved_values(tmp_path: Path) -> None:
    files = [str(BUNDLE / "configs" / "train.json")]
    expression = {"_target_": "scripts.engines.overrides.running_config"}
    workflow = ConfigWorkflow(
        files, logging_file=False, seed=7, output_dir=str(tmp_path), dataset_dir="/data/polyps",
        training=["$@run_dir", expression],
    )  # fmt: skip
    config = workflow.run()[0][1]
    assert config["seed"] == 7
    assert config["run_dir"] == str(tmp_path / "polyps_weak_to_strong_labels1_seed7")
    assert config["optimizer"]["lr"] == "@learning_rate", "components stay as they are written"
    assert "_meta_" not in config


def test_outside_of_a_config_there_is_no_workflow() -> None:
    for function in (running_workflow, running_config, lambda: refuse_unknown_overrides("train.json")):
        with pytest.raises(RuntimeError, match="inside of a config"):
            function()
