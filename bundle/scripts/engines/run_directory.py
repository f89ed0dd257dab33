"""The run directory: made and proved writable before work starts, config and environment written into it."""

from __future__ import annotations

import csv
import json
import logging
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from scripts.data.dataset_root import studies_of_the_server
from scripts.io.atomic import remove_leftovers, write_text
from scripts.io.provenance import package_versions
from scripts.io.writers import ensure_writable

logger = logging.getLogger(__name__)
RECORDED_PACKAGES = ("torch", "torchvision", "monai", "timm", "pytorch-ignite", "kornia", "numpy", "pillow")
#: ids that may differ between the first part of a run and its continuation
FREE_ON_RESUME = (
    *("max_epochs", "device", "num_workers", "cache_gb", "resume"),
    *("save_execute_config", "tracking_uri", "experiment_name"),
    *("bundle_root", "dataset_dir", "output_dir", "run_dir", "sample_dir"),
)
#: of each file in manifest.json: what must stay as it was when the run began
COMPARED = ("section", "file", "sha256", "label_sha256", "pseudo_label_sha256", "weight", "severity")
LOCK_FILE = ".lock"
LOCK_WAIT_S = 15  # a killed process's workers hold it until they notice, some five seconds


class ResumeError(ValueError):
    """The run directory holds a run with other settings."""


