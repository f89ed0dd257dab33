"""Each network is compared at the learning rate that validation prefers, too."""

from __future__ import annotations

import pytest
from label_rates import OWN_RATE, at_own_rate, default_rate
from label_reaches import reaches
from label_tables import of_reaches
from rows import row

SLOWER, FASTER = "learning_rate=0.0005", "learning_rate=0.016"
LITE = {"method": "weak_to_strong", "fraction": 0.5, "start": "random"}


def test_the_first_seeds_validation_decides_for_all_seeds() -> None:
    rows = [
        row(0.5, **LITE, val_dice="0.53"),
        row(0.7, **LITE, settings=SLOWER, val_dice="0.50"),  # above on test, which takes no part
        row(0.8, **LITE, settings=FASTER, val_dice="0.52"),
        row(0.6, **LITE, seed=1, val_dice="0.61"),
        row(0.9, **LITE, seed=1, settings=FASTER, val_dice="0.99"),
    ]
    found = at_own_rate(rows)
    assert [(one["seed"], one["best_dice"]) for one in found] == [("0", "0.50000"), ("1", "0.60000")]
    assert {(one["start"], one["settings"]) for one in found} == {(OWN_RATE["random"], "")}


@pytest.mark.parametrize(
    ("dice", "known"),
    [
        ({SLOWER: 0.4, "": 0.5, FASTER: 0.45}, True),
        ({SLOWER: 0.4, "": 0.5}, False),  # faster may be better
        ({SLOWER: 0.6, "": 0.5, FASTER: 0.45}, False),  # slower yet may be better
        ({"learning_rate=0.000125": 0.5, SLOWER: 0.6, "": 0.5}, True),
        ({f"{SLOWER} max_epochs=8": 0.4, "": 0.5, FASTER: 0.45}, False),  # other overrides are other trainings
    ],
)
def test_the_best_rate_must_have_a_worse_one_on_either_side(dice: dict[str, float], known: bool) -> None:
    rows = [row(value, **LITE, settings=settings) for settings, value in dice.items()]
    best = [f"{max(dice.values()):.5f}"]
    assert [one["best_dice"] for one in at_own_rate(rows)] == (best if known else [])
    assert len(at_own_rate(rows + [one | {"start": "imagenet"} for one in rows])) == 2 * known
    assert at_own_rate([rows[0] | {"start": "imagenet"}, *rows[1:]]) == []  # another start, another best rate
    assert at_own_rate([*rows[1:], rows[0] | {"seed": "1"}]) == []  # another seed, another split


def test_the_default_is_that_of_the_bundle() -> None:
    assert default_rate() == 0.002


@pytest.mark.parametrize(
    ("start", "from_what", "rival", "unvaried"),
    [
        ("random", "random numbers", "smp_unet_r34", "flexible_unet_b0"),
        ("imagenet", "ImageNet weights", "smp_unet_mobilenetv2", "smp_unet_plus_plus_mobilenetv2"),
    ],
)
def test_both_sides_have_their_own_rate(start: str, from_what: str, rival: str, unvaried: str) -> None:
    ours, theirs = LITE | {"start": start}, {"network": rival, "fraction": 1.0, "start": start}
    rows = [
        row(0.50, **ours),
        row(0.45, **ours, settings=SLOWER),
        row(0.56, **ours, settings="learning_rate=0.008"),
        row(0.51, **ours, settings=FASTER),
        row(0.54, **theirs),
        row(0.44, **theirs, settings=SLOWER),
        row(0.53, **theirs, settings=FASTER),
        row(0.55, **theirs | {"network": unvaried}),
    ]
    lines = {one.name: one for one in reaches(rows, "cpu") if rival in one.name and one.used}
    plain, own = (
        f"kvasir: lite with 50 % (weak_to_strong) over {rival} with 100 %, both from {what}"
        for what in (from_what, f"{from_what}, each at its own learning rate")
    )
    assert lines[plain].measured == "-0.040 (0.500 against 0.540)"
    assert lines[own].measured == "+0.020 (0.560 against 0.540)"
    assert [one for one in reaches(rows, "cpu") if unvaried in one.name and "own" in one.name] == []
    table = of_reaches([*rows, row(0.7, preset="cpu_long")])  # of a preset in which no rate was varied
    assert [line.count("| cpu | +0.020") for line in table.splitlines() if line.startswith(f"| {own}")] == [1]
