"""The model card's tables in bundle/docs/README.md: what the shipped weights are, their figures, parts, and speed.

python benchmarks/model_card.py

Reads benchmarks/results/released_weights.csv and .json, made by release_weights.py, and backend_speed.csv.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bundle_run import ROOT, kept_rows

sys.path.insert(0, str(ROOT / "bundle"))

from tables import Rows, fill, markdown  # noqa: E402

from scripts.metrics.definitions import title  # noqa: E402
from scripts.metrics.subgroups import SIZES, subgroups  # noqa: E402
from scripts.reports.page import shown  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
ROWS = RESULTS / "released_weights.csv"
RESULT = RESULTS / "released_weights.json"
SPEED = RESULTS / "backend_speed.csv"
CARD = ROOT / "bundle" / "docs" / "README.md"

FIGURES = (
    "dice", "iou", "recall", "precision", "dice_pooled", "iou_pooled", "false_positive_frames", "hd95", "surface_dice",
    "ece", "ece_scaled",
)  # fmt: skip
EMPTY = next(iter(SIZES.values()))


def facts(found: dict[str, Any]) -> str:
    """What the weights were made of and how."""
    counts, weights = found["counts"], found.get("weights") or {}
    how = f"{found['objective']}, {found['steps']} steps at {found['image_size']} px, {found['precision']}"
    rows = [
        ("data", ", ".join(f"{name}: {folder}" for name, folder in found["data"].items())),
        *(
            (section, f"{count['images']} frames of {count['groups']} groups, {count['labelled']} with masks")
            for section, count in counts.items()
        ),
        ("objective", how),
        ("encoder's start", found["encoder_weights"]),
        ("shipped epoch", f"{found['epoch']}, the best by {found['key_metric']}"),
        ("temperature", f"{found['temperature']:.3f}, fitted on validation"),
        ("command", f"`{found['command']}`"),
        ("machine", f"{found['machine']}, {found['training_seconds'] / 60:.0f} min"),
    ]
    if "sha256" in weights:
        parity = weights.get("parity")
        likeness = f", mean Dice with float32 {parity['dice']:.5f}" if parity else ""
        rows.append(("storage", weights["storage"] + likeness))
        rows += [(f"SHA-256 of {name}", f"`{value}`") for name, value in weights["sha256"].items()]
    return markdown(["", ""], rows)


def figures(found: dict[str, Any]) -> str:
    """Each figure of the test split with its interval."""
    body = []
    for name, figure in found["figures"].items():
        body.append([title(name), _shown(figure["value"], name), _interval(figure["low"], figure["high"], name)])
    return markdown(["figure", "test", "95 % interval over groups"], body)


def parts(rows: Rows) -> str:
    """Figures by source, and by size of the lesion within each source."""
    found = subgroups(rows)
    by_size = {part.name: subgroups(of_source(rows, part.name)) for part in found if part.axis == "source"}
    body = [_part("all", part) for part in found if part.axis == "size"]
    for source, own in by_size.items():
        whole = next(part for part in found if part.axis == "source" and part.name == source)
        body += [_part(source, whole, "all"), *(_part(source, part) for part in own if part.axis == "size")]
    header = ["source", "frames with", "frames", "Dice", "95 % interval", "recall", "precision"]
    return markdown(header, body)


def of_source(rows: Rows, source: str) -> Rows:
    """The rows of a source, by the folder in the path of their file; all where it is ""."""
    return [row for row in rows if not source or f"/{source}/" in f"/{row['file']}"]


def _part(source: str, part: Any, name: str = "") -> list[str]:
    """A row; of frames without a lesion Dice is the share on which nothing at all was predicted."""
    dice, interval = part.figures["dice"]
    low, high = interval or (None, None)
    others = ["–", "–"] if part.name == EMPTY else [f"{part.figures[one][0]:.3f}" for one in ("recall", "precision")]
    return [source, name or part.name, str(part.images), f"{dice:.3f}", _interval(low, high, "dice"), *others]


def speed(rows: Rows) -> str:
    """Milliseconds a frame of the backends and of other networks, in one run."""
    own = [row for row in rows if row["p50_ms"]]
    body = [[row["case"], f"{int(row['parameters']):,}", row["gmac"], row["p50_ms"], row["p95_ms"]] for row in own]
    first = own[0]
    what = f"{first['side_px']} px, batch {first['batch']}, {first['threads']} threads, {first['machine']}"
    return markdown(["", "parameters", "GMAC", "ms a frame, median", "95th percentile"], body) + f"\n\n{what}."


def _shown(value: float | None, name: str) -> str:
    """As in the report, with its unit where it has one."""
    return shown(name, value) + (" px" if name == "hd95" and value is not None else "")


def _interval(low: float | None, high: float | None, name: str) -> str:
    return "" if low is None or high is None else f"{_shown(low, name)} to {_shown(high, name)}"


def write_card(card: Path = CARD) -> None:
    """Fill the card; before there are released weights its table of speed alone."""
    tables = {"speed": speed(kept_rows(SPEED))}
    if RESULT.is_file():
        found = json.loads(RESULT.read_text())
        tables |= {"released weights": facts(found), "released figures": figures(found)}
        tables["released parts"] = parts(kept_rows(ROWS))
    fill(card, tables)


if __name__ == "__main__":
    write_card()
