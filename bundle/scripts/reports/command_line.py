"""Command lines of a run: its settings, its layers, its own command again."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.reports.run_files import RunFiles

BUNDLE = Path(__file__).resolve().parents[2]
RUN = ("python", "-m", "monai.bundle", "run")


@dataclass(frozen=True)
class Command:
    """A command with the sentence that stands over it."""

    purpose: str
    text: str


def given(run: RunFiles, names: tuple[str, ...]) -> list[str]:
    """Those settings of the run's config that are plain values, as command-line options; paths absolute."""
    options = []
    for name in names:
        value = run.config.get(name)
        if value is None or value == "" or str(value).startswith(("$", "@")):
            continue
        if name in ("dataset_dir", "severity_table") and Path(value).exists():
            value = Path(value).resolve()
        options += [f"--{name}", _compact(value)]
    return options


def same_split(run: RunFiles) -> list[str]:
    """Options that divide frames as the run divided them."""
    return given(run, ("seed", "split", "stable_split") if run.config.get("stable_split") else ("seed", "split"))


def _compact(value: Any) -> str:
    """Lists of numbers without spaces, as they need no quotes; the rest as Python writes it."""
    numbers = isinstance(value, list) and not any(isinstance(part, str) for part in value)
    return str(value).replace(", ", ",") if numbers else str(value)


def own_layers(run: RunFiles, configs: Path) -> list[str]:
    """Names of the bundle's configs that the run's own command layered, in their order."""
    named = re.findall(r"([\w.-]+\.json)", run.environment.get("command", "").partition("--config_file")[2])
    return [name for name in dict.fromkeys(named) if (configs / name).is_file() and name != "metadata.json"]


def list_argument(paths: list[Path]) -> str:
    """A list of files as MONAI's command line takes it, in the quotes that are easiest to read."""
    text = str([str(path) for path in paths]).replace(", ", ",")
    return shlex.quote(text) if any(sign in text for sign in '"$`\\!') else f'"{text}"'


def longer(run: RunFiles) -> list[Command]:
    """The run's own command with twice the epochs; nothing where no command is recorded."""
    stored = run.environment.get("command")
    if not stored:
        return []
    tokens = shlex.split(stored)
    epochs = run.config.get("max_epochs")
    _set_option(tokens, "output_dir", str(run.path.parent))
    _set_option(tokens, "run_name", run.path.name)
    if isinstance(epochs, int):
        _set_option(tokens, "max_epochs", str(2 * epochs))
    purpose = (
        "Train this run longer, from its last epoch (from the folder it was started in; the command that made this run,"
        " with its name and twice the epochs):"
    )
    return [Command(purpose, shlex.join(tokens))]


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
