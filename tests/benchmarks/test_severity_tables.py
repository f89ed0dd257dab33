"""Tables of severity, by hand."""

from __future__ import annotations

import pytest
from severity_tables import OF_GRADES, severity_grades, severity_pairs


def row(start: str, seed: int, value: float, **more: str) -> dict[str, str]:
    """A graded row whose figures are all the same number."""
    setting = {"image_size": "128", "pretrain_settings": "", "settings": "", "mode": "probe", "label_fraction": "0.1"}
    return setting | {"start": start, "seed": str(seed)} | dict.fromkeys(OF_GRADES, str(value)) | more


ROWS = [
    *(row("semise", 0, 0.5), row("semise", 1, 0.7)),
    *(row("imagenet", 0, 0.4), row("imagenet", 1, 0.75)),
    row("supcon", 1, 0.5),
]


def test_pairs_are_of_one_seed_and_an_error_is_better_when_it_is_smaller() -> None:
    lines = severity_pairs(ROWS).splitlines()
    assert lines[0].startswith("|  | SEMISE against | pairs | kappa |") and lines[0].endswith("| MAEE |")
    imagenet, simclr, supcon = lines[2:]
    # +0.10 and -0.05
    assert imagenet == "| probe | ImageNet | 2 " + 5 * "| +0.025, 1 " + "|"
    assert simclr == "| probe | + SimCLR | 0 " + 5 * "| – " + "|"
    assert supcon == "| probe | + SupCon | 1 " + 4 * "| +0.200, 1 " + "| +0.200, 0 |"


def test_means_are_over_seeds() -> None:
    lines = severity_grades(ROWS).splitlines()
    assert lines[-1].startswith("| probe | 10% | + SEMISE | 2 | 0.600 ± 0.141 |")


def test_settings_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="2 settings of image_size, pretrain_settings, settings, expected one"):
        severity_grades([*ROWS, row("semise", 2, 0.5, image_size="160")])
