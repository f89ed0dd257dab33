"""Methods side by side on one data set: each cell is one run of the bundle's own configs, with the same steps.

    python benchmarks/semi_supervised.py kvasir --data ../shared/data/kvasir_seg \
        --weights ../shared/weights/mobilenetv2_100.in1k.safetensors

Finished cells are kept and unfinished ones resumed, so it can be stopped at any time. Writes
benchmarks/results/semi_supervised_<name>.csv (one row a cell) and prints the table of means over seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from bundle_run import (
    ROOT,
    best_and_last,
    is_there,
    kept_rows,
    machine_of,
    pairs,
    run_bundle,
    training_seconds,
    write,
)

METHODS = ("supervised", "weak_to_strong", "mean_teacher", "less_net")
#: overrides that a method's own config file holds beside its name
CONFIG_OF = {"supervised": "train_supervised"}
FIGURES = (
    "dice", "iou", "dice_pooled", "iou_pooled", "miou", "mrecall", "recall_pooled", "precision_pooled",
    "false_positive_frames", "hd95", "surface_dice", "ece", "ece_scaled",
)  # fmt: skip


def cell_key(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """What makes a cell the same as a row that is there already."""
    return {
        "method": method,
        "seed": seed,
        "label_fraction": args.label_fraction,
        "steps": args.epochs * args.iterations,
        "image_size": args.image_size,
        "settings": " ".join(args.set),
    }


def run_cell(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Train and test one method with one seed, or read the finished run; returns its row."""
    name = f"{args.name}_{method}_labels{args.label_fraction:g}_seed{seed}"
    overrides = {
        "dataset_dir": args.data.resolve(),
        "encoder_weights": args.weights.resolve() if args.weights else "none",
        "label_fraction": args.label_fraction,
        "seed": seed,
        "image_size": args.image_size,
        "max_epochs": args.epochs,
        "iterations_per_epoch": args.iterations,
        "unsupervised_start": args.unsupervised_start,
        "unsupervised_rampup": args.unsupervised_rampup,
        **pairs(args.set),
    }
    configs = ["train", CONFIG_OF.get(method, method)]
    run_dir = run_bundle(args.work, name, configs, overrides, "test_metrics.json")
    return row_of(run_dir, args, method, seed)


def row_of(run_dir: Path, args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """The CSV row of a finished run."""
    metrics = json.loads((run_dir / "test_metrics.json").read_text())
    environment = json.loads((run_dir / "environment.json").read_text())
    manifest = json.loads((run_dir / "manifest.json").read_text())
    row: dict[str, Any] = {
        "data": args.name,
        "method": method,
        "label_fraction": args.label_fraction,
        "seed": seed,
        "labelled": manifest["counts"]["training"]["labelled"],
        "unlabelled": manifest["counts"]["unlabeled"]["images"],
        "test_frames": manifest["counts"]["test"]["images"],
        "steps": args.epochs * args.iterations,
        "image_size": args.image_size,
        "encoder_weights": Path(str(environment["encoder_weights"]["used"])).name,
        "settings": " ".join(args.set),
    }
    row |= best_and_last(run_dir, FIGURES)
    row |= {"best_epoch": metrics["best"]["epoch"], "training_seconds": training_seconds(run_dir)}
    return row | {"machine": machine_of(run_dir)}


def table(rows: list[dict[str, Any]], which: str = "best") -> str:
    """Markdown table of means (and sd where there are several seeds) for each method."""
    names = ("dice", "iou", "dice_pooled", "iou_pooled", "miou", "mrecall", "false_positive_frames")
    lines = ["| method | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        cells = []
        for name in names:
            values = [float(row[f"{which}_{name}"]) for row in own if row[f"{which}_{name}"] != ""]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}" if values else "–")
        lines.append(f"| {method} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the data set, used in file names")
    parser.add_argument("--data", type=Path, required=True, help="dataset_dir")
    parser.add_argument("--weights", type=Path, help="encoder weights; left out = random start")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="objectives")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--label-fraction", type=float, default=0.1)
    parser.add_argument("--image-size", type=int, default=192, help="pixels")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=50, help="steps an epoch")
    parser.add_argument("--unsupervised-start", type=int, default=100)
    parser.add_argument("--unsupervised-rampup", type=int, default=200)
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="more overrides of train.json")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    parser.add_argument("--tag", default="", help="appended to the CSV's name")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = ROOT / "benchmarks" / "results" / f"semi_supervised_{args.name}{args.tag}.csv"
    rows = kept_rows(path)
    for seed in args.seeds:
        for method in args.methods:
            if is_there(rows, cell_key(args, method, seed)):
                continue
            rows.append(run_cell(args, method, seed))
            write(rows, path)
            print(f"{method}, seed {seed}: test Dice {rows[-1]['best_dice']}, IoU {rows[-1]['best_iou']}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
