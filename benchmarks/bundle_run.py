"""Runs of the bundle's own configs in processes of their own, and the rows that are kept of them."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def bundle_value(name: str, key: str) -> Any:
    """A value of configs/<name>.json of the bundle, as it stands there."""
    return json.loads((ROOT / "bundle" / "configs" / f"{name}.json").read_text())[key]


def run_bundle(
    work: Path, name: str, configs: Sequence[str], overrides: Mapping[str, Any], done: str, trains: bool = True
) -> Path:
    """Run configs/<config>.json, ..., unless the file `done` is there; a stopped run goes on.

    A run that another process is at is waited for: cells that share a stage make it once.

    Args:
        configs: of the bundle or of benchmarks, see config_file.
        work: gets the run directory <name> and <name>.log.
        overrides: {id: value}; without output_dir and run_name.
        trains: whether the configs have a run_name; others write straight into output_dir.

    Returns:
        the run directory; its name ends in a hash of configs and overrides, so that other settings make another run.
    """
    settings = json.dumps([list(configs), {key: str(value) for key, value in overrides.items()}], sort_keys=True)
    name = f"{name}_{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
    run_dir = work / name
    with only_one(work / f"{name}.lock"):
        if not (run_dir / done).is_file():
            place = {"output_dir": work.resolve(), "run_name": name} if trains else {"output_dir": run_dir.resolve()}
            _start(configs, {**overrides, **place}, work / f"{name}.log")
    return run_dir


def _start(configs: Sequence[str], overrides: Mapping[str, Any], log: Path) -> None:
    """One call of monai.bundle; what it says goes to the log."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    command.append(json.dumps([config_file(config) for config in configs]))
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    # Threads that soon stop spinning: on a shared machine, long spinning costs up to ten times the time.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000", **os.environ}
    environment["PYTHONPATH"] = str(ROOT / "benchmarks")  # parts that only a benchmark may have
    with log.open("a") as stream:
        subprocess.run(
            command, cwd=ROOT / "bundle", stdout=stream, stderr=subprocess.STDOUT, check=True, env=environment
        )


def config_file(name: str) -> str:
    """Path of a config from the bundle's folder: bundle/configs/<name>.json, or benchmarks/configs/<name>.json.

    Raises:
        FileNotFoundError: neither has it.
    """
    for path in (Path("configs") / f"{name}.json", Path("..") / "benchmarks" / "configs" / f"{name}.json"):
        if (ROOT / "bundle" / path).is_file():
            return str(path)
    raise FileNotFoundError(f"config {name!r} is neither in bundle/configs nor in benchmarks/configs: correct the name")


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a file's lock; the system gives it up when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """ID=VALUE texts as a mapping."""
    return {key: value for key, _, value in (one.partition("=") for one in settings)}


def training_seconds(run_dir: Path) -> float:
    """Seconds of the training loop, of all parts of a resumed run."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


def best_on_validation(run_dir: Path, figure: str) -> float:
    """The highest value of a column of metrics.csv: what an option is chosen by, never the test split."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return round(max(float(row[figure]) for row in csv.DictReader(file) if row[figure]), 5)


def machine_of(run_dir: Path) -> str:
    """Processor with its vector instructions, and threads of a run."""
    machine = json.loads((run_dir / "environment.json").read_text())["machine"]
    instructions = f" ({machine['instructions']})" if "instructions" in machine else ""
    return f"{machine['processor']}{instructions}, {machine['threads']} threads"


def figures_of(run_dir: Path, checkpoint: str = "best") -> dict[str, float | str]:
    """{figure: value} of a checkpoint on the test split, "" where it is not defined."""
    figures = json.loads((run_dir / "test_metrics.json").read_text())[checkpoint]["figures"]
    return {name: "" if one["value"] is None else round(one["value"], 5) for name, one in figures.items()}


def best_and_last(run_dir: Path, names: Iterable[str] | None = None) -> dict[str, float | str]:
    """{best_<figure>: value, ..., last_<figure>: value, ...} on the test split; names = which figures, None = all."""
    found = {which: figures_of(run_dir, which) for which in ("best", "last")}
    return {
        f"{which}_{name}": figures[name]
        for which, figures in found.items()
        for name in (figures if names is None else names)
    }


def kept_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier call; the committed CSV, not the run directories, says what is finished."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_there(rows: Sequence[Mapping[str, Any]], key: Mapping[str, Any]) -> bool:
    """Whether one of the rows is of this very cell."""
    return any(all(str(row[name]) == str(value) for name, value in key.items()) for row in rows)


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
