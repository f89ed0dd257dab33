"""A run that was killed goes on as if nothing had happened."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.engines.run_directory import LOCK_FILE, ResumeError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
EPOCHS = 6


def start_and_kill(layers: list[str], overrides: dict[str, Any], run: Path, after: int) -> None:
    """Start the command a person types and kill it (no clean-up of any kind) once it has trained ``after`` epochs."""
    files = str([f"configs/{layer}.json" for layer in layers])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files]
    command += [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
    with (run.parent / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=BUNDLE, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 240
            while process.poll() is None and time.monotonic() < until and trained_epochs(run) < after:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -signal.SIGKILL, (run.parent / "log.txt").read_text()[-3000:]


def trained_epochs(run: Path) -> int:
    return len(rows(run / "metrics.csv")) if (run / "last.pt").exists() else 0


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize(
    ("layers", "data", "own"),
    [
        (
            ["train", "weak_to_strong"], "frames_dir",
            {"val_interval": 2, "objective_options": {"weighting": "softmatch"}, "learning_rate": 0.002},
        ),
        (
            ["train", "severity", "pretrain_severity"], "graded_dir",
            {"reference": "image", "discrimination_epochs": 2, "labeled_batch_size": 6, "learning_rate": 0.002},
        ),
    ],
)  # fmt: skip
def test_a_killed_run_ends_as_an_unbroken_one(
    layers: list[str], data: str, own: dict[str, Any], request: pytest.FixtureRequest, run_config: Any,
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    taken = {name: value for name, value in tiny.items() if "severity" not in layers or "unsupervised" not in name}
    options = taken | own | {"max_epochs": EPOCHS, "dataset_dir": str(request.getfixturevalue(data))}
    for name in ("broken", "unbroken"):
        (tmp_path / name).mkdir()
    broken, unbroken = (
        options | {"output_dir": str(tmp_path / name), "run_name": "r"} for name in ("broken", "unbroken")
    )
    start_and_kill(layers, broken, tmp_path / "broken" / "r", after=3)
    stopped = torch.load(tmp_path / "broken" / "r" / "last.pt", weights_only=True)["epoch"]
    assert 1 <= stopped < EPOCHS, "killed in the middle"
    run_config(*layers, **broken)
    run_config(*layers, **unbroken)

    first, second = (tmp_path / name / "r" for name in ("broken", "unbroken"))
    assert [row["epoch"] for row in rows(first / "metrics.csv")] == [str(epoch + 1) for epoch in range(EPOCHS)]
    assert rows(first / "metrics.csv") == rows(second / "metrics.csv")
    for name in ("last.pt", "model.pt"):
        one, other = (torch.load(folder / name, weights_only=True) for folder in (first, second))
        assert one.keys() == other.keys()
        for key in one:
            assert same(one[key], other[key]), f"{name}: {key}"
    assert not list(first.rglob("*.tmp"))
    assert [path.name for path in first.iterdir() if path.name.startswith(".")] == [LOCK_FILE]

    with pytest.raises(ResumeError, match="learning_rate: 0.002 -> 0.1.*--run_name"):
        run_config(*layers, **(broken | {"learning_rate": 0.1}))
    with pytest.raises(ResumeError, match="already holds a run"):
        run_config(*layers, **(broken | {"resume": False}))
    assert os.environ["OMP_NUM_THREADS"] == str(torch.get_num_threads())
