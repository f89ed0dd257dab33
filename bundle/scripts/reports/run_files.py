"""What a run directory holds, read once; what is missing or broken is noted, never guessed."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.io.class_volume import class_volume_names
from scripts.io.frame_address import split_address
from scripts.io.label_volume import is_volume
from scripts.io.writers import OutputNamer

#: trainers of runs that hand over a start and measure no test split
PRETRAINERS = ("ContrastiveTrainer", "SeverityTrainer", "DistillationTrainer")


@dataclass
class RunFiles:
    """Contents of a run directory; an empty dict or list where a file is missing, and why in `missing`."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    test_metrics: dict[str, Any] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    structures: list[dict[str, Any]] = field(default_factory=list)  # rows of per_volume.csv
    graded: list[dict[str, Any]] = field(default_factory=list)  # rows of per_picture.csv
    embedding: list[dict[str, Any]] = field(default_factory=list)  # rows of embedding.csv
    of_severity: bool = False  # pictures are told by how severe they are
    of_classes: bool = False  # measured by volume and structure, not by picture and lesion
    of_pretraining: bool = False  # nothing is measured: its network is a start for others
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def dataset_dir(self) -> Path:
        """Where the frames are; the manifest may name a folder or a datalist file in it."""
        folder = Path(str(self.manifest.get("dataset_dir", "")))
        return folder.parent if folder.is_file() else folder

    @property
    def of_distillation(self) -> bool:
        """An encoder that learned from another one."""
        return self.of_pretraining and self.config.get("objective") == "distillation"

    @property
    def pseudo_labels(self) -> int:
        """Frames that a mask was mined for."""
        return sum("pseudo_label" in entry for entry in self.manifest.get("files") or [])

    def picture(self, file: str) -> Path:
        """Where a measured file or frame is; `file` is its name in the tables."""
        return self.dataset_dir / self._elsewhere.get(file, file)

    @cached_property
    def _elsewhere(self) -> dict[str, str]:
        """Name -> path of the frames that lie outside of the data set's folder, and of the files that they are in."""
        found: dict[str, str] = {}
        for entry in self.manifest.get("files") or []:
            if "image" in entry:
                found[entry["file"]] = entry["image"]
                found.setdefault(_whole(entry["file"]), _whole(entry["image"]))
        return found

    @property
    def noun(self) -> str:
        """What one measured thing is called, in the plural."""
        if self.of_severity:
            return "pictures"
        if not self.of_classes:
            return "images"
        entries = self.manifest.get("files") or self.structures
        return "volumes" if any(is_volume(split_address(entry["file"])[0]) for entry in entries) else "pictures"

    def figures(self, column: str) -> dict[str, dict[str, Any]]:
        """Measured figures of a checkpoint ("best", "last") or of validation, by name; empty where nothing was."""
        part = self.test_metrics.get(column) or {}
        return part.get("figures", part) or {}

    @property
    def was_chosen(self) -> bool:
        """Whether the network that is shipped is that of the epoch that was best on validation."""
        if self.config.get("shipped_epoch") == "last" or not self.figures("validation"):
            return False
        return self.was_validated or not self.epochs

    @property
    def was_validated(self) -> bool:
        """Whether an epoch has a figure of validation by which epochs are compared."""
        key = self.test_metrics.get("key_metric")
        names = [str(key)] if key else [name for row in self.epochs[:1] for name in row if name.startswith("val_")]
        return any(math.isfinite(row.get(name, math.nan)) for row in self.epochs for name in names)

    def labels(self, section: str) -> dict[str, Path]:
        """Absolute mask path of each labelled file of a section."""
        entries = self.manifest.get("files") or []
        return {
            entry["file"]: self.dataset_dir / entry["label"]
            for entry in entries
            if entry.get("section") == section and entry.get("label")
        }

    def predictions(self) -> dict[str, Path]:
        """Absolute path of the predicted mask of each test file, as the evaluation names them."""
        name = OutputNamer(row["file"] for row in self.images)
        return {row["file"]: self.path / "predictions" / name(row["file"]) for row in self.images}

    def class_maps(self) -> dict[str, Path]:
        """Absolute path of the predicted class indices of each test volume or picture, as the evaluation names them."""
        files = list(dict.fromkeys(row["file"] for row in self.structures))
        volumes = class_volume_names(file for file in files if is_volume(file))
        name = OutputNamer(file for file in files if file not in volumes)
        return {file: self.path / "predictions" / (volumes.get(file) or name(file)) for file in files}


