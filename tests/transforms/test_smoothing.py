"""Smoothing in time as a transform of items."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from scripts.transforms import SmoothInTimed
from scripts.transforms.smoothing import GRID


def item(level: float, time_s: float, **changes: Any) -> dict[str, Any]:
    """Logits (0, level) everywhere, on a grey frame."""
    pred = torch.stack([torch.zeros(4, 6), torch.full((4, 6), level)])
    frame = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    return {"pred": pred, "image": frame, "source": "a.mp4", "time_s": time_s, "error": "", **changes}


def test_by_hand() -> None:
    smooth = SmoothInTimed(momentum=0.5)
    first, second = smooth(item(4.0, 0.0)), smooth(item(0.0, 1 / 25))
    assert torch.equal(first["pred"], item(4.0, 0.0)["pred"])
    assert second["pred"][1].unique().tolist() == [pytest.approx(2.0)]  # 0.5 * 4 + 0.5 * 0
    assert second["scene_change"] is False
    without, with_ = second[GRID][:, 0, 0].tolist()
    assert without == pytest.approx(0.5) and with_ == pytest.approx(1 / (1 + math.exp(-2)))


def test_temperature_is_that_of_the_probabilities() -> None:
    smooth = SmoothInTimed(momentum=0.5, temperature=2.0)
    found = smooth(item(4.0, 0.0))
    assert found[GRID][0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-2)))
    assert found["pred"][1, 0, 0] == 4.0, "logits stay logits"


@pytest.mark.parametrize("names", [["pred_flip"], ["pred_companion", "pred_flip"]])
def test_what_is_compared_is_smoothed_alike(names: list[str]) -> None:
    """A network that agrees with itself on each frame does so on a lesion that comes and goes."""
    smooth = SmoothInTimed(momentum=0.5)
    for number, level in enumerate((4.0, -4.0, 0.5)):
        made = item(level, number / 25)
        found = smooth(made | {name: made["pred"].clone() for name in names})
        assert all(torch.equal(found[name], found["pred"]) for name in names)
    assert found["pred"].shape == (2, 4, 6) and found["pred"][1].unique().tolist() == [pytest.approx(0.25)]
    assert found[GRID].shape == (2, 4, 6)
    other = smooth(item(0.25, 3 / 25) | {name: item(-1.75, 0.0)["pred"] for name in names})
    assert other["pred"][1, 0, 0] == pytest.approx(0.25)  # 0.5 * 0.25 + 0.5 * 0.25
    assert all(other[name][1, 0, 0] == pytest.approx(-0.75) for name in names)  # 0.5 * 0.25 - 0.5 * 1.75


@pytest.mark.parametrize("changes", [{"time_s": math.nan}, {"error": "damaged"}])
def test_what_passes_unchanged(changes: dict[str, Any]) -> None:
    smooth = SmoothInTimed(momentum=0.5)
    smooth(item(4.0, 0.0))
    passed = smooth(item(9.0, 0.02) | changes)
    assert GRID not in passed and passed["pred"][1, 0, 0] == 9.0
    assert smooth(item(0.0, 1 / 25))["pred"][1, 0, 0].item() == pytest.approx(2.0), "as if it had not been there"


def test_no_smoothing_and_what_is_none() -> None:
    assert GRID not in SmoothInTimed(momentum=0)(item(4.0, 0.0))
    for momentum in (1.0, -0.1):
        with pytest.raises(ValueError, match="momentum"):
            SmoothInTimed(momentum=momentum)
