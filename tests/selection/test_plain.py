"""First and random."""

from __future__ import annotations

import math
import random

import pytest

from scripts.selection import Candidate, choose_first, choose_random
from scripts.selection.plain import uniform

FRAMES = [Candidate(f"{number:03d}.png", "g", math.nan) for number in range(200)]


def test_first_goes_by_name() -> None:
    mixed = random.Random(0).sample(FRAMES, len(FRAMES))
    chosen = choose_first(mixed, 3)
    assert [(each.rank, each.id) for each in chosen] == [(1, "000.png"), (2, "001.png"), (3, "002.png")]


def test_random_belongs_to_its_seed_and_not_to_the_order() -> None:
    once = [each.id for each in choose_random(FRAMES, 20, seed=5)]
    assert once == [each.id for each in choose_random(FRAMES[::-1], 20, seed=5)]
    assert once != [each.id for each in choose_random(FRAMES, 20, seed=6)]
    assert once == [each.id for each in choose_random(FRAMES, 50, seed=5)][:20], "asking for more keeps the first"


def test_random_prefers_nobody() -> None:
    """Each of 200 frames is among 20 of 200 draws of 20 on average; standard deviation 4.2."""
    often = dict.fromkeys((frame.id for frame in FRAMES), 0)
    for seed in range(200):
        for each in choose_random(FRAMES, 20, seed=seed):
            often[each.id] += 1
    assert min(often.values()) > 3 and max(often.values()) < 40


def test_uniform_numbers_are_uniform() -> None:
    numbers = sorted(uniform(0, str(name)) for name in range(4000))
    assert 0 < numbers[0] and numbers[-1] < 1
    assert max(abs(number - rank / 4000) for rank, number in enumerate(numbers)) < 1.63 / math.sqrt(4000)  # Kolmogorov


@pytest.mark.parametrize("choose", [choose_first, choose_random])
def test_more_than_there_are_and_mistakes(choose) -> None:
    assert len(choose(FRAMES, 999)) == 200 and choose(FRAMES, 0) == [] and choose([], 5) == []
    with pytest.raises(ValueError, match="count is -1"):
        choose(FRAMES, -1)
    with pytest.raises(ValueError, match=r"003.png is twice"):
        choose([*FRAMES, FRAMES[3]], 2)


def test_a_name_that_is_no_utf_8_is_drawn_like_any_other() -> None:
    assert 0 < uniform(0, b"m\xfcller.png".decode("utf-8", "surrogateescape")) < 1
