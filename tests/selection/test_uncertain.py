"""Made-up scores: the best come back in order, and each rule does what it says."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter

import numpy as np
import pytest

from scripts.selection import Candidate, choose_uncertain


def frame(name: str, score: float, group: str = "", stratum: str = "lesion", features=None) -> Candidate:
    return Candidate(name, group or name, score, stratum, features)


def ids(chosen) -> list[str]:
    return [each.id for each in chosen]


def many(count: int, seed: int, ties: bool = False) -> list[Candidate]:
    source = random.Random(seed)
    scores = [source.randrange(1, 8) / 8 if ties else source.random() for _ in range(count)]
    return [frame(f"f{number:03d}", score) for number, score in enumerate(scores)]


# the plain property


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ties", [False, True])
def test_the_k_best_come_back_in_order(seed: int, ties: bool) -> None:
    candidates = many(60, seed, ties)
    best = sorted(candidates, key=lambda each: (-each.score, each.id))
    for k in (0, 1, 2, 7, 59, 60, 100):
        mixed = random.Random(k).sample(candidates, len(candidates))
        chosen = choose_uncertain(mixed, k)
        assert ids(chosen) == [each.id for each in best[:k]]
        assert [each.rank for each in chosen] == list(range(1, min(k, 60) + 1))
        assert [each.score for each in chosen] == [each.score for each in best[:k]]


def test_what_a_choice_says() -> None:
    (only,) = choose_uncertain([frame("a", 0.5, "p1", "clear")], 1)
    assert (only.id, only.rank, only.score, only.stratum, only.group) == ("a", 1, 0.5, "clear", "p1")
    assert only.reason == "no. 1 of 1 by score"


def test_zero_comes_after_all_scores_and_unscored_frames_last(caplog: pytest.LogCaptureFixture) -> None:
    candidates = [frame("n2", math.nan), frame("z2", 0.0), frame("a", 1e-30), frame("n1", math.nan), frame("z1", 0.0)]
    with caplog.at_level(logging.WARNING):
        chosen = choose_uncertain(candidates, 5, strata_shares="proportional", group_cap=1)
    assert ids(chosen) == ["a", "z1", "z2", "n1", "n2"]
    assert [each.reason for each in chosen][-1] == "not scored yet"
    assert "2 of 5 candidates are not scored yet" in caplog.text


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_unscored_frames_stay_last_whatever_the_rules(noise: float) -> None:
    """Even where the group is full and the stratum of the unscored frame is the rarest."""
    candidates = [frame("a", 0.9, "p"), frame("b", 0.0, "p"), frame("n", math.nan, "q", "clear")]
    chosen = choose_uncertain(candidates, 3, noise=noise, group_cap=1, strata_shares={"clear": 0.9, "lesion": 0.1})
    assert ids(chosen) == ["a", "b", "n"]


def test_nothing_scored_at_all() -> None:
    chosen = choose_uncertain([frame(name, math.nan) for name in "cab"], 2, strata_shares="proportional")
    assert ids(chosen) == ["a", "b"] and {each.reason for each in chosen} == {"not scored yet"}


# noise


def test_noise_belongs_to_seed_and_id() -> None:
    candidates = many(60, 0)
    once = ids(choose_uncertain(candidates, 10, noise=1.0, seed=3))
    assert once == ids(choose_uncertain(candidates[::-1], 10, noise=1.0, seed=3))
    assert once != ids(choose_uncertain(candidates, 10, noise=1.0, seed=4))
    assert once != ids(choose_uncertain(candidates, 10))


@pytest.mark.parametrize(("noise", "weights"), [(1.0, (0.5, 0.3, 0.2)), (0.5, (25 / 38, 9 / 38, 4 / 38))])
def test_noise_draws_by_powers_of_the_score(noise: float, weights: tuple[float, ...]) -> None:
    """First places of 4000 draws: in proportion to score ** (1 / noise), within four standard deviations."""
    candidates = [frame("a", 0.5), frame("b", 0.3), frame("c", 0.2)]
    first = Counter(choose_uncertain(candidates, 1, noise=noise, seed=seed)[0].id for seed in range(4000))
    for name, weight in zip("abc", weights, strict=True):
        assert first[name] / 4000 == pytest.approx(weight, abs=4 * math.sqrt(weight * (1 - weight) / 4000))


def test_little_noise_changes_little() -> None:
    candidates = [frame("a", 1.0), frame("b", 0.1), frame("c", 0.01)]
    assert all(ids(choose_uncertain(candidates, 3, noise=0.05, seed=seed)) == ["a", "b", "c"] for seed in range(50))


# groups


def test_group_cap_counts_what_is_labelled() -> None:
    candidates = [frame(f"a{k}", 0.9 - k / 100, "A") for k in range(4)] + [
        frame(f"b{k}", 0.5 - k / 100, "B") for k in range(4)
    ]
    assert ids(choose_uncertain(candidates, 4, group_cap=2)) == ["a0", "a1", "b0", "b1"]
    assert ids(choose_uncertain(candidates, 3, group_cap=2, labelled_per_group={"A": 1, "C": 9})) == ["a0", "b0", "b1"]


def test_a_cap_that_leaves_too_few_gives_way_evenly_and_says_so() -> None:
    candidates = [frame(f"a{k}", 0.9 - k / 100, "A") for k in range(4)] + [
        frame(f"b{k}", 0.5 - k / 100, "B") for k in range(4)
    ]
    chosen = choose_uncertain(candidates, 6, group_cap=1, labelled_per_group={"A": 2})
    # B: 0, 1 -> then B again (1 < 2), then both have 2: A first by score, B (2) before A (3), then A
    assert ids(chosen) == ["b0", "b1", "a0", "b2", "a1", "b3"]
    assert "passed" not in chosen[0].reason
    assert all("group cap of 1 passed" in each.reason for each in chosen[1:])


# strata


def pile(**counts: int) -> list[Candidate]:
    return [
        frame(f"{kind}{k:02d}", 0.5 - k / 1000, stratum=kind) for kind, number in counts.items() for k in range(number)
    ]


def test_shares_are_kept_by_any_first_part() -> None:
    chosen = choose_uncertain(
        pile(lesion=40, uncertain=40, clear=40), 20, strata_shares={"lesion": 5, "uncertain": 3, "clear": 2}
    )
    assert Counter(each.stratum for each in chosen) == {"lesion": 10, "uncertain": 6, "clear": 4}
    assert Counter(each.stratum for each in chosen[:10]) == {"lesion": 5, "uncertain": 3, "clear": 2}
    assert {each.stratum for each in chosen[:3]} == {"lesion", "uncertain", "clear"}
    for kind in ("lesion", "uncertain", "clear"):
        assert [each.id for each in chosen if each.stratum == kind] == sorted(e.id for e in chosen if e.stratum == kind)


def test_proportional_gives_each_stratum_at_least_one() -> None:
    chosen = choose_uncertain(pile(lesion=2, uncertain=8, clear=90), 10, strata_shares="proportional")
    assert Counter(each.stratum for each in chosen) == {"lesion": 1, "uncertain": 1, "clear": 8}


def test_the_first_of_all_is_the_best_of_all() -> None:
    candidates = [frame("a", 0.1, stratum="clear"), frame("b", 0.1, stratum="clear"), frame("c", 0.2, stratum="lesion")]
    assert ids(choose_uncertain(candidates, 1, strata_shares="proportional")) == ["c"]


def test_one_by_one_is_the_same_as_all_at_once() -> None:
    candidates = pile(lesion=10, uncertain=10, clear=10)
    rules = {"strata_shares": {"lesion": 0.6, "uncertain": 0.3, "clear": 0.1}}
    at_once = ids(choose_uncertain(candidates, 12, **rules))
    given: list[str] = []
    so_far: Counter[str] = Counter()
    for _ in range(12):
        left = [each for each in candidates if each.id not in given]
        (each,) = choose_uncertain(left, 1, labelled_per_stratum=so_far, **rules)
        given.append(each.id)
        so_far[each.stratum] += 1
    assert given == at_once


def test_a_stratum_that_runs_out_is_replaced_and_one_of_no_share_comes_last() -> None:
    candidates = pile(lesion=2, uncertain=2, clear=3)
    chosen = choose_uncertain(candidates, 6, strata_shares={"lesion": 0.7, "uncertain": 0.3, "polyp": 0.0})
    assert [each.stratum for each in chosen] == ["lesion", "uncertain", "lesion", "uncertain", "clear", "clear"]
    assert "in place of lesion, of which no frame is left" in chosen[3].reason
    assert all("share of its stratum is 0" in each.reason for each in chosen[4:])
    assert all(";" not in each.reason for each in chosen[:3])


# distance


def test_near_duplicates_are_left_out_until_nothing_else_is_left() -> None:
    """The angle between a and its double is 8 degrees: cosine distance 0.0097."""
    a, double, other = (1.0, 0.0), (math.cos(math.radians(8)), math.sin(math.radians(8))), (0.0, 2.0)
    candidates = [frame("a", 0.9, features=a), frame("a2", 0.8, features=double), frame("o", 0.1, features=other)]
    assert ids(choose_uncertain(candidates, 3)) == ["a", "a2", "o"]
    assert ids(choose_uncertain(candidates, 2, min_distance=0.0096)) == ["a", "a2"]
    chosen = choose_uncertain(candidates, 3, min_distance=0.0099)
    assert ids(chosen) == ["a", "o", "a2"]
    assert "minimum distance of 0.0099 passed" in chosen[2].reason and "passed" not in chosen[1].reason


def test_labelled_frames_count_for_the_distance_and_frames_without_features_are_free() -> None:
    candidates = [
        frame("a", 0.9, features=[1.0, 0.0]),
        frame("b", 0.5, features=None),
        frame("c", 0.4, features=[0.0, 1.0]),
    ]
    chosen = choose_uncertain(candidates, 3, min_distance=0.5, labelled_features=np.array([[5.0, 0.1]]))
    assert ids(chosen) == ["b", "c", "a"]


def test_the_distance_gives_way_before_the_cap() -> None:
    near, far = [1.0, 0.0], [0.0, 1.0]
    candidates = [
        frame("a1", 0.9, "A", features=near), frame("a2", 0.8, "A", features=far), frame("b", 0.1, "B", features=near),
    ]  # fmt: skip
    chosen = choose_uncertain(candidates, 3, group_cap=1, min_distance=0.5)
    assert ids(chosen) == ["a1", "b", "a2"], "b is near to a1, a2 of a full group"
    assert "minimum distance" in chosen[1].reason and "group cap" not in chosen[1].reason
    assert "group cap" in chosen[2].reason and "minimum distance" not in chosen[2].reason


# all together


@pytest.mark.parametrize("seed", range(20))
def test_all_rules_at_once(seed: int) -> None:
    """A rule is broken only where `reason` says so; whatever the input order, the same frames come back."""
    source = np.random.default_rng(seed)
    kinds = ("lesion", "uncertain", "clear")
    candidates = [
        frame(
            f"f{k}", float(source.random()), f"g{source.integers(6)}", kinds[source.integers(3)], source.normal(size=4)
        )
        for k in range(50)
    ]
    rules = {
        "noise": 0.5,
        "seed": seed,
        "group_cap": 3,
        "labelled_per_group": {"g0": 2},
        "strata_shares": "proportional",
    }
    chosen = choose_uncertain(candidates, 25, min_distance=0.1, **rules)
    assert ids(chosen) == ids(choose_uncertain(candidates[::-1], 25, min_distance=0.1, **rules))
    assert len(set(ids(chosen))) == 25
    of = {each.id: each for each in candidates}
    groups = Counter({"g0": 2})
    before: list[np.ndarray] = []
    for each in chosen:
        features = np.asarray(of[each.id].features) / np.linalg.norm(of[each.id].features)
        near = any(1 - features @ other < 0.1 for other in before)
        assert near == ("minimum distance" in each.reason)
        assert (groups[each.group] >= 3) == ("group cap" in each.reason)
        groups[each.group] += 1
        before.append(features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": -1.0}, "noise is -1"),
        ({"min_distance": -0.1}, "min_distance -0.1"),
        ({"group_cap": 0}, "group_cap is 0; expected 1 or more"),
        ({"strata_shares": "even"}, "strata_shares is 'even'; expected 'proportional'"),
        ({"strata_shares": {"lesion": 0.0}}, "expected 0 or more each, and one above 0"),
        ({"strata_shares": {"lesion": math.nan}}, "expected 0 or more each"),
        ({"labelled_features": [[1.0, 2.0, 3.0]]}, "labelled features of 3 numbers, candidates have 2"),
    ],
)
def test_numbers_that_make_no_sense(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_uncertain([frame("a", 0.5, features=[1.0, 0.0])], 1, **changes)


@pytest.mark.parametrize("score", [-0.1, math.inf])
def test_scores_that_make_no_sense(score: float) -> None:
    with pytest.raises(ValueError, match=r"a has the score .*expected 0 and up, or nan"):
        choose_uncertain([frame("a", score)], 1)


def test_features_of_two_encoders_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features of \[1, 2\] numbers"):
        choose_uncertain([frame("a", 0.5, features=[1.0]), frame("b", 0.5, features=[1.0, 2.0])], 1)


def test_features_that_are_no_numbers_count_as_missing(caplog: pytest.LogCaptureFixture) -> None:
    candidates = [
        frame("a", 0.9, features=[1.0, 0.0]),
        frame("b", 0.8, features=[math.nan, 0.0]),
        frame("c", 0.7, features=[0.0, 0.0]),
    ]
    assert ids(choose_uncertain(candidates, 3, min_distance=1.9)) == ["a", "b", "c"]
    assert "2 of 3 feature vectors are zero or not finite" in caplog.text


def test_many_frames_take_no_time() -> None:
    """50 of 20000, a second at most: an hour of video."""
    import time

    source = np.random.default_rng(0)
    features = source.normal(size=(20000, 64)).astype(np.float32)
    candidates = [frame(f"f{k}", float(source.random()), f"g{k % 50}", features=features[k]) for k in range(20000)]
    start = time.monotonic()
    chosen = choose_uncertain(candidates, 50, noise=1.0, group_cap=3, strata_shares="proportional", min_distance=0.01)
    assert len(chosen) == 50 and time.monotonic() - start < 20
