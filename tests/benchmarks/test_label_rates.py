"""From random numbers each network is compared at the learning rate that validation prefers."""

from __future__ import annotations

from label_rates import OWN_RATE, RATES, at_own_rate
from label_reaches import reaches
from rows import row

SLOWER, FASTER, FASTEST = RATES[1:]
LITE = {"method": "weak_to_strong", "fraction": 0.5, "start": "random"}
RIVAL = {"network": "smp_unet_r34", "fraction": 1.0, "start": "random"}


def test_the_first_seeds_validation_decides_for_all_seeds() -> None:
    rows = [
        row(0.5, **LITE, val_dice="0.52"),
        row(0.7, **LITE, settings=SLOWER, val_dice="0.50"),
        row(0.4, **LITE, settings=FASTER, val_dice="0.53"),  # below on test, which takes no part
        row(0.8, **LITE, settings=FASTEST, val_dice="0.51"),
        row(0.9, **LITE, seed=1, val_dice="0.99"),
        row(0.6, **LITE, seed=1, settings=FASTER, val_dice="0.61"),
    ]
    found = at_own_rate(rows)
    assert [(one["seed"], one["best_dice"]) for one in found] == [("0", "0.40000"), ("1", "0.60000")]
    assert {(one["start"], one["settings"]) for one in found} == {(OWN_RATE, "")}


def test_of_equals_it_is_the_default() -> None:
    rows = [row(0.5 + 0.1 * place, **LITE, settings=rate, val_dice="0.52") for place, rate in enumerate(RATES)]
    assert [one["best_dice"] for one in at_own_rate(rows)] == ["0.50000"]


def test_what_is_not_measured_at_every_rate_is_left_out() -> None:
    assert at_own_rate([row(0.5, **LITE), row(0.6, **LITE, settings=FASTER)]) == []
    every = [row(0.5, **LITE, settings=rate) for rate in RATES]
    assert len(at_own_rate(every)) == 1
    assert at_own_rate([*every[:-1], every[-1] | {"seed": "1"}]) == []  # another seed, another split
    assert at_own_rate([one | {"start": "imagenet"} for one in every]) == []


def test_both_sides_have_their_own_rate() -> None:
    rows = [
        row(0.50, **LITE),
        row(0.45, **LITE, settings=SLOWER),
        row(0.56, **LITE, settings=FASTER),
        row(0.51, **LITE, settings=FASTEST),
        row(0.54, **RIVAL),
        row(0.44, **RIVAL, settings=SLOWER),
        row(0.53, **RIVAL, settings=FASTER),  # worse on validation, too: the default stays
        row(0.52, **RIVAL, settings=FASTEST),
        row(0.55, **RIVAL | {"network": "flexible_unet_b0"}),
    ]
    lines = {one.name: one for one in reaches(rows, "cpu") if "smp_unet_r34" in one.name and one.used}
    plain, own = (
        f"kvasir: lite with 50 % (weak_to_strong) over smp_unet_r34 with 100 %, both from {start}"
        for start in ("random numbers", "random numbers, each at its own learning rate")
    )
    assert lines[plain].measured == "-0.040 (0.500 against 0.540)"
    assert lines[own].measured == "+0.020 (0.560 against 0.540)"
    assert [one for one in reaches(rows, "cpu") if "flexible_unet_b0" in one.name and "own" in one.name] == []
