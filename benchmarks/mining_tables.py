"""Tables of knowledge mining: pseudo-labels round by round, and what training on them gives."""

from __future__ import annotations

from tables import Rows, markdown, mean_and_spread, of_one_setting

#: columns that say how was trained; those of the mining are part of the segmenter's name
SETTINGS = ("data", "configs", "settings", "fine_tune_settings")
ROUND = {
    "pseudo_labels": "pseudo-labels",
    "student_dice": "student, all",
    "student_dice_of_kept": "student, kept",
    "mined_dice": "mined, kept",
    "val_dice": "validation",
    "test_dice": "test Dice",
    "test_iou": "test IoU",
}
#: in the place of a segmenter: nothing is mined
CONTROL, ROOF = "labels", "all_labels"
NOT_MINED = ("none", CONTROL, ROOF)
#: settings of the mining by which every mask is the student's own, and the name that the tables give to it
OWN_SETTINGS, OWN = "rules::agreement=1 rules::student_confidence=0", "own masks"
HEADS = {
    CONTROL: "labels alone, fine-tuned as long",
    ROOF: "all labels, fine-tuned as long",
    OWN: "+ the student's own masks",
}


def mining_rounds(rows: Rows) -> str:
    """Each round: Dice of pseudo-labels with the hidden truth, and Dice of the network; mean and sd over seeds."""
    of_one_setting(rows, *SETTINGS)
    rows, body = named(rows), []
    segmenters = list(dict.fromkeys(row["segmenter"] for row in rows))
    keys = {(row["label_fraction"], row["segmenter"], row["round"]) for row in rows}
    for key in sorted(keys, key=lambda key: (float(key[0]), segmenters.index(key[1]), int(key[2]))):
        own = [row for row in rows if (row["label_fraction"], row["segmenter"], row["round"]) == key]
        fraction, segmenter, number = key
        frames = next((row["frames"] for row in own), "")
        cells = [
            mean_and_spread([row[name] for row in own], digits=0 if name == "pseudo_labels" else 3) for name in ROUND
        ]
        if frames:
            cells[0] += f" of {frames}"
        body.append([f"{float(fraction):.0%}", segmenter, number, str(len(own)), *cells])
    return markdown(["labels", "segmenter", "round", "seeds", *ROUND.values()], body)


def mining_summary(rows: Rows) -> str:
    """Test Dice with the labels alone, after mining (the round that is best on validation), and with all labels."""
    of_one_setting(rows, *SETTINGS)
    rows = named(rows)
    segmenters = [name for name in dict.fromkeys(row["segmenter"] for row in rows) if name != "none"]
    full = [row["test_dice"] for row in rows if float(row["label_fraction"]) == 1]
    body = []
    for fraction in sorted({float(row["label_fraction"]) for row in rows if float(row["label_fraction"]) < 1}):
        own = [row for row in rows if float(row["label_fraction"]) == fraction]
        start = {row["seed"]: row for row in own if row["segmenter"] == "none"}
        cells = [mean_and_spread([row["test_dice"] for row in start.values()])]
        for segmenter in segmenters:
            kept = []
            for seed, first in start.items():
                if after := [row for row in own if (row["segmenter"], row["seed"]) == (segmenter, seed)]:
                    kept.append(max([first, *after], key=lambda row: float(row["val_dice"])))
            cells.append(mean_and_spread([row["test_dice"] for row in kept]))
        body.append([f"{fraction:.0%}", *cells, mean_and_spread(full)])
    return markdown(
        ["labels", "labels alone", *(HEADS.get(name, f"+ {name}") for name in segmenters), "100% of the labels"], body
    )


def named(rows: Rows) -> Rows:
    """The rows, with what was changed in the mining behind the segmenter's name, or OWN in its place."""
    return [{**row, "segmenter": _name(row["segmenter"], row["mine_settings"])} for row in rows]


def _name(segmenter: str, settings: str) -> str:
    if settings == OWN_SETTINGS:
        return OWN
    return " ".join([segmenter, *settings.replace("rules::", "").split()])
