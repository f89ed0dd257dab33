"""Encoders pretrained on severity against others: graded pictures, the weight alpha, and segmentation from each.

    W=../shared/weights/mobilenetv2_100.in1k.safetensors
    python benchmarks/severity.py grade --data ../shared/data/dr_grade --weights $W
    python benchmarks/severity.py alpha --data ../shared/data/dr_grade --weights $W
    python benchmarks/severity.py segment --data ../shared/data --weights $W

Every start is a run of pretrain_severity.json from the same ImageNet weights ("imagenet": none). Pictures of one
patient are in one part of the split; a seed is a split of its own. Finished runs are kept, so it can be stopped at any
time. Writes benchmarks/results/severity_<what>.csv and prints its table.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bundle_run import (
    ROOT,
    best_on_validation,
    figures_of,
    is_there,
    kept_rows,
    machine_of,
    pairs,
    run_bundle,
    training_seconds,
    write,
)
from plot_severity_alpha import main as plot_alpha
from pretrained_starts import severity_start
from severity_tables import severity_alpha, severity_grades, severity_segmentation

STARTS = ("imagenet", "simclr", "supcon", "semise")
GRADES = ["none", "mild", "moderate", "severe", "proliferative"]
#: of the grader; a probe has 1,300 weights a grade and takes larger steps
MODES = {
    "probe": {"freeze_encoder": True, "learning_rate": 0.01},
    "fine-tune": {"freeze_encoder": False, "learning_rate": 0.001},
}
TRAIN = ["train", "severity", "train_severity"]
#: severities (shares of lesion area) at which a grade of SupCon ends, on sets that have masks and no grades
EDGES = [0.02, 0.06]


def graded_table(data: Path, work: Path) -> Path:
    """severity.csv of dr_grade: grades 0 to 4 (5, advanced eye disease, is beyond the scale, counts as 4), patients.

    One patient is there under two numbers and two grades (the same files); one group, so that no split parts them.
    """
    with (data / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = ["file,severity,patient"]
    owner: dict[bytes, str] = {}
    for row in rows:
        patient = re.sub(r"[_-][LR]\..*$", "", row["source_file"])
        patient = owner.setdefault((data / "images" / row["file"]).read_bytes(), patient)
        lines.append(f"{row['file']},{min(4, int(row['dr_grade_0to4_5ADED']))},{patient}")
    work.mkdir(parents=True, exist_ok=True)
    path = work / "dr_grade.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def pretrain(
    args: argparse.Namespace, data: Path, start: str, fraction: float, seed: int, more: dict[str, Any], name: str = ""
) -> tuple[Path, float]:
    """Encoder weights to start from and the seconds that their training took."""
    if start == "imagenet":
        return args.weights.resolve(), 0.0
    more = {"image_size": args.image_size, **more, **pairs(args.pretrain_set)}
    weights, name = args.weights.resolve(), name or f"severity_{data.stem}"
    run_dir = severity_start(args.work, name, data, weights, start, fraction, seed, more)
    return (run_dir / "model.pt").resolve(), training_seconds(run_dir)


def grade_cells(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each cell's key and what runs it."""
    table = graded_table(args.data, args.work).resolve()
    for seed in args.seeds:
        for fraction in args.fractions:
            for start in args.starts:
                for mode in args.modes:
                    key = {"start": start, "mode": mode, "label_fraction": fraction, "seed": seed}
                    yield key, lambda key=key: run_grading(args, table, key, {"severity_table": table}, "")


def alpha_cells(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any]]:
    """SEMISE with each alpha; linear probe and fine-tuning."""
    table = graded_table(args.data, args.work).resolve()
    for seed in args.seeds:
        for alpha in args.alphas:
            for mode in args.modes:
                key = {"alpha": alpha, "mode": mode, "label_fraction": args.fractions[0], "seed": seed}
                more = {"severity_table": table, "objective_options": json.dumps({"alpha": alpha})}
                yield (
                    key,
                    lambda key=key, more=more: run_grading(
                        args, table, {"start": "semise", **key}, more, f"severity_alpha{key['alpha']:g}"
                    ),
                )


