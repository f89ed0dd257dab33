"""LESSNet from a distilled encoder, against a random start and against the teacher itself.

    python benchmarks/encoder_distillation.py --data ../shared/data \
        --weights ../shared/weights/mobilenetv2_100.in1k.safetensors

MobileViT has no ImageNet weights on machines without a hub, MobileNetV2 has: distil_encoder.json teaches the one to
see frames as the other does, then train_supervised.json trains on a tenth of Kvasir-SEG's masks. Frames of the
distillation: all of Kvasir-SEG but those of validation and test of the seed's split (a seed is a split of its own, so
each seed distils anew), and all of --frames: capsule endoscopy and fundus photographs. Finished runs are kept and
unfinished ones resumed, so it can be stopped at any time. Writes benchmarks/results/encoder_distillation.csv (one row a
cell) and prints its table.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from bundle_run import ROOT, figures_of, is_there, kept_rows, machine_of, pairs, run_bundle, training_seconds, write
from write_results import distillation

TEACHER = "mobilenetv2_100"
PRESETS = {"mobilevit_xxs": "lite_mobilevit_xxs", "mobilevit_xs": "lite_mobilevit_xs", TEACHER: "lite"}
FRAMES = ("wce_bleeding/images", "wce_bleeding/unlabeled", "dr_grade/images")
FIGURES = ("dice", "iou", "dice_pooled", "iou_pooled", "false_positive_frames", "hd95")


def cells(args: argparse.Namespace) -> list[tuple[str, str]]:
    """(backbone, start): each student from both starts, then the teacher."""
    return [(one, start) for one in args.backbones for start in ("random", "distilled")] + [(TEACHER, "imagenet")]


def distil(args: argparse.Namespace, backbone: str, seed: int) -> Path:
    """Run the distillation of one backbone and split, or find the finished one; returns its run directory."""
    overrides = {
        "dataset_dir": (args.data / "kvasir_seg").resolve(),
        "unlabeled_data": [str((args.data / folder).resolve()) for folder in args.frames] or True,
        "backbone": backbone,
        "teacher_backbone": TEACHER,
        "teacher_weights": args.weights.resolve(),
        "seed": seed,
        "image_size": args.distil_image_size,
        "max_epochs": args.distil_epochs,
        "iterations_per_epoch": args.iterations,
        **pairs(args.distil_set),
    }
    # The report is the last thing that it writes.
    name = f"distil_{backbone}_seed{seed}"
    return run_bundle(args.work, name, ["train", "distil_encoder"], overrides, "report.html")


def run_cell(args: argparse.Namespace, backbone: str, start: str, seed: int) -> dict[str, Any]:
    """Distil if that is the start, train, measure; the columns of a row behind its key."""
    weights: str | Path = "none" if start == "random" else args.weights.resolve()
    taught: dict[str, Any] = {"feature_similarity": "", "top1_agreement": "", "pretraining_seconds": 0.0}
    if start == "distilled":
        run_dir = distil(args, backbone, seed)
        weights = (run_dir / "model.pt").resolve()
        with (run_dir / "metrics.csv").open(newline="") as file:
            last = list(csv.DictReader(file))[-1]
        taught["feature_similarity"] = last["val_feature_similarity"]
        taught["top1_agreement"] = last.get("val_top1_agreement", "")
        taught["pretraining_seconds"] = training_seconds(run_dir)
    overrides = {
        "dataset_dir": (args.data / "kvasir_seg").resolve(),
        "network_def::preset": PRESETS[backbone],
        "encoder_weights": weights,
        "label_fraction": args.label_fraction,
        "seed": seed,
        "image_size": args.image_size,
        "max_epochs": args.epochs,
        "iterations_per_epoch": args.iterations,
        **pairs(args.set),
    }
    name = f"distilled_start_{backbone}_{start}_{args.label_fraction:g}_seed{seed}"
    run_dir = run_bundle(args.work, name, ["train", "train_supervised"], overrides, "report.html")
    counts = json.loads((run_dir / "manifest.json").read_text())["counts"]
    row = {"labelled": counts["training"]["labelled"], "test_frames": counts["test"]["images"]}
    for which in ("best", "last"):
        found = figures_of(run_dir, which)
        row |= {f"{which}_{name}": found.get(name, "") for name in FIGURES}
    return {**row, **taught, "training_seconds": training_seconds(run_dir), "machine": machine_of(run_dir)}


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of all data sets, with kvasir_seg in it")
    parser.add_argument("--weights", type=Path, required=True, help=f"ImageNet weights of {TEACHER}, with classifier")
    parser.add_argument("--frames", nargs="*", default=list(FRAMES), help="folders of more frames, below --data")
    students = [name for name in PRESETS if name != TEACHER]
    parser.add_argument("--backbones", nargs="+", default=students, choices=students)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of split, label subset and weights")
    parser.add_argument("--label-fraction", type=float, default=0.1)
    parser.add_argument("--image-size", type=int, default=192, help="pixels, of the training")
    parser.add_argument("--distil-image-size", type=int, default=128, help="pixels, of the distillation")
    parser.add_argument("--epochs", type=int, default=16, help="of the training")
    parser.add_argument("--distil-epochs", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=50, help="steps an epoch, of both")
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the training")
    parser.add_argument("--distil-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the distillation")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    parser.add_argument("--tag", default="", help="appended to the CSV's name")
    args = parser.parse_args()
    path = ROOT / "benchmarks" / "results" / f"encoder_distillation{args.tag}.csv"
    rows = kept_rows(path)
    for seed in args.seeds:
        for backbone, start in cells(args):
            key = {
                "backbone": backbone,
                "start": start,
                "label_fraction": args.label_fraction,
                "seed": seed,
                "image_size": args.image_size,
                "steps": args.epochs * args.iterations,
                "distil_image_size": args.distil_image_size,
                "distil_steps": args.distil_epochs * args.iterations,
                "distil_frames": " ".join(args.frames),
                "settings": " ".join(args.set),
                "distil_settings": " ".join(args.distil_set) if start == "distilled" else "",
            }
            if is_there(rows, key):
                continue
            rows.append({**key, **run_cell(args, backbone, start, seed)})
            write(rows, path)
            print(f"{backbone}, {start}, seed {seed}: test Dice {rows[-1]['best_dice']}", flush=True)
    print(distillation([{name: str(value) for name, value in row.items()} for row in rows]))


if __name__ == "__main__":
    main()
