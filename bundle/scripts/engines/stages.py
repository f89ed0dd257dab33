"""Runs that follow each other, each from the weights of the one before: pretraining, pretraining, training."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from scripts.engines.overrides import refuse_undeclared
from scripts.engines.run_directory import default_run_name
from scripts.io.atomic import write_text
from scripts.io.writers import ensure_writable
from scripts.losses import OBJECTIVES

logger = logging.getLogger(__name__)
#: in the order in which they may run, with their names in the name of a chain
STAGES = {"pretrain_global": "global", "pretrain_local_contrastive": "local", "train": ""}
CHECK = "scripts.engines.overrides.refuse_unknown_overrides"
#: ids that the chain sets itself
OF_THE_CHAIN = ("output_dir", "run_name", "init_checkpoint", "objective")


class StageError(RuntimeError):
    """A stage cannot be run or has failed; the message names it and what to do."""


@dataclass
class Stage:
    """One run of the chain.

    Attributes:
        name: a key of STAGES.
        files: its configs, one over the other.
        overrides: {id: value}, without the checkpoint that it starts from.
        run_dir: its run directory.
    """

    name: str
    files: list[str]
    overrides: dict[str, Any]
    run_dir: Path

    def command(self, init_checkpoint: str) -> list[str]:
        """The command line, to be started in the bundle's folder."""
        given = self.overrides | ({"init_checkpoint": init_checkpoint} if init_checkpoint else {})
        words = [part for name, value in given.items() for part in (f"--{name}", as_argument(value))]
        return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(self.files), *words]


def start_process(command: list[str], folder: Path) -> int:
    """Run a command to its end in a process of its own, its output shown; returns the exit code."""
    return subprocess.run(command, cwd=folder, check=False).returncode


def run_stages(
    bundle_root: str | Path,
    chain_dir: str | Path,
    stages: Sequence[str],
    objective: str = "supervised",
    init_checkpoint: str = "",
    extra_configs: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    common: Mapping[str, Any] | None = None,
    start: Callable[[list[str], Path], int] = start_process,
) -> Path:
    """Run the stages in processes of their own; what is finished is skipped, what was stopped goes on.

    All stages are checked for mistyped ids before the first one starts. ``chain_dir``/stages.json records for each
    stage its command, its run directory, the checkpoint it began from (with SHA-256) and whether it is finished.

    Args:
        bundle_root: folder that holds configs/; commands run there.
        chain_dir: gets stages.json and one run directory a stage.
        stages: some of STAGES, in their order.
        objective: of the stage "train".
        init_checkpoint: model.pt that the first stage starts from; "" = none.
        extra_configs: files layered over every stage's own.
        options: {stage: {id: value}}; an id with :: goes inside of a component.
        common: {id: value} for every stage; None and "" are left out. encoder_weights is for the first stage: the
            others start from a whole network.
        start: runs a command in a folder and returns its exit code.

    Returns:
        model.pt of the last stage.

    Raises:
        StageError: unknown stage, missing file, a stage that failed or began from another checkpoint.
        UnknownOverrideError: a mistyped id of any stage.
    """
    root, chain = Path(bundle_root).resolve(), Path(chain_dir).resolve()
    shared = {name: value for name, value in (common or {}).items() if value not in (None, "")}
    for name in {"dataset_dir", "sample_dir"} & shared.keys():  # The stages run in another folder than this process.
        shared[name] = str(Path(shared[name]).expanduser().resolve())
    plan = plan_stages(root, chain, stages, objective, extra_configs, options or {}, shared)
    ensure_writable(chain)
    record = _read_record(chain)
    checkpoint = str(Path(init_checkpoint).expanduser().resolve()) if init_checkpoint else ""
    for number, stage in enumerate(plan, 1):
        title = f"Stage {number} of {len(plan)}, {stage.name}"
        checkpoint = _run_stage(stage, title, checkpoint, root, chain, record, start)
    logger.info("All stages are done: %s", checkpoint)
    return Path(checkpoint)


def plan_stages(
    root: Path,
    chain: Path,
    stages: Sequence[str],
    objective: str,
    extra_configs: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
) -> list[Stage]:
    """The runs, checked as far as they can be before they start.

    Raises:
        StageError, UnknownOverrideError: see run_stages.
    """
    _check_names(stages, objective, options)
    extra = [_existing(root, file) for file in extra_configs]
    plan = []
    for number, name in enumerate(stages, 1):
        layers = [name] if name != "train" else [layer_of(objective)]
        files = [*(str(Path("configs") / f"{layer}.json") for layer in ("train", *layers)), *extra]
        own = {"output_dir": str(chain), "run_name": f"{number}_{name}"}
        own |= {"encoder_weights": "none"} if number > 1 else {}
        stage = Stage(name, files, {**common, **own, **options.get(name, {})}, chain / f"{number}_{name}")
        _check_overrides(stage, root)
        plan.append(stage)
    return plan


def layer_of(objective: str) -> str:
    """Name of the config that trains an objective."""
    return "train_supervised" if objective == "supervised" else objective


