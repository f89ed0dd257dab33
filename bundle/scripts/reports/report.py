"""One self-contained HTML page about a run, from the files of its directory alone."""

from __future__ import annotations

import json
import logging
import math
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.engines.run_directory import is_main_process
from scripts.io.atomic import write_text
from scripts.metrics.definitions import title
from scripts.metrics.subgroups import subgroups
from scripts.reports.commands import next_commands
from scripts.reports.curves import epoch_charts, present
from scripts.reports.embedding_map import embedding_picture
from scripts.reports.figures import dice_histogram, size_scatter, structure_histogram
from scripts.reports.overlays import KINDS, cases
from scripts.reports.page import render_page, shown, shown_interval
from scripts.reports.run_files import RunFiles, read_run
from scripts.reports.severity import severity_charts
from scripts.reports.volumes import volume_cases, volumes

logger = logging.getLogger(__name__)
OF_SEVERITY = ("kappa", "macro_f1", "macro_recall", "maee", "spearman")
OWN_UNIT = ("false_positive_frames", *OF_SEVERITY)  # said on the card in place of what it is a mean of
HEADLINE = ("dice", "iou", "recall", "precision", "false_positive_frames")
COLUMNS = {"best": "Test, best", "last": "Test, last", "validation": "Validation, best"}  # checkpoint
UNCHOSEN = {"best": "Test", "last": "Test, last", "validation": "Validation"}  # where validation chose none
SECTIONS = ("training", "unlabeled", "validation", "test")
FEW_GROUPS = 10  # a bootstrap over fewer groups covers less often than it says


def write_report(run_dir: str | Path) -> Path:
    """Write <run_dir>/report.html and <run_dir>/figures/*.png; a section whose file is missing says so.

    Reads the files of the run directory and the frames and masks that its manifest.json names.

    Returns:
        the path of the page. It holds all its pictures, asks for nothing from a network, and opens from disk. Of
        several processes rank 0 writes it.

    Raises:
        FileNotFoundError: when `run_dir` is not the directory of a run.
    """
    if not is_main_process():
        return Path(run_dir) / "report.html"
    run = read_run(run_dir)
    page = render_page(
        "template.html.j2",
        run=run,
        name=run.path.name,
        started=_moment(run.environment.get("started")),
        alerts=alerts(run),
        sample=bool(run.manifest.get("sample")),
        cards=cards(run),
        table=figure_table(run),
        columns=_columns(run),
        checkpoint=_checkpoint(run),
        validated=any(name.startswith("val_") and value == value for row in run.epochs for name, value in row.items()),
        chosen=run.was_chosen,
        subgroups=subgroup_table(run),
        measured=len({row["file"] for row in run.images or run.structures or run.graded}),
        groups=_groups(run),
        few_groups=FEW_GROUPS,
        charts=epoch_charts(run),
        spread=present(
            dice_histogram(run.path / "figures", run.images),
            size_scatter(run.path / "figures", run.images),
            structure_histogram(run.path / "figures", run.structures, run.noun[:-1]),
            *severity_charts(run),
        ),
        cases=cases(run),
        embedding=embedding_picture(run),
        volumes=volumes(run),
        volume_cases=volume_cases(run),
        kinds=KINDS,
        sections=SECTIONS,
        groups_apart=bool(run.manifest.get("files")) and not shared_groups(run),
        settings=settings(run.config),
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        commands=next_commands(run),
    )
    target = run.path / "report.html"
    write_text(target, page)
    logger.info("Report: %s", target)
    return target


def alerts(run: RunFiles) -> list[tuple[str, str, str]]:
    """(title, text, details) of everything a reader must know before believing a figure; the loudest first."""
    found = []
    weights = run.environment.get("encoder_weights") or {}
    if run.manifest.get("sample"):
        found.append(("Sample data", "Trained and tested on the built-in, generated sample set: no claim rests on it."))
    if weights.get("substituted"):
        text = (
            f"Asked for {weights.get('requested', '?')}, used {weights.get('used', '?')}. {weights.get('message', '')}"
        )
        found.append(("Encoder weights were substituted", text.strip()))
    taught = [row.get("unsupervised_weight", math.nan) for row in run.epochs]
    if any(map(math.isfinite, taught)) and not any(weight > 0 for weight in taught):
        text = (
            f"The objective {run.config.get('objective')} had no weight in any epoch: it begins after "
            f"{run.config.get('unsupervised_start')} steps (unsupervised_start). Train longer, or let it begin earlier."
        )
        found.append(("Frames without masks taught nothing", text))
    if shared := shared_groups(run):
        found.append(("Groups on two sides of the split", f"{', '.join(shared[:5])}: these figures flatter."))
    others = [*(run.environment.get("substitutions") or []), *(run.manifest.get("warnings") or [])]
    for text in dict.fromkeys(str(other) for other in others):
        if text and text != weights.get("message"):
            found.append(("Note", text))
    parts = ((title, *text.partition("\n")) for title, text in found)
    return [(title, first, rest.strip()) for title, first, _, rest in parts]


def shared_groups(run: RunFiles) -> list[str]:
    """Groups that the manifest lists in more than one of training (with unlabelled frames), validation and test."""
    sides: dict[str, set[str]] = {}
    for entry in run.manifest.get("files") or []:
        section = str(entry.get("section"))
        sides.setdefault(str(entry.get("group")), set()).add("training" if section == "unlabeled" else section)
    return sorted(group for group, found in sides.items() if len(found) > 1)


