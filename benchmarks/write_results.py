"""Put the tables of benchmarks/results/*.csv into bundle/docs/results.md, between their markers.

    python benchmarks/write_results.py

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; what is between is replaced.
"""

from __future__ import annotations

import csv
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from label_tables import LABEL_TABLES
from mining_tables import mining_rounds, mining_summary
from severity_tables import severity_alpha, severity_grades, severity_pairs, severity_segmentation
from tables import Rows, fill, kinds, markdown, mean_and_spread, of_one_setting

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "bundle" / "docs" / "results.md"

SHOWN = {
    "dice": "Dice",
    "iou": "IoU",
    "dice_pooled": "Dice, pooled",
    "iou_pooled": "IoU, pooled",
    "miou": "mIoU",
    "mrecall": "mRecall",
    "false_positive_frames": "FP frames",
    "hd95": "HD95",
    "ece": "ECE",
    "ece_scaled": "ECE, scaled",
}


def semi_supervised(rows: Rows) -> str:
    """Means over seeds of each method, best checkpoint by validation and last one."""
    of_one_setting(rows, "data", "label_fraction", "image_size", "settings")
    header = ["method", "checkpoint", "seeds", "steps", *SHOWN.values()]
    body = []
    for method, steps in kinds(rows, "method", "steps"):
        own = [row for row in rows if (row["method"], row["steps"]) == (method, steps)]
        for which in ("best", "last"):
            cells = [mean_and_spread([row[f"{which}_{name}"] for row in own], name) for name in SHOWN]
            body.append([method, which, ", ".join(row["seed"] for row in own), steps, *cells])
    return markdown(header, body)


def seeds(rows: Rows) -> str:
    """Each cell by itself."""
    header = [
        "method",
        "seed",
        "settings",
        "best epoch",
        "Dice (best)",
        "IoU (best)",
        "Dice (last)",
        "IoU (last)",
        "minutes",
    ]
    names = ("method", "seed", "settings", "best_epoch", "best_dice", "best_iou", "last_dice", "last_iou")
    return markdown(header, [[row[n] for n in names] + [f"{float(row['training_seconds']) / 60:.0f}"] for row in rows])


def plain(rows: Rows) -> str:
    """A CSV as it is, but for the columns that are the same everywhere or spell out the command."""
    names = [name for name in rows[0] if name not in ("machine", "command", "seed", "repeats", "rounds")]
    names = [name for name in names if any(row[name] for row in rows)]
    return markdown(names, [[row[name] for name in names] for row in rows])


def dicom_made(rows: Rows) -> str:
    """The made files, one row for each transfer syntax and photometric interpretation."""
    header = ["transfer syntax", "photometric", "storage classes", "files", "frames", "read", "largest difference"]
    made = [row for row in rows if row["source"] == "made"]
    body = []
    for key in kinds(made, "transfer_syntax", "photometric"):
        own = [row for row in made if (row["transfer_syntax"], row["photometric"]) == key]
        read = [row["result"] for row in own if row["result"].startswith("read")]
        largest = max((int(number) for text in read for number in re.findall(r"difference\D*(\d+)", text)), default=0)
        classes = {row["sop_class"].removesuffix(" Storage").removesuffix(" Image") for row in own}
        frames = sorted({int(row["frames"]) for row in own})
        counts = [str(len(classes)), str(len(own)), ", ".join(map(str, frames)), str(len(read)), str(largest)]
        body.append([*key, *counts])
    return markdown(header, body)


def dicom_real(rows: Rows) -> str:
    """The real files, one row each."""
    names = ("source", "sop_class", "transfer_syntax", "photometric", "frames", "result")
    return markdown(list(names), [[row[name] for name in names] for row in rows if row["source"] != "made"])


def annotation(rows: Rows) -> str:
    """Test Dice of each strategy after each round, mean over seeds."""
    of_one_setting(rows, "data", "epochs")
    strategies = [name for name in dict.fromkeys(row["strategy"] for row in rows) if name != "start"]
    labels = sorted({int(row["labels"]) for row in rows})
    body = []
    for number in labels:
        cells = []
        for strategy in strategies:
            own = [r for r in rows if int(r["labels"]) == number and r["strategy"] in (strategy, "start")]
            cells += [mean_and_spread([r["dice"] for r in own], "dice"), str(len(own))]
        body.append([str(number), *cells])
    return markdown(["labels", *(text for name in strategies for text in (f"{name}: Dice", "seeds"))], body)


def annotation_rounds(rows: Rows) -> str:
    """Each round by itself."""
    names = [n for n in rows[0] if n not in ("data", "processor", "chosen")]
    return markdown(names, [[row[name] for name in names] for row in rows])


PRETRAINING = {
    "none": "none",
    "global": "global",
    "local_stride": "local (stride)",
    "local_block": "local (block)",
    "global_local_block": "global + local (block)",
}


def contrastive(rows: Rows) -> str:
    """Test Dice by pretraining and share of labels: mean and sd over seeds, and how many seeds."""
    of_one_setting(rows, "data", "configs", "objective", "train_settings", "local_settings", "global_settings")
    fractions = sorted({float(row["label_fraction"]) for row in rows})
    body = []
    for method, title in PRETRAINING.items():
        cells = []
        for share in fractions:
            own = [row for row in rows if row["method"] == method and float(row["label_fraction"]) == share]
            seeds_run = f" ({len(own)})" if own else ""
            cells.append(mean_and_spread([row["best_dice"] for row in own], "dice") + seeds_run)
        if any(cell != "–" for cell in cells):
            body.append([title, *cells])
    return markdown(["pretraining", *(f"{share:.0%} of the labels" for share in fractions)], body)