def chain_name(dataset_dir: str, stages: Sequence[str], objective: str, label_fraction: float, seed: int | None) -> str:
    """What a chain is called that nobody named: kvasir_global_local_supervised_labels0.1_seed0."""
    words = "_".join(STAGES.get(name) or objective for name in stages)
    return default_run_name(dataset_dir, words, label_fraction, 0 if seed is None else seed)


def as_argument(value: Any) -> str:
    """A value as a word of a command line that fire reads back as the same value.

    Raises:
        StageError: there is no such word.
    """
    for text in (str(value), repr(value)):
        if DefaultParseValue(text) == value:
            return text
    raise StageError(f"options: {value!r} cannot be given on a command line; expected a number, text, list or mapping.")


def _check_names(stages: Sequence[str], objective: str, options: Mapping[str, Any]) -> None:
    for name in [*stages, *options]:
        if name not in STAGES:
            near = get_close_matches(name, STAGES, n=1, cutoff=0.0)[0]
            raise StageError(f"stage {name!r} is unknown; did you mean {near!r}? Known: {', '.join(STAGES)}.")
    if not stages or list(stages) != [name for name in STAGES if name in stages]:
        raise StageError(f"stages are {list(stages)}; expected some of {list(STAGES)}, each once and in this order.")
    if unused := [name for name in options if name not in stages]:
        raise StageError(f"options name the stage {unused[0]!r}, and stages are {list(stages)}: leave it out.")
    for name, given in options.items():
        if taken := [key for key in given if key in OF_THE_CHAIN]:
            raise StageError(f"options of {name}: the chain sets {taken[0]} itself; give --{taken[0]} to the chain.")
    if objective not in OBJECTIVES:
        near = get_close_matches(objective, OBJECTIVES, n=1, cutoff=0.0)[0]
        raise StageError(f"objective {objective!r} is unknown; did you mean {near!r}? Known: {', '.join(OBJECTIVES)}.")


def _existing(root: Path, file: str) -> str:
    """A config file, as its path is written from the bundle's folder."""
    if not (root / file).is_file():
        raise StageError(f"extra_configs: {root / file} does not exist; give a path from {root}, or an absolute one.")
    return str(file)


def _check_overrides(stage: Stage, root: Path) -> None:
    """What the stage itself would check first, with the bases that its own config names."""
    parser = ConfigParser()
    parser.read_config([str(root / file) for file in stage.files])
    parser.update(stage.overrides)
    checks = [part for part in parser.get("training") if isinstance(part, dict) and part.get("_target_") == CHECK]
    for check in checks:
        refuse_undeclared(parser.get(), root / "configs", check["bases"])


def _run_stage(
    stage: Stage,
    title: str,
    checkpoint: str,
    root: Path,
    chain: Path,
    record: dict[str, Any],
    start: Callable[[list[str], Path], int],
) -> str:
    """Run, continue or skip one stage; returns its model.pt."""
    result = stage.run_dir / "model.pt"
    now = {
        "command": shlex.join(stage.command(checkpoint)),
        "run_dir": str(stage.run_dir),
        "init_checkpoint": checkpoint,
        "init_sha256": _sha256(checkpoint, stage.name) if checkpoint else "",
    }
    before = record.get(stage.run_dir.name)
    if before and before["init_sha256"] != now["init_sha256"] and (stage.run_dir / "last.pt").is_file():
        raise StageError(
            f"{title}: {stage.run_dir} was begun from other weights ({before['init_checkpoint'] or 'none'}, SHA-256 "
            f"{before['init_sha256'][:12] or 'none'}) than it would be now ({checkpoint or 'none'}, "
            f"{now['init_sha256'][:12] or 'none'}). Delete that folder, or give another --run_name."
        )
    if before and before["finished"] and before["command"] == now["command"] and result.is_file():
        logger.info("%s: finished before, skipped (%s).", title, result)
        return str(result)
    record[stage.run_dir.name] = now | {"finished": False}
    _write_record(chain, record)
    logger.info("%s: %s", title, now["command"])
    code = start(stage.command(checkpoint), root)
    if code or not result.is_file():
        reason = f"exit code {code}" if code else f"{result} was not written"
        raise StageError(
            f"{title} failed ({reason}); its own message is above. When it is mended give the same command again: "
            "finished stages are skipped, and a stage that was stopped goes on from its last epoch."
        )
    record[stage.run_dir.name] = now | {"finished": True, "checkpoint": str(result)}
    _write_record(chain, record)
    return str(result)


def _sha256(file: str, stage: str) -> str:
    if not Path(file).is_file():
        raise StageError(f"{stage}: init_checkpoint {file} does not exist: check the path.")
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read_record(chain: Path) -> dict[str, Any]:
    path = chain / "stages.json"
    return json.loads(path.read_text(encoding="utf-8"))["stages"] if path.is_file() else {}


def _write_record(chain: Path, record: dict[str, Any]) -> None:
    write_text(chain / "stages.json", json.dumps({"stages": record}, indent=4))