def run_grading(
    args: argparse.Namespace, table: Path, key: dict[str, Any], more: dict[str, Any], name: str
) -> dict[str, Any]:
    """Pretrain, train a grader, measure it: figures of the epoch that was best on validation."""
    fraction, seed, start, mode = key["label_fraction"], key["seed"], key["start"], key["mode"]
    weights, seconds = pretrain(args, args.data, start, fraction, seed, more, name)
    overrides = {
        "dataset_dir": args.data.resolve(),
        "severity_table": table,
        "grades": str(GRADES),
        "encoder_weights": weights,
        "image_size": args.image_size,
        "label_fraction": fraction,
        "seed": seed,
        **MODES[mode],
        **pairs(args.set),
    }
    run_name = f"{name or 'severity_grade'}_{start}_{mode}_{fraction:g}_seed{seed}"
    run_dir = run_bundle(args.work, run_name, TRAIN, overrides, "report.html")
    counts = json.loads((run_dir / "manifest.json").read_text())["counts"]
    last = figures_of(run_dir, "last")
    return {
        "labelled": counts["training"]["labelled"],
        "test_pictures": counts["test"]["images"],
        "val_kappa": best_on_validation(run_dir, "val_kappa"),
        **figures_of(run_dir),
        **{f"last_{name}": last[name] for name in ("macro_f1", "kappa", "spearman")},
        "pretraining_seconds": seconds,
        "training_seconds": training_seconds(run_dir),
        "machine": machine_of(run_dir),
    }


def segment_cells(args: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any]]:
    """LESSNet on a tenth of the masks from each start, pretrained on the severities of capsule frames."""
    for seed in args.seeds:
        for data in ("wce_bleeding", "kvasir_seg"):
            for start in args.starts:
                key = {"data": data, "start": start, "label_fraction": args.fractions[0], "seed": seed}
                yield key, lambda key=key: run_segmentation(args, key)


def run_segmentation(args: argparse.Namespace, key: dict[str, Any]) -> dict[str, Any]:
    """Pretrain where there are healthy frames (wce_bleeding, the same split and masks), train, measure."""
    source, start, fraction, seed = args.data / "wce_bleeding", key["start"], key["label_fraction"], key["seed"]
    more = {"objective_options": json.dumps({"edges": EDGES})} if start == "supcon" else {}
    weights, seconds = pretrain(args, source, start, fraction, seed, more)
    overrides = {
        "dataset_dir": (args.data / key["data"]).resolve(),
        "encoder_weights": weights,
        "image_size": args.image_size,
        "label_fraction": fraction,
        "seed": seed,
        **pairs(args.set),
    }
    name = f"severity_segment_{key['data']}_{start}_{fraction:g}_seed{seed}"
    run_dir = run_bundle(args.work, name, ["train", args.segmentation], overrides, "report.html")
    found = figures_of(run_dir)
    return {
        **{name: found[name] for name in ("dice", "iou", "dice_pooled", "iou_pooled")},
        "pretraining_seconds": seconds,
        "training_seconds": training_seconds(run_dir),
        "machine": machine_of(run_dir),
    }


CELLS = {
    "grade": (grade_cells, severity_grades),
    "alpha": (alpha_cells, severity_alpha),
    "segment": (segment_cells, severity_segmentation),
}


def main() -> None:
    """Run a grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(CELLS))
    parser.add_argument("--data", type=Path, required=True, help="dr_grade; for segment the folder of all data sets")
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of the encoder")
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=STARTS)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--fractions", nargs="+", type=float, help="of the labels; alpha and segment take one")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of split, label subset and weights")
    parser.add_argument("--alphas", nargs="+", type=float, default=[number / 10 for number in range(11)])
    parser.add_argument("--image-size", type=int, default=160, help="pixels")
    parser.add_argument("--segmentation", default="train_supervised", help="config of the segmentation")
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the last stage")
    parser.add_argument("--pretrain-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of pretraining")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    parser.add_argument("--tag", default="", help="appended to the CSV's name")
    args = parser.parse_args()
    args.fractions = args.fractions or ([1.0, 0.25, 0.1] if args.what == "grade" else [0.1])
    path = ROOT / "benchmarks" / "results" / f"severity_{args.what}{args.tag}.csv"
    settings = {
        "image_size": args.image_size,
        "pretrain_settings": " ".join(args.pretrain_set),
        "settings": " ".join(args.set),
    }
    rows = kept_rows(path)
    cells, table = CELLS[args.what]
    for key, run in cells(args):
        key |= settings
        if is_there(rows, key):
            continue
        rows.append({**key, **run()})
        write(rows, path)
        print(
            {name: rows[-1].get(name) for name in (*key, "kappa", "macro_f1", "dice") if rows[-1].get(name)}, flush=True
        )
    print(table([{name: str(value) for name, value in row.items()} for row in rows]))
    if args.what == "alpha" and not args.tag:
        plot_alpha()


if __name__ == "__main__":
    main()
