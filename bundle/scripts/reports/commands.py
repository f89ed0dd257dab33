"""What to type next: exact commands for this run, quoted for a POSIX shell."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from scripts.networks import PRESETS
from scripts.reports.command_line import BUNDLE, RUN, Command, given, list_argument, longer, own_layers, same_split
from scripts.reports.run_files import RunFiles
from scripts.reports.severity_commands import severity_commands


def next_commands(run: RunFiles, bundle: Path = BUNDLE) -> list[Command]:
    """Masks for a folder, the same evaluation again, more epochs, TensorBoard; after a pretraining, the training."""
    configs = bundle / "configs"
    curves = Command("Look at all curves:", shlex.join(["tensorboard", "--logdir", str(run.path / "tensorboard")]))
    if run.of_severity:
        return [*severity_commands(run, configs), *longer(run), curves]
    if run.of_pretraining:
        training = _training_of_encoder if run.of_distillation else _training_from
        return [training(run, configs), *longer(run), curves]
    model = ["--bundle_root", str(bundle), "--checkpoint", str(run.path / "model.pt"), *given(run, ("image_size",))]
    model += _network_options(run)
    files = list_argument(_evaluation_layers(run, configs))
    place = ["--output_dir", str(run.path.parent), "--run_name", run.path.name]
    data = _same_data(run)
    # The checkpoint holds the encoder: there is no need to look for its starting weights.
    evaluate = [*model, "--encoder_weights", "none", *data, *place]
    again = Command(
        "Measure this model on its test split again:",
        f"{shlex.join(RUN)} --config_file {files} {shlex.join(evaluate)}",
    )
    masks = _class_masks(run, configs, model) if run.of_classes else _lesion_masks(run, configs, model)
    return [masks, again, *longer(run), curves]


def _lesion_masks(run: RunFiles, configs: Path, model: list[str]) -> Command:
    """Masks of the lesion for a folder."""
    layers = _network_layers(run, configs)
    file = configs / "inference.json"
    files = list_argument([file, *(configs / name for name in layers)]) if layers else shlex.quote(str(file))
    words = list(model)
    if isinstance(run.test_metrics.get("temperature"), float):
        words += ["--temperature", f"{run.test_metrics['temperature']:.4g}"]
    words += ["--dataset_dir", "FOLDER_WITH_IMAGES", "--output_dir", "FOLDER_FOR_MASKS"]
    return Command(
        "Write a mask and an overlay for every image of a folder, and one CSV with areas and a quality flag (put your"
        " own two folders for the words in capitals):",
        f"{shlex.join(RUN)} --config_file {files} {shlex.join(words)}",
    )


def _class_masks(run: RunFiles, configs: Path, model: list[str]) -> Command:
    """Masks of several classes for a folder."""
    taken = ("train.json", "volumes.json", "evaluate.json", "train_supervised.json")
    layers = [name for name in own_layers(run, configs) if name not in taken]
    files = list_argument([configs / name for name in (*taken[:2], *layers, "predict_classes.json")])
    words = [*model, *given(run, ("classes", "value_map"))]
    words += ["--dataset_dir", "FOLDER_WITH_IMAGES", "--output_dir", "FOLDER_FOR_MASKS"]
    return Command(
        "Write the classes of every volume or picture of a folder (put your own folders for the words in capitals):",
        f"{shlex.join(RUN)} --config_file {files} {shlex.join(words)}",
    )


def _training_from(run: RunFiles, configs: Path) -> Command:
    """The training that starts from a pretraining."""
    layers = [name for name in own_layers(run, configs) if not name.startswith(("train", "pretrain_"))]
    files = list_argument([configs / name for name in ("train.json", "train_supervised.json", *layers)])
    start = ["--bundle_root", str(configs.parent), "--init_checkpoint", str(run.path / "model.pt")]
    start += ["--encoder_weights", "none", *_same_data(run)]
    start += given(run, ("image_size",)) + _network_options(run)
    return Command(
        "Train from these weights, on the same split and the same labels (for a semi-supervised training put its config"
        " in the place of train_supervised.json):",
        f"{shlex.join(RUN)} --config_file {files} {shlex.join(start)}",
    )


def _training_of_encoder(run: RunFiles, configs: Path) -> Command:
    """The training of LESSNet that starts from a distilled encoder."""
    backbone = str(run.config.get("backbone"))
    preset = f"lite_{backbone}"
    start = ["--bundle_root", str(configs.parent), "--encoder_weights", str(run.path / "model.pt")]
    start += ["--network_def::preset", preset] if preset in PRESETS else ["--network_def::backbone", backbone]
    labelled = (run.manifest.get("counts") or {}).get("training", {}).get("labelled")
    data = given(run, ("dataset_dir",)) if labelled else ["--dataset_dir", "DATASET_WITH_MASKS"]
    return Command(
        "Train LESSNet from this encoder, on the same split (put a data set with masks for a word in capitals):",
        f"{shlex.join(RUN)} --config_file {shlex.quote(str(configs / 'train.json'))} "
        f"{shlex.join([*start, *data, *given(run, ('label_fraction',)), *same_split(run)])}",
    )


def _same_data(run: RunFiles) -> list[str]:
    """The run's frames, its labels, and their split."""
    values = ("value_map", "classes") if run.config.get("value_map") else ()
    return [*given(run, ("dataset_dir", "label_fraction", *values)), *same_split(run)]


def _evaluation_layers(run: RunFiles, configs: Path) -> list[Path]:
    """The configs of an evaluation: what the run's own command layered, where it shapes the network and the classes."""
    if not run.of_classes:
        return [configs / name for name in ("train.json", *_network_layers(run, configs), "evaluate.json")]
    own = own_layers(run, configs)
    first = [name for name in ("train.json", "volumes.json") if name not in own]
    kept = [name for name in own if name != "evaluate.json"]
    return [configs / name for name in (*first, *kept, "evaluate.json")]


def _network_layers(run: RunFiles, configs: Path) -> list[str]:
    """Those of the run's own layers that put another network into network_def."""
    layers = [name for name in own_layers(run, configs) if name not in ("train.json", "inference.json")]
    contents = {name: json.loads((configs / name).read_text(encoding="utf-8")) for name in layers}
    return [name for name, content in contents.items() if "network_def" in content]


def _network_options(run: RunFiles) -> list[str]:
    """What makes the network's shape, as command-line options; the rest is in the checkpoint or does not matter."""
    definition = run.config.get("network_def")
    options = []
    for name, value in (definition if isinstance(definition, dict) else {}).items():
        shapeless = name.startswith("_") or name in ("encoder_weights", "dropout", "in_channels", "out_channels")
        if not shapeless and isinstance(value, (str, int, float)) and not str(value).startswith(("$", "@")):
            options += [f"--network_def::{name}", str(value)]
    return options