def _checkpoint(run: RunFiles) -> str:
    """What the network that was measured is, as the beginning of a sentence."""
    if run.was_chosen:
        return "The checkpoint that was best on validation"
    if run.config.get("shipped_epoch") == "last":
        return "The network of the last epoch, as asked for (shipped_epoch)"
    if run.figures("validation"):
        return "The network of the last epoch, since validation gave no figure to choose by while it learned"
    return "The network of the last epoch, since there is no validation split to choose by"


def _groups(run: RunFiles) -> int:
    """Groups that the figures on the cards are of: those of the test split, or of validation where there is none."""
    if rows := run.images or run.structures or run.graded:
        return len({row.get("group") for row in rows})
    counts = run.manifest.get("counts") or {}
    return 0 if run.figures("best") else int(counts.get("validation", {}).get("groups", 0))


def _titles(run: RunFiles) -> dict[str, str]:
    return COLUMNS if run.was_chosen else UNCHOSEN


def cards(run: RunFiles) -> list[dict[str, Any]]:
    """The headline figures of the best checkpoint on the test split, or on validation where there is no test."""
    figures = run.figures("best") or run.figures("validation")
    result = []
    for name in _headline(figures, run):
        figure = figures.get(name)
        if figure is None:
            continue
        low, high = figure.get("low"), figure.get("high")
        bar = None
        if figure.get("value") is not None and low is not None and high is not None and 0 <= low <= high <= 1:
            bar = {"left": 100 * low, "width": max(1.0, 100 * (high - low)), "dot": 100 * figure["value"]}
        result.append(
            {
                "title": title(name),
                "value": shown(name, figure.get("value")),
                "interval": shown_interval(name, figure),
                "bar": bar,
                "unit": figure.get("unit", "") if name in OWN_UNIT else f"mean over {run.noun}",
                "reason": figure.get("definition", "") if figure.get("value") is None else "",
            }
        )
    return result


def figure_table(run: RunFiles) -> list[dict[str, Any]]:
    """One row a figure: title, unit, definition, and a cell for each measured checkpoint."""
    measured, titles = {column: run.figures(column) for column in _columns(run)}, _titles(run)
    names = dict.fromkeys(name for figures in measured.values() for name in figures)
    rows = []
    for name in names:
        known = next(figures[name] for figures in measured.values() if name in figures)
        cells = []
        for column, figures in measured.items():
            figure = figures.get(name, {})
            note = figure.get("unit", "") if name == "false_positive_frames" else ""
            own = (run.test_metrics.get(column) or {}).get("temperature")  # the definition has that of the best
            if name == "ece_scaled" and own is not None:
                note = f"T = {own:.3f}"
            cells.append((titles[column], shown(name, figure.get("value")), shown_interval(name, figure), note))
        rows.append(
            {
                "title": title(name),
                "unit": "pixels" if known.get("unit") == "pixels" else "",
                "definition": known.get("definition", ""),
                "cells": cells,
            }
        )
    return rows


def subgroup_table(run: RunFiles) -> list[dict[str, Any]]:
    """One row a part of the measured images: name, how many, and a cell of value and interval for each figure."""
    rows = []
    for part in subgroups(run.images):
        cells = []
        for name, (value, interval) in part.figures.items():
            low, high = interval or (None, None)
            cells.append((title(name), shown(name, value), shown_interval(name, {"low": low, "high": high})))
        name = part.name if part.axis == "size" else f"folder {part.name}"
        rows.append({"name": name, "images": part.images, "groups": part.groups, "cells": cells})
    return rows


def settings(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of the plain top-level settings and of network_def; expressions are left out."""
    meanings = config.get("_desc_") if isinstance(config.get("_desc_"), dict) else {}
    flat = dict(config)
    if isinstance(config.get("network_def"), dict):
        flat |= {f"network_def::{key}": value for key, value in config["network_def"].items()}
    rows = []
    for name, value in flat.items():
        plain = isinstance(value, (str, int, float, bool)) or (
            isinstance(value, list) and all(isinstance(part, (int, float, str)) for part in value)
        )
        if not plain or name.startswith("_") or "::_" in name or value == "" or str(value).startswith(("$", "@", "%")):
            continue
        rows.append((name, str(value).lower() if isinstance(value, bool) else str(value), str(meanings.get(name, ""))))
    return rows


def _headline(figures: dict[str, Any], run: RunFiles) -> list[str]:
    """Names of the figures on the cards: of volumes Dice of all structures and of each, and IoU."""
    if run.of_severity:
        return [name for name in OF_SEVERITY if name in figures]
    if not run.of_classes:
        return [name for name in HEADLINE if name in figures]
    return [name for name in figures if name.startswith("dice") and name != "dice_pooled"] + ["iou"]


def _columns(run: RunFiles) -> dict[str, tuple[str, str]]:
    """The measured checkpoints: column title and epoch."""
    result = {}
    for column, heading in _titles(run).items():
        if run.figures(column):
            epoch = run.test_metrics[column].get("epoch")
            result[column] = (heading, "" if epoch is None else f"epoch {epoch}")
    return result


def _moment(text: Any) -> str:
    """An ISO time as "20 November 2025, 18:33 UTC"; as it is when it is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text) if text else ""
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
