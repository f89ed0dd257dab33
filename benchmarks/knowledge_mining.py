"""Knowledge mining: pseudo-labels against the hidden truth round by round, and what training on them gives.

    python benchmarks/knowledge_mining.py kvasir --data ../shared/data/kvasir_seg --fractions 0.1 0.5 0.75 --full \\
        --weights ../shared/weights/mobilenetv2_100.in1k.safetensors
    python benchmarks/knowledge_mining.py montgomery --data ../shared/data/cxr_montgomery --fractions 0.5 --full ...

Segmenters: grabcut, random_walker, and oracle:NOISE, which returns the true lesion under the prompt with a border
moved by NOISE radii: the roof of what a good model could give. SAM's weights cannot be had where this was run; with
them, give --segmenters sam --sam-weights NAME. Two controls mine nothing and fine-tune as long: `labels` on the share
of labels alone, `all_labels` on all of them, which is what mining would come to that makes no error. A third one takes
the student's own masks, whatever the segmenter says: --mine-set rules::agreement=1 rules::student_confidence=0.

For each share of labels one student is trained on the labels (round 0), then mined and fine-tuned with each segmenter
while validation rises, as knowledge_mining.json does; and one is trained on all labels. Finished runs are kept, so that
--rounds 1 for all and then --rounds 2 costs no more than --rounds 2. Writes
benchmarks/results/knowledge_mining_<name>.csv, one row a round.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from bundle_run import (
    ROOT,
    bundle_value,
    figures_of,
    is_there,
    kept_rows,
    machine_of,
    pairs,
    run_bundle,
    training_seconds,
    write,
)
from mining_tables import CONTROL, NOT_MINED, ROOF

sys.path.insert(0, str(ROOT / "bundle"))
from scripts.engines.compared_runs import shipped_validation
from scripts.engines.frame_quality import pairwise_agreement
from scripts.io.mask_reader import UNKNOWN, read_mask

MINED = ("frames", "pseudo_labels", "student_dice", "student_dice_of_kept", "mined_dice", "mean_weight", "decisions")
LAYERS = {"train": ("train", "train_supervised"), "mine": ("inference", "mine_pseudo_labels")}


def run_train(args: argparse.Namespace, fraction: float, seed: int) -> Path:
    """The student of round 0, or with all labels."""
    overrides = {
        "dataset_dir": args.data.resolve(),
        "label_fraction": fraction,
        "seed": seed,
        "encoder_weights": args.weights.resolve() if args.weights else "none",
        **pairs(args.set),
    }
    name = f"mining_{args.name}_train_{fraction:g}_seed{seed}"
    return run_bundle(args.work, name, [*LAYERS["train"], *args.configs], overrides, "test_metrics.json")


def run_mine(args: argparse.Namespace, segmenter: str, round_: int, fraction: float, seed: int, student: Path) -> Path:
    """The pseudo-labels that a student and a segmenter come to."""
    kind, _, noise = segmenter.partition(":")
    given: dict[str, Any] = {"segmenter": kind}
    if kind == "oracle":
        masks = next(args.data.resolve() / name for name in ("masks", "labels") if (args.data / name).is_dir())
        options = {"_target_": "oracle_segmenter.OracleSegmenter", "masks": str(masks), "noise": float(noise or 0.1)}
        given = {"miner::segmenter": options}
    elif kind == "sam":
        given |= {"sam_weights": args.sam_weights, "cache_dir": str((args.work / "embeddings").resolve())}
    overrides = {
        "dataset_dir": args.data.resolve(),
        "checkpoint": (student / "model.pt").resolve(),
        "label_fraction": fraction,
        "seed": seed,
        "student_masks": True,
        **given,
        **{key: value for key, value in pairs(args.set).items() if key == "image_size"},
        **pairs(args.mine_set),
    }
    name = f"mining_{args.name}_{segmenter}_{fraction:g}_seed{seed}_round{round_}"
    configs = [*LAYERS["mine"], *args.configs]
    return run_bundle(args.work, name, configs, overrides, "pseudo_labels.json", trains=False)


def run_fine_tune(
    args: argparse.Namespace, name: str, seed: int, student: Path, mined: Path | None, fraction: float
) -> Path:
    """The student trained further: on labels and pseudo-labels, or, where nothing is mined, on the labels."""
    if mined:
        layers, data = ("train", "pseudo_labels"), {"dataset_dir": (mined / "pseudo_labels.json").resolve()}
    else:
        rate = bundle_value("pseudo_labels", "learning_rate")
        layers = LAYERS["train"]
        data = {"dataset_dir": args.data.resolve(), "label_fraction": fraction, "learning_rate": rate}
    overrides = {
        **data,
        "init_checkpoint": (student / "model.pt").resolve(),
        "encoder_weights": "none",
        "seed": seed,
        **pairs(args.set),
        **pairs(args.fine_tune_set),
    }
    return run_bundle(args.work, name, [*layers, *args.configs], overrides, "test_metrics.json")


def against_truth(mined: Path, data: Path) -> dict[str, float | int | str]:
    """Mean Dice of the student's masks and of the mined ones with the masks that were hidden.

    Of all frames whose truth is known, and, without their unknown pixels, of those that got a pseudo-label.
    """
    truths = {path.stem: path for name in ("masks", "labels") for path in (data / name).rglob("*") if path.is_file()}
    with (mined / "pseudo_labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if Path(row["file"]).stem in truths]
    student, student_kept, kept = [], [], []
    for row in rows:
        truth = read_mask(truths[Path(row["file"]).stem]) > 0
        name = Path(Path(row["file"]).with_suffix(".png"))
        own = pairwise_agreement([read_mask(mined / "student_masks" / name) > 0, truth])
        student.append(own)
        if not row["decision"].startswith("dropped"):
            known = read_mask(mined / row["mask"], unknown=True) != UNKNOWN
            masks = [read_mask(path) > 0 for path in (mined / "student_masks" / name, mined / row["mask"])]
            student_kept.append(pairwise_agreement([masks[0][known], truth[known]]))
            kept.append(pairwise_agreement([masks[1][known], truth[known]]))
    summary = json.loads((mined / "mining.json").read_text())
    return {
        "frames": len(rows),
        "pseudo_labels": summary["pseudo_labels"],
        "student_dice": mean(student),
        "student_dice_of_kept": mean(student_kept),
        "mined_dice": mean(kept),
        "mean_weight": summary["mean_weight"] or "",
        "decisions": " ".join(f"{name.replace(' ', '_')}={count}" for name, count in summary["decisions"].items()),
    }


def mean(values: list[float]) -> float | str:
    """Mean with five digits, or nothing."""
    return round(sum(values) / len(values), 5) if values else ""


def key_of(args: argparse.Namespace, segmenter: str, fraction: float, seed: int, round_: int) -> dict[str, Any]:
    """What makes a row the same as one that is there already."""
    return {
        "data": args.name,
        "configs": " ".join(args.configs),
        "segmenter": segmenter,
        "label_fraction": fraction,
        "seed": seed,
        "round": round_,
        "settings": " ".join(args.set),
        "mine_settings": "" if segmenter in NOT_MINED else " ".join(args.mine_set),
        "fine_tune_settings": " ".join(args.fine_tune_set),
    }


def row_of(key: dict[str, Any], run_dir: Path, mined: dict[str, Any] | None = None) -> dict[str, Any]:
    """The CSV row of a round."""
    figures = figures_of(run_dir)
    return {
        **key,
        **(mined or dict.fromkeys(MINED, "")),
        "val_dice": round(shipped_validation(run_dir), 5),
        **{f"test_{name}": figures[name] for name in ("dice", "iou", "false_positive_frames")},
        "training_seconds": training_seconds(run_dir),
        "machine": machine_of(run_dir),
    }


def run_rounds(args: argparse.Namespace, segmenter: str, fraction: float, seed: int, rows: list, path: Path) -> None:
    """Round 0 and the rounds after it, each noted when it is finished."""
    student = run_train(args, fraction, seed)
    best = shipped_validation(student)
    start = key_of(args, "none", fraction, seed, 0)
    if not is_there(rows, start):
        note(rows, row_of(start, student), path)
    for round_ in range(1, args.rounds + 1 if segmenter != "none" else 1):
        mined = None if segmenter in NOT_MINED else run_mine(args, segmenter, round_, fraction, seed, student)
        if mined and not json.loads((mined / "mining.json").read_text())["pseudo_labels"]:
            print(f"{segmenter}, {100 * fraction:g}%, seed {seed}, round {round_}: nothing mined, see {mined}")
            return
        name = f"mining_{args.name}_{segmenter}_{fraction:g}_seed{seed}_fine_tune{round_}"
        student = run_fine_tune(args, name, seed, student, mined, 1.0 if segmenter == ROOF else fraction)
        key = key_of(args, segmenter, fraction, seed, round_)
        if not is_there(rows, key):
            note(rows, row_of(key, student, against_truth(mined, args.data) if mined else None), path)
        if not shipped_validation(student) > best:
            return
        best = shipped_validation(student)


def note(rows: list[dict[str, Any]], row: dict[str, Any], path: Path) -> None:
    """Keep a row and say what it holds."""
    rows.append(row)
    write(rows, path)
    where = f"{row['segmenter']}, {100 * row['label_fraction']:g}%, seed {row['seed']}, round {row['round']}"
    masks = f"pseudo-labels {row['student_dice_of_kept']} -> {row['mined_dice']}, " if row["mined_dice"] else ""
    print(f"{where}: {masks}validation {row['val_dice']}, test Dice {row['test_dice']}", flush=True)


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the data set, used in file names")
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and masks/")
    parser.add_argument("--weights", type=Path, help="encoder weights; left out = random start")
    parser.add_argument("--sam-weights", default="", help="folder or hub name")
    parser.add_argument("--configs", nargs="*", default=[], help="layers of all runs, such as unet_plus_plus")
    parser.add_argument("--segmenters", nargs="+", default=[CONTROL, ROOF, "grabcut", "random_walker", "oracle:0.05"])
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.1, 0.5, 0.75])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of split, label subset and weights")
    parser.add_argument("--rounds", type=int, default=2, help="at most")
    parser.add_argument("--full", action="store_true", help="train with all labels too")
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of all trainings")
    parser.add_argument("--mine-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the mining")
    parser.add_argument("--fine-tune-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of fine-tuning")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    parser.add_argument("--tag", default="", help="appended to the CSV's name")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    path = ROOT / "benchmarks" / "results" / f"knowledge_mining_{args.name}{args.tag}.csv"
    rows = kept_rows(path)
    for seed in args.seeds:
        if args.full:
            run_rounds(args, "none", 1.0, seed, rows, path)
        for fraction in args.fractions:
            for segmenter in args.segmenters:
                run_rounds(args, segmenter, fraction, seed, rows, path)


if __name__ == "__main__":
    main()
