"""One self-contained HTML page that compares the recipes of choose_recipe.json, from what they left in its folder."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.engines.recipes import RECIPES_FILE
from scripts.io.atomic import write_text
from scripts.reports.commands import next_commands
from scripts.reports.figures import STYLES, Chart, Line, epoch_chart
from scripts.reports.page import DASH, render_page, shown, shown_interval
from scripts.reports.run_files import RunFiles, read_run

logger = logging.getLogger(__name__)
PAGE = "recipes.html"
FEW_FRAMES = 20  # of validation: with fewer, one frame moves the mean by more than most recipes differ


def write_recipe_report(chain_dir: str | Path) -> Path:
    """Write <chain_dir>/recipes.html and figures/recipes.png: which recipe was kept, beside the others.

    Returns:
        the path of the page; it holds its picture and links to the reports of the single runs.

    Raises:
        FileNotFoundError: there is no recipes.csv, or the run of a recipe is gone.
    """
    folder = Path(chain_dir).resolve()
    target = folder / PAGE
    with (folder / RECIPES_FILE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    runs = {row["recipe"]: read_run(row["run_dir"]) for row in rows}
    (kept,) = [row for row in rows if row["chosen"]]
    ranked = sorted(rows, key=lambda row: float(row["val_dice"]), reverse=True)
    run = runs[kept["recipe"]]
    masks = next_commands(run)[0]
    page = render_page(
        "recipes.html.j2",
        name=folder.name,
        folder=folder,
        kept=kept["recipe"],
        lead=float(ranked[0]["val_dice"]) - float(ranked[1]["val_dice"]),
        second=ranked[1]["recipe"],
        rows=[_row(row, runs[row["recipe"]], folder) for row in ranked],
        chart=_chart(folder, ranked, runs),
        epoch=_compared(runs)[1],
        counts=run.manifest.get("counts") or {},
        few_frames=FEW_FRAMES,
        sample=bool(run.manifest.get("sample")),
        command=masks.text.replace(str(run.path / "model.pt"), str(folder / "model.pt")),
    )
    write_text(target, page)
    logger.info("Report: %s", target)
    return target


def _row(row: dict[str, str], run: RunFiles, folder: Path) -> dict[str, Any]:
    """A line of the table."""
    figures = run.figures("best")
    dice = figures.get("dice", {})
    return {
        "recipe": row["recipe"],
        "chosen": bool(row["chosen"]),
        "validation": shown("dice", float(row["val_dice"])),
        "test": shown("dice", dice.get("value")),
        "interval": shown_interval("dice", dice) or DASH,
        "alarms": shown("false_positive_frames", figures.get("false_positive_frames", {}).get("value")),
        "seconds": run.environment.get("seconds"),
        "report": (run.path / "report.html").relative_to(folder).as_posix(),
    }


def _compared(runs: dict[str, RunFiles]) -> tuple[str, str]:
    """Which point of a curve is compared, and of which epoch that is: the one whose network a run ships."""
    ships = {"last" if run.config.get("shipped_epoch") == "last" else "best" for run in runs.values()}
    if len(ships) > 1:
        return "the point of the epoch that is shipped", "at the epoch that is shipped (shipped_epoch)"
    if ships == {"last"}:
        return "the last point", "of the last epoch (shipped_epoch)"
    return "the highest point", "at the epoch that is best on validation"


def _chart(folder: Path, ranked: Sequence[dict[str, str]], runs: dict[str, RunFiles]) -> Chart | None:
    """Validation Dice over epochs, of as many recipes as there are line styles, the best first."""
    names = [row["recipe"] for row in ranked][: len(STYLES)]
    epochs: dict[float, dict[str, float]] = {}
    for name in names:
        for row in runs[name].epochs:
            epochs.setdefault(row["epoch"], {"epoch": row["epoch"]})[name] = row.get("val_dice", math.nan)
    rows = [epochs[epoch] for epoch in sorted(epochs)]
    few = f" The {len(STYLES)} best." if len(ranked) > len(STYLES) else ""
    note = f"Mean Dice of the validation frames; {_compared(runs)[0]} of each is compared.{few}"
    return epoch_chart(folder / "figures", "recipes", "Validation", note, rows, [Line(name, name) for name in names])
