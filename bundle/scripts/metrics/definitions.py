"""What each reported figure is, in words that stand beside it in every table."""

from __future__ import annotations

from typing import Any

from scripts.metrics.calibration import BAND_SHARE, BINS, PIXELS_PER_IMAGE

EMPTY = "No lesion in truth nor prediction counts 1, a predicted lesion where there is none 0."
BAND = (
    f"Expected calibration error of the lesion probability, {BINS} equal bins, over the lesion band: pixels"
    f" within {100 * BAND_SHARE:g}\u202f% of the image diagonal of the true or predicted outline, at most"
    f" {PIXELS_PER_IMAGE} an image."
)

TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "recall": "Recall",
    "precision": "Precision",
    "dice_pooled": "Dice, pooled",
    "iou_pooled": "IoU, pooled",
    "recall_pooled": "Recall, pooled",
    "precision_pooled": "Precision, pooled",
    "miou": "mIoU",
    "mrecall": "mRecall",
    "false_positive_frames": "False-positive frames",
    "hd95": "HD95",
    "surface_dice": "Surface Dice",
    "ece": "ECE in the lesion band",
    "ece_scaled": "ECE after temperature scaling",
}

#: of severity
_SEVERITY_TITLES = {
    "macro_f1": "Macro F1",
    "macro_recall": "Macro recall",
    "accuracy": "Accuracy",
    "maee": "MAEE",
    "kappa": "Quadratic kappa",
    "spearman": "Spearman of the score",
}

_DEFINITIONS = {
    "dice": f"2·TP / (2·TP + FP + FN) of the lesion, mean over images. {EMPTY}",
    "iou": f"TP / (TP + FP + FN) of the lesion, mean over images. {EMPTY}",
    "recall": f"Share of the lesion's pixels that was found, mean over images. {EMPTY}",
    "precision": f"Share of the predicted pixels that is lesion, mean over images. {EMPTY} A missed lesion counts 0.",
    "dice_pooled": "2·TP / (2·TP + FP + FN) of the lesion, from one confusion matrix over all pixels of the split.",
    "iou_pooled": "TP / (TP + FP + FN) of the lesion, from one confusion matrix over all pixels of the split.",
    "recall_pooled": "Share of all lesion pixels of the split that was found.",
    "precision_pooled": "Share of all predicted pixels of the split that is lesion.",
    "miou": "Mean of the IoU of background and of lesion, pooled (LESS-Net's published definition).",
    "mrecall": "Mean of the recall of background and of lesion, pooled (LESS-Net's published definition).",
    "false_positive_frames": "Share of the lesion-free frames with more than {area} of the image predicted as lesion."
    " Where none or each has that, the interval is the exact binomial one of as many groups.",
    "hd95": "95th percentile of the distance between the outlines, the worse direction, mean over images, at original"
    " resolution. Both empty counts 0, one empty the image diagonal.",
    "surface_dice": "Share of both outlines within {tolerance:g} px of the other, mean over images, at original"
    " resolution. Both empty counts 1, one empty 0.",
    "ece": BAND,
    "ece_scaled": BAND + " After temperature scaling with T = {temperature}, fitted on the validation split.",
}

_UNDEFINED = {
    "false_positive_frames": "Not measured: no frame of this split is free of lesion.",
    "ece": "Not measured: no frame has a lesion or a predicted one.",
    "ece_scaled": "Not measured: no temperature was fitted, or no frame has a lesion or a predicted one.",
}


_OF_VOLUMES = {
    "dice": "2·TP / (2·TP + FP + FN) of each structure in each volume (its slices stacked), mean over both.",
    "iou": "TP / (TP + FP + FN) of each structure in each volume (its slices stacked), mean over both.",
    "dice_pooled": "2·TP / (2·TP + FP + FN) of each structure from all voxels of the split, mean over structures.",
    "dice_": "2·TP / (2·TP + FP + FN) of this structure in each volume (its slices stacked), mean over volumes.",
}
_EMPTY_STRUCTURE = " A structure that is neither there nor predicted counts 1, one predicted where it is not 0."


#: of severity: definition and unit
_OF_SEVERITY = {
    "macro_f1": ("F1 of each grade that is there or predicted, mean over grades: rare ones count as much.", "0..1"),
    "macro_recall": ("Share of the pictures of a grade that is given it, mean over the grades that are there.", "0..1"),
    "accuracy": (
        "Share of the pictures that are given their grade. Where none or each is, the interval is the exact binomial"
        " one of as many groups.",
        "0..1",
    ),
    "maee": (
        "Mean of exp |true - predicted grade|: 1 = no error, a grade too far costs 2.7, two cost 7.4.",
        "1 or more",
    ),
    "kappa": ("Cohen's kappa with quadratic weights: 1 = agreement, 0 = by chance.", "-1..1"),
    "spearman": ("Rank correlation of the severity score with the true severity.", "-1..1"),
}


def severity_definition(name: str, interval_defined: bool) -> tuple[str, str]:
    """Definition and unit of a figure of severity, and why it has no interval where it has none."""
    text, of = _OF_SEVERITY[name]
    return text if interval_defined else f"{text} No interval: too few groups, or all have the same.", of


def volume_definition(name: str, interval_defined: bool) -> str:
    """The definition of figure `name` of volumes, and why it has no interval where it has none."""
    text = _OF_VOLUMES.get(name, _OF_VOLUMES["dice_"]) + _EMPTY_STRUCTURE
    return text if interval_defined else text + " No interval: too few groups of volumes, or all have the same."


def title(name: str) -> str:
    """How figure `name` is headed; "dice_<structure>" is the Dice of a structure."""
    if name in _SEVERITY_TITLES:
        return _SEVERITY_TITLES[name]
    if name in TITLES or not name.startswith("dice_"):
        return TITLES.get(name, name)
    return f"Dice, {name.removeprefix('dice_')}"


def definition(name: str, facts: dict[str, Any], value_defined: bool, interval_defined: bool) -> str:
    """The definition of figure `name`, and why its value or its interval is missing where one is."""
    temperature = facts["temperature"]
    known = {
        **facts,
        "temperature": "(none)" if temperature is None else f"{temperature:.3f}",
        "area": f"{100 * facts['area']:g}\u202f%",
    }
    text = _DEFINITIONS[name].format(**known)
    if not value_defined:
        text += " " + _UNDEFINED[name]
    elif not interval_defined:
        text += " No interval: too few groups of images have this figure, or all have the same."
    return text


def unit(name: str, facts: dict[str, Any]) -> str:
    """The unit of figure `name`."""
    if name == "hd95":
        return "pixels"
    if name == "false_positive_frames":
        return f"share of {facts['free']} lesion-free frames"
    return "0..1"
