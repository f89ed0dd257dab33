"""Runs of the bundle's own configs in processes of their own, and the rows that are kept of them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run_bundle(
    work: Path, name: str, configs: Sequence[str], overrides: Mapping[str, Any], done: str, trains: bool = True
) -> Path:
    """Run configs/<config>.json, ..., unless the file `done` is there; a stopped run goes on.

    Args:
        work: gets the run directory <name> and <name>.log.
        overrides: {id: value}; without output_dir and run_name.
        trains: whether the configs have a run_name; others write straight into output_dir.

    Returns:
        the run directory; its name ends in a hash of configs and overrides, so that other settings make another run.
    """
    settings = json.dumps([list(configs), {key: str(value) for key, value in overrides.items()}], sort_keys=True)
    name = f"{name}_{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
    run_dir = work / name
    if (run_dir / done).is_file():
        return run_dir
    files = [f"configs/{config}.json" for config in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", json.dumps(files)]
    place = {"output_dir": work.resolve(), "run_name": name} if trains else {"output_dir": run_dir.resolve()}
    for key, value in {**overrides, **place}.items():
        command += [f"--{key}", str(value)]
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{name}.log").open("a") as log:
        # Threads that soon stop spinning: on a shared machine, long spinning costs up to ten times the time.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000", **os.environ}
        environment["PYTHONPATH"] = str(ROOT / "benchmarks")  # parts that only a benchmark may have
        subprocess.run(command, cwd=ROOT / "bundle", stdout=log, stderr=subprocess.STDOUT, check=True, env=environment)
    return run_dir


def pairs(settings: Sequence[str]) -> dict[str, str]:
    """ID=VALUE texts as a mapping."""
    return {key: value for key, _, value in (one.partition("=") for one in settings)}


def training_seconds(run_dir: Path) -> float:
    """Seconds of the training loop, of all parts of a resumed run."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


def machine_of(run_dir: Path) -> str:
    """Processor and threads of a run."""
    machine = json.loads((run_dir / "environment.json").read_text())["machine"]
    return f"{machine['processor']}, {machine['threads']} threads"


def figures_of(run_dir: Path, checkpoint: str = "best") -> dict[str, float | str]:
    """{figure: value} of a checkpoint on the test split, "" where it is not defined."""
    figures = json.loads((run_dir / "test_metrics.json").read_text())[checkpoint]["figures"]
    return {name: "" if one["value"] is None else round(one["value"], 5) for name, one in figures.items()}


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