class RunDirectory:
    """A folder for one run: manifest.json, config.json, environment.json, checkpoints, figures, report.

    Args:
        path: made if missing.
        config: the config after command-line overrides, before references are resolved.
        resume: continue from last.pt if there is one; False = start afresh in a folder that must hold no run.

    Raises:
        OutputError: the folder cannot be written.
        ResumeError: it holds a run with other settings, or a run although ``resume`` is False.
    """

    def __init__(self, path: str | Path, config: dict[str, Any], resume: bool = True) -> None:
        self.path = Path(path)
        self.config = config
        self.started = time.time()
        if is_main_process():  # One process: a second one's probe could be in the way of rmdir.
            new = not self.path.exists()
            ensure_writable(self.path)
            if new:
                self.path.rmdir()  # Nothing is left of a run that fails before it starts.
        self._lock: FileLock | None = None
        self.last_checkpoint = self.path / "last.pt"
        self.resuming = self.last_checkpoint.is_file()
        if self.resuming and not resume:
            raise ResumeError(
                f"{self.path} already holds a run. Give another --run_name, delete the folder, or leave out "
                "--resume False."
            )
        if self.resuming:
            self._check_same_run(config)
            self._check_length(config)
            self.started -= self._trained_seconds()
            logger.info("Continuing the run in %s.", self.path)
        manifest = self.path / "manifest.json"
        self._manifest_before = manifest.read_text() if self.resuming and manifest.is_file() else None
        environment = self.path / "environment.json"
        self._environment_before = (
            json.loads(environment.read_text()) if self.resuming and environment.is_file() else {}
        )

    def _trained_seconds(self) -> float:
        """Seconds of the earlier parts of the run, so that its duration is that of all parts."""
        rows = self._trained_epochs()
        return float(rows[-1]["seconds"]) if rows else 0.0

    def _trained_epochs(self) -> list[dict[str, str]]:
        table = self.path / "metrics.csv"
        if not table.is_file():
            return []
        with table.open(newline="") as file:
            return list(csv.DictReader(file))

    def _check_length(self, config: dict[str, Any]) -> None:
        """A run may be made longer, not shorter: the weights that it has are those of all its epochs."""
        rows, wanted = self._trained_epochs(), config.get("max_epochs")
        if rows and isinstance(wanted, int) and int(rows[-1]["epoch"]) > wanted:
            raise ResumeError(
                f"{self.path} has trained {rows[-1]['epoch']} epochs, and max_epochs is {wanted}: it cannot be made "
                "shorter. Give another --run_name, or delete the folder."
            )

    def _check_same_data(self) -> None:
        """Compare the files of the manifest that was just written with those the run began with."""
        manifest = self.path / "manifest.json"
        if self._manifest_before is None or not manifest.is_file():
            return
        before, now = (
            {tuple(one.get(name) for name in COMPARED) for one in json.loads(text)["files"]}
            for text in (self._manifest_before, manifest.read_text())
        )
        if before != now:
            write_text(manifest, self._manifest_before)
            names = sorted({entry[COMPARED.index("file")] for entry in before ^ now})
            raise ResumeError(
                f"The data have changed since the run in {self.path} began: {len(names)} files, {names[:3]} among "
                "them. Give another --run_name for the new data, or put the old files back."
            )

    def _check_same_run(self, config: dict[str, Any]) -> None:
        stored_path = self.path / "config.json"
        stored = json.loads(stored_path.read_text()) if stored_path.is_file() else {}
        before, now = (
            {key: value for key, value in flatten(json.loads(json.dumps(source, default=str))).items()}
            for source in (stored, config)
        )
        changed = [
            f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
            and key.split("#")[0] not in FREE_ON_RESUME
            and not key.startswith("_meta_")
        ]
        if changed:
            shown = "; ".join(changed[:4]) + (" ..." if len(changed) > 4 else "")
            raise ResumeError(
                f"{self.path} holds a run with other settings ({shown}). Give another --run_name, or delete the folder."
            )

    def _hold(self) -> None:
        """Let no other process train in this folder until this one ends: the weights would be of two trainings."""
        if self._lock is not None:
            return
        # One lock a process, whatever thread: a notebook that starts a stopped run again must not wait for itself.
        lock = FileLock(self.path / LOCK_FILE, timeout=LOCK_WAIT_S, thread_local=False, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            raise ResumeError(
                f"{self.path}: another process is training in this folder. Wait for it, or give another --run_name."
            ) from None
        self._lock = lock
        if not self.resuming and self.last_checkpoint.is_file():
            raise ResumeError(
                f"{self.path}: another process has trained in this folder since this one began. Give the same command "
                "again to continue that run, or another --run_name."
            )
        if self.resuming:
            remove_leftovers(self.path)

    def write_environment(self, network: nn.Module, device: torch.device, substitutions: Sequence[str] = ()) -> None:
        """Write config.json and environment.json: versions, machine, the encoder weights really used, substitutions.

        A run that is continued keeps what it began from: its weights are restored, whatever the hub answers now.

        Raises:
            ResumeError: the data have changed since the run began, or another process trains in the folder.
        """
        if not is_main_process():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self._hold()
        self._check_same_data()
        write_text(self.path / "config.json", json.dumps(self.config, indent=4, default=str))
        weights = dict(getattr(network, "encoder_weights_report", {}))
        found = list(substitutions)
        if weights.get("substituted"):
            found.append(str(weights.get("message")))
        weights = self._environment_before.get("encoder_weights", weights)
        found = self._environment_before.get("substitutions", found)
        environment = {
            "versions": package_versions(RECORDED_PACKAGES),
            "machine": {
                "system": platform.platform(),
                "processor": processor(),
                "instructions": torch.backends.cpu.get_cpu_capability(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            },
            "device": str(device),
            "encoder_weights": weights,
            "substitutions": found,
            "command": shlex.join(["python", "-m", "monai.bundle", *sys.argv[1:]]),
            "started": datetime.fromtimestamp(self.started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - self.started, 1),
        }
        write_text(self.path / "environment.json", json.dumps(environment, indent=4))


def default_run_name(dataset_dir: str, objective: str, label_fraction: float, seed: int) -> str:
    """What a run is called that nobody named: polyps_weak_to_strong_labels0.1_seed0; the same call continues it.

    MONAI Label's own app trains again and again on a folder that grows, so there each run has a name by its time.
    """
    studies = "" if dataset_dir else studies_of_the_server()
    source = Path(os.path.normpath(dataset_dir or studies)).stem if dataset_dir or studies else "sample"
    name = f"{source}_{objective}_labels{label_fraction:g}_seed{seed}"
    return f"{name}_{time.strftime('%Y%m%d_%H%M%S')}" if studies else name


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts and lists -> {"a#b#0": leaf}, in MONAI's notation."""
    if isinstance(tree, dict):
        pairs = tree.items()
    elif isinstance(tree, list):
        pairs = enumerate(tree)
    else:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in pairs:
        flat |= flatten(value, f"{prefix}#{key}" if prefix else str(key))
    return flat


def is_main_process() -> bool:
    """True in a single process and in rank 0 of a distributed run."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not ready or torch.distributed.get_rank() == 0


def processor() -> str:
    """Name of this machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