def contrastive_cells(rows: Rows) -> str:
    """Each cell by itself."""
    per_class = [name for name in rows[0] if name.startswith("best_dice_") and name != "best_dice_pooled"]
    names = ["label_fraction", "seed", "labelled_groups", "labelled_images", "best_dice", *per_class, "last_dice"]
    header = ["pretraining", *(name.replace("_", " ") for name in names), "best epoch", "pretraining s", "training s"]
    names += ["best_epoch", "pretraining_seconds", "training_seconds"]
    return markdown(header, [[PRETRAINING[row["method"]], *(row[name] for name in names)] for row in rows])


ENCODER_STARTS = {"random": "random", "distilled": "distilled", "imagenet": "ImageNet"}
#: columns that say what was run; seeds are averaged, these are not
OF_DISTILLATION = ("label_fraction", "image_size", "steps", "distil_image_size", "distil_steps", "distil_frames")


def distillation(rows: Rows) -> str:
    """Test figures by backbone and start of the encoder: mean and sd over seeds."""
    figures = {"dice": "Dice", "iou": "IoU", "dice_pooled": "Dice, pooled", "iou_pooled": "IoU, pooled"}
    names = (*OF_DISTILLATION, "settings", "distil_settings")
    body = []
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        for start, title in ENCODER_STARTS.items():
            of_start = [row for row in rows if (row["backbone"], row["start"]) == (backbone, start)]
            for settings in kinds(of_start, *names):
                own = [row for row in of_start if tuple(row[name] for name in names) == settings]
                cells = [mean_and_spread([row[f"best_{name}"] for row in own], name) for name in figures]
                alike = mean_and_spread([row["feature_similarity"] for row in own], "cosine")
                minutes = statistics.mean(float(row["pretraining_seconds"]) for row in own) / 60
                run = [own[0]["label_fraction"], own[0]["steps"], own[0]["distil_steps"] if alike != "–" else "–"]
                overrides = " ".join(settings[-2:]).strip() or "–"
                body.append([backbone, title, str(len(own)), *run, overrides, *cells, alike, f"{minutes:.0f}"])
    header = ["backbone", "start", "seeds", "labels", "steps", "distillation steps", "overrides", *figures.values()]
    return markdown([*header, "likeness to the teacher", "distillation min"], body)


TABLES: dict[str, tuple[str, Callable[[Rows], str]]] = {
    "kvasir": ("semi_supervised_kvasir.csv", semi_supervised),
    "kvasir seeds": ("semi_supervised_kvasir.csv", seeds),
    "kvasir tried": ("semi_supervised_kvasir_tune.csv", seeds),
    "wce": ("semi_supervised_wce_bleeding.csv", semi_supervised),
    "wce seeds": ("semi_supervised_wce_bleeding.csv", seeds),
    "network speed": ("network_speed.csv", plain),
    "backend speed": ("backend_speed.csv", plain),
    "released exports": ("released_exports.csv", plain),
    "loop": ("loop_overhead.csv", plain),
    "wce tried": ("semi_supervised_wce_bleeding_tune.csv", seeds),
    "video speed": ("video_speed.csv", plain),
    "video memory": ("video_memory.csv", plain),
    "dicom made": ("dicom_matrix.csv", dicom_made),
    "dicom real": ("dicom_matrix.csv", dicom_real),
    "real clips": ("real_clips.csv", plain),
    "annotation": ("annotation_rounds.csv", annotation),
    "annotation rounds": ("annotation_rounds.csv", annotation_rounds),
    "contrast hippocampus": ("contrastive_pretraining_hippocampus.csv", contrastive),
    "contrast hippocampus cells": ("contrastive_pretraining_hippocampus.csv", contrastive_cells),
    "contrast hippocampus first": ("contrastive_pretraining_hippocampus_first.csv", contrastive_cells),
    "contrast kvasir": ("contrastive_pretraining_kvasir.csv", contrastive),
    "contrast kvasir cells": ("contrastive_pretraining_kvasir.csv", contrastive_cells),
    "distillation": ("encoder_distillation.csv", distillation),
    "tiled contrast": ("tiled_contrast.csv", plain),
    "severity grades": ("severity_grade.csv", severity_grades),
    "severity pairs": ("severity_grade.csv", severity_pairs),
    "severity grades 192": ("severity_grade_192.csv", severity_grades),
    "severity alpha": ("severity_alpha.csv", severity_alpha),
    "severity segmentation": ("severity_segment.csv", severity_segmentation),
    **{
        f"mining {data}{what}": (f"knowledge_mining_{data}.csv", make)
        for data in ("kvasir", "montgomery")
        for what, make in (("", mining_summary), (" rounds", mining_rounds))
    },
    "label server": ("label_server.csv", plain),
    **{name: ("label_efficiency.csv", make) for name, make in LABEL_TABLES.items()},
}


def main() -> None:
    """Fill every marker whose CSV is there."""
    found = {}
    for name, (file, make) in TABLES.items():
        path = RESULTS / file
        if path.is_file():
            with path.open(newline="") as stream:
                found[name] = make(list(csv.DictReader(stream)))
    fill(DOCUMENT, found)


if __name__ == "__main__":
    main()
