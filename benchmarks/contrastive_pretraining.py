"""Contrastive pretraining against none: each cell is one, two or three runs of the bundle's own configs.

    python benchmarks/contrastive_pretraining.py hippocampus --data ../shared/data/hippocampus_msd \
        --configs unet volumes --fractions 0.05 0.1 0.2
    python benchmarks/contrastive_pretraining.py kvasir --data ../shared/data/kvasir_seg --objective weak_to_strong \
        --weights ../shared/weights/mobilenetv2_100.in1k.safetensors --methods none local_block --fractions 0.05 0.1

A seed is a split of its own. Finished stages are kept and unfinished ones resumed, so it can be stopped at any time;
the global stage does not depend on the share of labels and is run once a seed. Writes
benchmarks/results/contrastive_pretraining_<name>.csv (one row a cell) and prints the table of means over seeds.
"""

from __future__ import annotations

import argparse
import json
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
from write_results import contrastive

#: the stages before the last one, in order
METHODS: dict[str, tuple[str, ...]] = {
    "none": (),
    "global": ("global",),
    "local_stride": ("local_stride",),
    "local_block": ("local_block",),
    "global_local_block": ("global", "local_block"),
}
CONFIG_OF = {"global": "pretrain_global", "local": "pretrain_local_contrastive"}


def run_stage(args: argparse.Namespace, name: str, config: str, overrides: dict[str, Any], done: str) -> Path:
    """Run one stage unless its file `done` is there; returns its folder."""
    common = {"dataset_dir": args.data.resolve()}
    if args.weights:
        common["encoder_weights"] = args.weights.resolve()
    return run_bundle(args.work, name, ["train", config, *args.configs], {**common, **overrides}, done)


def pretrain(args: argparse.Namespace, method: str, fraction: float, seed: int) -> tuple[str, float]:
    """Run the stages before the last -> (model.pt to start from or "", seconds of training)."""
    start, seconds, before = "", 0.0, ""
    for stage in METHODS[method]:
        kind, _, mode = stage.partition("_")
        before += f"_{stage}"
        overrides = {"seed": seed, "label_fraction": 1.0 if kind == "global" else fraction}
        name = f"{args.name}{before}_seed{seed}" if kind == "global" else f"{args.name}{before}_{fraction:g}_seed{seed}"
        if mode:
            overrides["contrast_mode"] = mode
        if start:
            overrides["init_checkpoint"] = start
        overrides |= pairs(getattr(args, f"{kind}_set"))
        # The report is the last thing a stage writes.
        run_dir = run_stage(args, name, CONFIG_OF[kind], overrides, "report.html")
        start = str((run_dir / "model.pt").resolve())
        seconds += training_seconds(run_dir)
    return start, seconds


def run_cell(args: argparse.Namespace, method: str, fraction: float, seed: int) -> dict[str, Any]:
    """Pretrain, train and test one cell, or read what is finished; returns its row."""
    start, before = pretrain(args, method, fraction, seed)
    overrides = {"seed": seed, "label_fraction": fraction, **pairs(args.set)}
    if start:
        overrides["init_checkpoint"] = start
    config = "train_supervised" if args.objective == "supervised" else args.objective
    name = f"{args.name}_train_{args.objective}_{method}_{fraction:g}_seed{seed}"
    run_dir = run_stage(args, name, config, overrides, "test_metrics.json")
    metrics = json.loads((run_dir / "test_metrics.json").read_text())
    manifest = json.loads((run_dir / "manifest.json").read_text())
    row = cell_key(args, method, fraction, seed) | {
        "labelled_groups": len({one["group"] for one in manifest["files"] if one["section"] == "training"}),
        "labelled_images": manifest["counts"]["training"]["labelled"],
        "test_groups": manifest["counts"]["test"]["groups"],
    }
    row |= best_and_last(run_dir)
    row |= {"best_epoch": metrics["best"]["epoch"], "pretraining_seconds": round(before, 1)}
    row |= {"training_seconds": training_seconds(run_dir)}
    return row | {"machine": machine_of(run_dir)}


def cell_key(args: argparse.Namespace, method: str, fraction: float, seed: int) -> dict[str, Any]:
    """What makes a cell the same as a row that is there already."""
    return {
        "data": args.name,
        "configs": " ".join(args.configs),
        "objective": args.objective,
        "method": method,
        "label_fraction": fraction,
        "seed": seed,
        "train_settings": " ".join(args.set),
        "local_settings": " ".join(args.local_set),
        "global_settings": " ".join(args.global_set),
    }


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the data set, used in file names")
    parser.add_argument("--data", type=Path, required=True, help="dataset_dir")
    parser.add_argument("--weights", type=Path, help="encoder weights of LESSNet; left out = as the configs say")
    parser.add_argument("--configs", nargs="*", default=[], help="configs layered over each stage, without .json")
    parser.add_argument("--objective", default="supervised", help="of the last stage")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.05, 0.1, 0.2])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of split, label subset and weights")
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the last stage")
    parser.add_argument("--local-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the local stage")
    parser.add_argument("--global-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the global stage")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    parser.add_argument("--tag", default="", help="appended to the CSV's name")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = ROOT / "benchmarks" / "results" / f"contrastive_pretraining_{args.name}{args.tag}.csv"
    rows = kept_rows(path)
    for seed in args.seeds:
        for fraction in args.fractions:
            for method in args.methods:
                if is_there(rows, cell_key(args, method, fraction, seed)):
                    continue
                rows.append(run_cell(args, method, fraction, seed))
                write(rows, path)
                print(f"{method}, {fraction:.0%}, seed {seed}: test Dice {rows[-1]['best_dice']}", flush=True)
    print(contrastive([{key: str(value) for key, value in row.items()} for row in rows]))


if __name__ == "__main__":
    main()
