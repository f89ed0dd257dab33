"""Tables of severity: grading from each start, the sweep of alpha, segmentation."""

from __future__ import annotations

import statistics

from tables import Rows, markdown, mean_and_spread, of_one_setting

#: columns that say how was trained
SETTINGS = ("image_size", "pretrain_settings", "settings")
STARTS = {"imagenet": "ImageNet", "simclr": "+ SimCLR", "supcon": "+ SupCon", "semise": "+ SEMISE"}
OF_GRADES = {
    "macro_f1": "macro F1",
    "macro_recall": "macro recall",
    "maee": "MAEE",
    "kappa": "kappa",
    "spearman": "Spearman",
    "last_kappa": "kappa, last epoch",
    "last_spearman": "Spearman, last epoch",
}


def severity_grades(rows: Rows) -> str:
    """Figures of grading by mode, share of grades and start: mean and sd over seeds."""
    of_one_setting(rows, *SETTINGS)
    body = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        for share in sorted({float(row["label_fraction"]) for row in rows}, reverse=True):
            for start, title in STARTS.items():
                own = [
                    row
                    for row in rows
                    if (row["mode"], row["start"]) == (mode, start) and float(row["label_fraction"]) == share
                ]
                if own:
                    cells = [mean_and_spread([row[name] for row in own], name) for name in OF_GRADES]
                    body.append([mode, f"{share:.0%}", title, str(len(own)), *cells])
    return markdown(["", "grades", "start", "seeds", *OF_GRADES.values()], body)


def severity_pairs(rows: Rows) -> str:
    """SEMISE less each other start on the same seed, share and mode: mean difference, and how often it is better."""
    of_one_setting(rows, *SETTINGS)
    shown = {name: OF_GRADES[name] for name in ("kappa", "last_kappa", "spearman", "macro_f1", "maee")}
    cells = {(row["mode"], row["label_fraction"], row["seed"], row["start"]): row for row in rows}
    body = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        for start in (name for name in STARTS if name != "semise"):
            pairs = [
                (own, cells[(*key, start)])
                for (*key, which), own in cells.items()
                if which == "semise" and key[0] == mode and (*key, start) in cells
            ]
            line = []
            for name in shown:
                gains = [float(own[name]) - float(other[name]) for own, other in pairs]
                better = sum(gain < 0 if name == "maee" else gain > 0 for gain in gains)  # an error is to be small
                line.append(f"{statistics.mean(gains):+.3f}, {better}" if gains else "–")
            body.append([mode, STARTS[start], str(len(pairs)), *line])
    return markdown(["", "SEMISE against", "pairs", *shown.values()], body)


def severity_alpha(rows: Rows) -> str:
    """Figures of grading by alpha: mean and sd over seeds; first what alpha may be chosen by."""
    shown = {"val_kappa": "kappa, validation", **OF_GRADES}
    of_one_setting(rows, *SETTINGS)
    body = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        for alpha in sorted({float(row["alpha"]) for row in rows}):
            own = [row for row in rows if row["mode"] == mode and float(row["alpha"]) == alpha]
            if own:
                cells = [mean_and_spread([row[name] for row in own], name) for name in shown]
                body.append([mode, f"{alpha:g}", str(len(own)), *cells])
    return markdown(["", "alpha", "seeds", *shown.values()], body)


def severity_segmentation(rows: Rows) -> str:
    """Dice and IoU by data set and start: mean and sd over seeds."""
    of_one_setting(rows, *SETTINGS)
    figures = {"dice": "Dice", "iou": "IoU", "dice_pooled": "Dice, pooled", "iou_pooled": "IoU, pooled"}
    body = []
    for data in dict.fromkeys(row["data"] for row in rows):
        for start, title in STARTS.items():
            own = [row for row in rows if (row["data"], row["start"]) == (data, start)]
            if own:
                cells = [mean_and_spread([row[name] for row in own], name) for name in figures]
                body.append([data, title, str(len(own)), *cells])
    return markdown(["data", "start", "seeds", *figures.values()], body)
