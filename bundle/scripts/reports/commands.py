"""What to type next: exact commands for this run, quoted for a POSIX shell."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from scripts.reports.run_files import RunFiles

BUNDLE = Path(__file__).resolve().parents[2]
RUN = ("python", "-m", "monai.bundle", "run")


@dataclass(frozen=True)
class Command:
    """A command with the sentence that stands over it."""

    purpose: str
    text: str


def next_commands(run: RunFiles, bundle: Path = BUNDLE) -> list[Command]:
    """Masks for a folder, the same evaluation again, more epochs, TensorBoard."""
    configs = bundle / "configs"
    model = ["--bundle_root", str(bundle), "--checkpoint", str(run.path / "model.pt"), *_given(run, ("image_size",))]
    model += _network_options(run)
    inference = [*RUN, "--config_file", str(configs / "inference.json"), *model]
    if isinstance(run.test_metrics.get("temperature"), float):
        inference += ["--temperature", f"{run.test_metrics['temperature']:.4g}"]
    inference += ["--dataset_dir", "FOLDER_WITH_IMAGES", "--output_dir", "FOLDER_FOR_MASKS"]
    files = _list_argument([configs / "train.json", configs / "evaluate.json"])
    place = ["--output_dir", str(run.path.parent), "--run_name", run.path.name]
    data = _given(run, ("dataset_dir", "label_fraction", "seed", "split"))
    # The checkpoint holds the encoder: there is no need to look for its starting weights.
    evaluate = [*model, "--network_def::encoder_weights", "none", *data, *place]
    commands = [
        Command(
            "Write a mask and an overlay for every image of a folder, and one CSV with areas and a quality flag"
            " (put your own two folders for the words in capitals):",
            shlex.join(inference),
        ),
        Command(
            "Measure this model on its test split again:",
            f"{shlex.join(RUN)} --config_file {files} {shlex.join(evaluate)}",
        ),
    ]
    stored = run.environment.get("command")
    if stored:
        tokens = shlex.split(stored)
        epochs = run.config.get("max_epochs")
        _set_option(tokens, "output_dir", str(run.path.parent))
        _set_option(tokens, "run_name", run.path.name)
        if isinstance(epochs, int):
            _set_option(tokens, "max_epochs", str(2 * epochs))
        commands.append(
            Command(
                "Train this run longer, from its last epoch (from the folder it was started in; the command that made"
                " this run, with its name and twice the epochs):",
                shlex.join(tokens),
            )
        )
    commands.append(
        Command("Look at all curves:", shlex.join(["tensorboard", "--logdir", str(run.path / "tensorboard")]))
    )
    return commands


def _given(run: RunFiles, names: tuple[str, ...]) -> list[str]:
    """Those settings of the run's config that are plain values, as command-line options; paths absolute."""
    options = []
    for name in names:
        value = run.config.get(name)
        if value is None or value == "" or str(value).startswith(("$", "@")):
            continue
        if name == "dataset_dir" and Path(value).exists():
            value = Path(value).resolve()
        options += [f"--{name}", str(value).replace(", ", ",") if isinstance(value, list) else str(value)]
    return options


def _network_options(run: RunFiles) -> list[str]:
    """What makes the network's shape, as command-line options; the rest is in the checkpoint or does not matter."""
    definition = run.config.get("network_def")
    options = []
    for name, value in (definition if isinstance(definition, dict) else {}).items():
        shapeless = name.startswith("_") or name in ("encoder_weights", "dropout", "in_channels", "out_channels")
        if not shapeless and isinstance(value, (str, int, float)) and not str(value).startswith(("$", "@")):
            options += [f"--network_def::{name}", str(value)]
    return options


def _list_argument(paths: list[Path]) -> str:
    """A list of files as MONAI's command line takes it, in the quotes that are easiest to read."""
    text = str([str(path) for path in paths]).replace(", ", ",")
    return shlex.quote(text) if any(sign in text for sign in '"$`\\!') else f'"{text}"'


def _set_option(tokens: list[str], name: str, value: str) -> None:
    """Replace the value of --name, or append it."""
    for index, token in enumerate(tokens):
        if token == f"--{name}" and index + 1 < len(tokens):
            tokens[index + 1] = value
            return
        if token.startswith(f"--{name}="):
            tokens[index] = f"--{name}={value}"
            return
    tokens += [f"--{name}", value]
