"""Runs of the bundle's configs that follow each other, in processes of their own; what is finished is kept."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from scripts.data.fingerprints import file_sha256
from scripts.data.layouts import dataset_digest
from scripts.engines.overrides import refuse_undeclared
from scripts.io.atomic import write_text
from scripts.io.writers import ensure_writable

logger = logging.getLogger(__name__)
CHECK = "scripts.engines.overrides.refuse_unknown_overrides"
RECORD_FILE = "stages.json"


class StageError(RuntimeError):
    """A stage cannot be run or has failed; the message names it and what to do."""


@dataclass
class Stage:
    """One run of a chain.

    Attributes:
        name: what it does.
        files: its configs, one over the other.
        overrides: {id: value}, without the files that stages before it write.
        run_dir: its run directory.
        result: the file in it that the next stage starts from; it is written last.
    """

    name: str
    files: list[str]
    overrides: dict[str, Any]
    run_dir: Path
    result: str = "model.pt"

    def command(self, inputs: Mapping[str, str] | None = None) -> list[str]:
        """The command line, to be started in the bundle's folder; inputs are {id: file of an earlier stage}."""
        given = self.overrides | dict(inputs or {})
        words = [part for name, value in given.items() for part in (f"--{name}", as_argument(value))]
        return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(self.files), *words]


def start_process(command: list[str], folder: Path) -> int:
    """Run a command to its end in a process of its own, its output shown; returns the exit code."""
    return subprocess.run(command, cwd=folder, check=False).returncode


@dataclass
class Chain:
    """A folder with one run directory a stage and stages.json.

    stages.json records for each stage its command, its run directory, the files it began from (with SHA-256), a digest
    of its data set and whether it is finished.

    Attributes:
        root: the bundle's folder; commands run there.
        folder: made if missing.
        start: runs a command in a folder and returns its exit code.

    Raises:
        OutputError: the folder cannot be written.
    """

    root: Path
    folder: Path
    start: Callable[[list[str], Path], int] = start_process
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ensure_writable(self.folder)
        path = self.folder / RECORD_FILE
        if path.is_file():
            self.record = json.loads(path.read_text(encoding="utf-8"))["stages"]

    def run(self, stage: Stage, title: str, inputs: Mapping[str, str] | None = None) -> Path:
        """Run, continue or skip one stage; returns its result.

        Args:
            title: how messages call it, "Stage 2 of 3, train".
            inputs: {id: file that an earlier stage wrote}.

        Raises:
            StageError: an input that is missing, a stage that failed, that was begun from other files or is finished on
                other data.
        """
        inputs = dict(inputs or {})
        result = stage.run_dir / stage.result
        now = {
            "command": shlex.join(stage.command(inputs)),
            "run_dir": str(stage.run_dir),
            "inputs": {name: {"file": file, "sha256": _sha256(file, name, title)} for name, file in inputs.items()},
        }
        data = "" if "dataset_dir" in inputs else str(stage.overrides.get("dataset_dir") or "")
        if data and Path(data).exists():  # else the stage itself says that it does not
            now["data"] = dataset_digest(data)
        before = self.record.get(stage.run_dir.name)
        if before and (stage.run_dir / "last.pt").is_file():
            self._refuse_other_inputs(before["inputs"], now["inputs"], stage, title)
        same = before and all(before[name] == now[name] for name in ("command", "inputs"))
        if same and before["finished"] and result.is_file():
            if before.get("data", now.get("data")) != now.get("data"):  # an older record has none
                raise StageError(
                    f"{title}: {stage.run_dir} is finished, on other data than {data} holds now. Give another "
                    "--run_name for the new data, or put the old files back."
                )
            logger.info("%s: finished before, skipped (%s).", title, result)
            return result
        self._note(stage, now | {"finished": False})
        logger.info("%s: %s", title, now["command"])
        code = self.start(stage.command(inputs), self.root)
        if code or not result.is_file():
            reason = f"exit code {code}" if code else f"{result} was not written"
            raise StageError(
                f"{title} failed ({reason}); its own message is above. When it is mended give the same command again: "
                "finished stages are skipped, and a stage that was stopped goes on from its last epoch."
            )
        self._note(stage, now | {"finished": True, "result": str(result)})
        return result

    def _note(self, stage: Stage, entry: dict[str, Any]) -> None:
        self.record[stage.run_dir.name] = entry
        write_text(self.folder / RECORD_FILE, json.dumps({"stages": self.record}, indent=4))

    @staticmethod
    def _refuse_other_inputs(before: dict[str, Any], now: dict[str, Any], stage: Stage, title: str) -> None:
        nothing = {"file": "none", "sha256": "none"}
        for name in sorted(before | now):
            one, two = before.get(name, nothing), now.get(name, nothing)
            if one["sha256"] != two["sha256"]:
                raise StageError(
                    f"{title}: {stage.run_dir} was begun from another {name} ({one['file']}, SHA-256 "
                    f"{one['sha256'][:12]}) than it would be now ({two['file']}, {two['sha256'][:12]}). Delete that "
                    "folder, or give another --run_name."
                )


def check_overrides(stage: Stage, root: Path, inputs: tuple[str, ...] = ()) -> None:
    """What the stage itself would check first, with the bases that its own config names.

    Args:
        inputs: ids that earlier stages will give.

    Raises:
        UnknownOverrideError: a mistyped id.
    """
    parser = ConfigParser()
    parser.read_config([str(root / file) for file in stage.files])
    parser.update(stage.overrides | dict.fromkeys(inputs, ""))
    running = str(parser.get("run", "")).removeprefix("%") or "training"
    checks = [part for part in parser.get(running) if isinstance(part, dict) and part.get("_target_") == CHECK]
    for check in checks:
        refuse_undeclared(parser.get(), root / "configs", check["bases"])


def refuse_unknown(kind: str, name: str, known: Collection[str]) -> None:
    """Raise StageError, with the nearest known name, unless ``name`` is a known one."""
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise StageError(f"{kind} {name!r} is unknown; did you mean {near!r}? Known: {', '.join(known)}.")


def existing_config(root: Path, file: str) -> str:
    """A config file, as its path is written from the bundle's folder. Raises StageError."""
    if not (root / file).is_file():
        raise StageError(f"extra_configs: {root / file} does not exist; give a path from {root}, or an absolute one.")
    return str(file)


def shared_overrides(common: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides of every stage without None and "", folders absolute: stages run in another folder."""
    shared = {name: value for name, value in (common or {}).items() if value not in (None, "")}
    for name in {"dataset_dir", "sample_dir"} & shared.keys():
        shared[name] = str(Path(shared[name]).expanduser().resolve())
    return shared


def as_argument(value: Any) -> str:
    """A value as a word of a command line that fire reads back as the same value; None as MONAI evaluates it.

    Raises:
        StageError: there is no such word.
    """
    if value is None:
        return "$None"  # MONAI passes over a plain None.
    for text in (str(value), repr(value)):
        if DefaultParseValue(text) == value:
            return text
    raise StageError(f"options: {value!r} cannot be given on a command line; expected a number, text, list or mapping.")


def _sha256(file: str, name: str, title: str) -> str:
    if not Path(file).is_file():
        raise StageError(f"{title}: {name} {file} does not exist: check the path.")
    return file_sha256(file)
