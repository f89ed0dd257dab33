"""Finished runs of one split side by side: the best on validation is shipped, the test split takes no part."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.engines.stage_runs import StageError
from scripts.io.atomic import replacing
from scripts.io.table import Table

FIGURES = ("val_dice", "test_dice", "test_iou", "run_dir")


def shipped_validation(run_dir: Path) -> float:
    """Validation Dice of the epoch whose network a run ships: the best, or the last where its config.json says so.

    Raises:
        StageError: it has none.
    """
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        found = [float(row["val_dice"]) for row in csv.DictReader(file) if row.get("val_dice")]
    found = [value for value in found if not math.isnan(value)]
    if not found:
        raise StageError(f"{run_dir}: no validation Dice, by which runs are compared; give --split a validation part.")
    if _read(run_dir / "config.json").get("shipped_epoch") != "last":
        return max(found)
    measured = _read(run_dir / "test_metrics.json").get("validation", {}).get("figures", {}).get("dice", {})
    return measured.get("value", found[-1])  # of the last epoch, which val_interval may have left out


def figures_of(run_dir: Path) -> dict[str, Any]:
    """FIGURES of a run: what the network that it ships has on validation, and on the test split, if that was read."""
    measured = _read(run_dir / "test_metrics.json")
    figures = measured.get("best", {"figures": {}})["figures"]  # without a test part it has those of validation alone
    tested = {f"test_{name}": figures.get(name, {}).get("value") for name in ("dice", "iou")}
    return {"val_dice": shipped_validation(run_dir), **tested, "run_dir": str(run_dir)}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def ship_best(folder: Path, rows: Sequence[dict[str, Any]], own: Sequence[str], mark: str, name: str) -> dict[str, Any]:
    """Copy the network that is best on validation, the first of equals, to model.pt; write all rows as a table.

    The manifest.json of its run goes with it: evaluate.json reads there which frames it has learnt from.

    Args:
        rows: with figures_of. own: their columns before those. mark: the column that says "yes" in the row that is
            shipped.
        name: file name of the table; it is written last.

    Returns:
        the row.
    """
    best = max(rows, key=lambda row: row["val_dice"])
    table = Table((*own, FIGURES[0], mark, *FIGURES[1:]))
    for row in rows:
        table.add(**row, **{mark: "yes" if row is best else ""})
    for file in ("manifest.json", "model.pt"):
        if (Path(best["run_dir"]) / file).is_file():
            with replacing(folder / file) as partial:
                shutil.copyfile(Path(best["run_dir"]) / file, partial)
    table.write(folder / name)
    return best
