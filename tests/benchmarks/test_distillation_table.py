"""The table of distilled encoders: a row says what was changed, and rows of other settings are no seeds of it."""

from __future__ import annotations

from write_results import OF_DISTILLATION, distillation


def row(start: str, seed: int, dice: float, distil_settings: str = "") -> dict[str, str]:
    figures = {f"best_{name}": str(dice) for name in ("dice", "iou", "dice_pooled", "iou_pooled")}
    taught = {"feature_similarity": "0.5" if start == "distilled" else "", "pretraining_seconds": "600"}
    settings = {"label_fraction": "0.1", "steps": "800", "distil_steps": "2000", "settings": ""}
    key = {"backbone": "mobilevit_xs", "start": start, "seed": str(seed), "distil_settings": distil_settings}
    return {**dict.fromkeys(OF_DISTILLATION, ""), **settings, **key, **figures, **taught}


def test_rows_by_start_and_settings() -> None:
    lower = "learning_rate=0.001"
    rows = [row("distilled", 0, 0.4), row("distilled", 0, 0.7, lower), row("random", 0, 0.3), row("distilled", 1, 0.6)]
    header, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in distillation(rows).splitlines()
    )
    found = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(one["start"], one["seeds"], one["overrides"], one["Dice"][:5]) for one in found] == [
        ("random", "1", "–", "0.300"),
        ("distilled", "2", "–", "0.500"),
        ("distilled", "1", lower, "0.700"),
    ]
