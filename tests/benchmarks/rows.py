"""Rows of the grid's CSV written by hand."""

from __future__ import annotations

from label_axes import RECALLS, at_recall


def row(
    dice: float,
    network: str = "lite",
    method: str = "supervised",
    fraction: float = 0.1,
    seed: int = 0,
    data: str = "kvasir",
    start: str = "imagenet",
    **more: str,
) -> dict[str, str]:
    """A finished cell: ``dice`` on the best epoch, .01 less on the last one, .01 more on validation."""
    made = {
        "data": data,
        "network": network,
        "method": method,
        "label_fraction": str(fraction),
        "start": start,
        "seed": str(seed),
        "preset": "cpu",
        "settings": "",
        "steps": "800",
        "steps_all": "800",
        "image_size": "128",
        "precision": "bf16",
        "parameters": "2142882",
        "gmac": "0.194",
        "seconds": "600",
        "val_dice": f"{dice + 0.01:.5f}",
        "best_dice": f"{dice:.5f}",
        "last_dice": f"{dice - 0.01:.5f}",
        **{f"best_{name}": "" for name in ("iou", "iou_pooled", "false_positive_frames", "ece", "ece_scaled")},
        **{f"best_{at_recall(recall)}": "" for recall in RECALLS},
    }
    return made | more