def _whole(address: str) -> str:
    """The file that a frame is in."""
    return split_address(address)[0].as_posix()


def read_run(run_dir: str | Path) -> RunFiles:
    """Read the files of a run directory.

    Raises:
        FileNotFoundError: when the directory does not exist or holds none of the files of a run.
    """
    path = Path(run_dir).resolve()
    run = RunFiles(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder, expected the directory of a run (output_dir/<run>).")
    run.manifest = _json(run, "manifest.json")
    run.environment = _json(run, "environment.json")
    run.config = _json(run, "config.json")
    run.test_metrics = _json(run, "test_metrics.json")
    run.epochs = [{key: number(cell) for key, cell in row.items() if key} for row in _csv(run, "metrics.csv")]
    finish = run.config.get("finish")
    measured_by = str(finish.get("evaluation") if isinstance(finish, dict) else "")
    run.of_classes = "VolumeEvaluation" in measured_by or (path / "per_volume.csv").is_file()
    trainer = run.config.get("train", {}).get("trainer") if isinstance(run.config.get("train"), dict) else None
    run.of_severity = "SeverityEvaluation" in measured_by
    texts = ("file", "group", "class")
    table = "per_picture.csv" if run.of_severity else "per_volume.csv" if run.of_classes else "per_image.csv"
    rows = [
        {key: cell if key in texts else number(cell) for key, cell in row.items() if key}
        for row in _csv(run, table)
        if row.get("file")
    ]
    if run.of_severity:
        run.graded = rows
        run.embedding = _points(run)
    elif run.of_classes:
        run.structures = rows
    else:
        run.images = rows
    run.of_pretraining = any(name in str(trainer) for name in PRETRAINERS)
    if run.of_pretraining:
        for name in ("test_metrics.json", table):
            run.missing.pop(name, None)
    if run.test_metrics and "best" not in run.test_metrics and not rows:
        run.missing.pop(table, None)  # no test split, no such table
    if len(run.missing) == 6:
        raise FileNotFoundError(
            f"{path}: holds none of {', '.join(run.missing)}, expected the directory of a run (output_dir/<run>)."
        )
    return run


def _points(run: RunFiles) -> list[dict[str, Any]]:
    """Rows of embedding.csv; it is not there where nothing was graded."""
    rows = _csv(run, "embedding.csv")
    run.missing.pop("embedding.csv", None)
    return [{name: cell if name == "file" else number(cell) for name, cell in row.items() if name} for row in rows]


def number(cell: Any) -> float:
    """A table cell as float; nan when it is empty or no number."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def _json(run: RunFiles, name: str) -> dict[str, Any]:
    try:
        content = json.loads((run.path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        run.missing[name] = f"{name} is not in the run directory."
    except (OSError, ValueError) as error:
        run.missing[name] = f"{name} cannot be read: {error}"
    else:
        if isinstance(content, dict):
            return content
        run.missing[name] = f"{name} holds a {type(content).__name__}, expected an object."
    return {}


def _csv(run: RunFiles, name: str) -> list[dict[str, str]]:
    try:
        with (run.path / name).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        run.missing[name] = f"{name} is not in the run directory."
    except (OSError, ValueError, csv.Error) as error:
        run.missing[name] = f"{name} cannot be read: {error}"
    else:
        if rows:
            return rows
        run.missing[name] = f"{name} has no rows."
    return []
