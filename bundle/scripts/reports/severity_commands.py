"""What to type after a run on severity."""

from __future__ import annotations

import shlex
from pathlib import Path

from scripts.reports.command_line import RUN, Command, given, list_argument, same_split
from scripts.reports.run_files import RunFiles

LAYERS = ("train.json", "severity.json")
DATA = ("dataset_dir", "severity_table", "label_fraction", "value_map", "grades", "image_size")
BACKBONE = "mobilenetv2_100"  # of network_def's preset


def severity_commands(run: RunFiles, configs: Path) -> list[Command]:
    """After a pretraining the training of grades, of a segmentation, and scores; after a training grades, figures."""
    root, model = ["--bundle_root", str(configs.parent)], str(run.path / "model.pt")
    network = given(run, ("backbone",))
    folders = ["--dataset_dir", "FOLDER_WITH_IMAGES", "--output_dir", "FOLDER_FOR_RESULTS"]
    weights = ["--checkpoint", model, *network, *given(run, ("image_size",))]
    if not run.of_pretraining:
        place = ["--output_dir", str(run.path.parent), "--run_name", run.path.name]
        again = [*root, "--checkpoint", model, *network, *given(run, DATA), *same_split(run), *place]
        return [
            _command(
                "Grade every picture of a folder (put your own two folders for the words in capitals):",
                configs, ("inference_severity.json",), [*root, *weights, *given(run, ("grades",)), *folders],
            ),
            _command(
                "Measure this model on its test split again:",
                configs, ("train_severity.json", "evaluate_severity.json"), again,
            ),
        ]  # fmt: skip
    start = [*root, "--encoder_weights", model, *network]
    # With the same seed and split a set of masks is divided as it was here: the encoder has not seen its test frames.
    segment = ["--dataset_dir", "DATASET_WITH_MASKS", "--encoder_weights", model, *same_split(run)]
    backbone = run.config.get("backbone", BACKBONE)
    segment += ["--network_def::backbone", backbone] if backbone != BACKBONE else []
    commands = [
        _command(
            "Train to grade from this encoder, on the same split (name the grades, healthy first):",
            configs, ("train_severity.json",),
            [*start, *given(run, tuple(name for name in DATA if name != "grades")), *same_split(run),
             "--grades", "['healthy','mild']"],
        ),
        Command(
            "Train a segmentation from this encoder, on a data set with masks (in the place of the word in capitals):",
            shlex.join([*RUN, "--config_file", str(configs / "train.json"), *segment, *root]),
        ),
    ]  # fmt: skip
    if run.config.get("objective") != "semise":
        return commands
    score = _command(
        "Score every picture of a folder by its distance from healthy (your own folders for the words in capitals):",
        configs, ("inference_severity.json",),
        [*root, "--score", "distance", *weights, *given(run, ("projection_channels",)), *folders],
    )  # fmt: skip
    return [*commands, score]


def _command(purpose: str, configs: Path, layers: tuple[str, ...], words: list[str]) -> Command:
    files = list_argument([configs / name for name in (*LAYERS, *layers)])
    return Command(purpose, f"{shlex.join(RUN)} --config_file {files} {shlex.join(words)}")
