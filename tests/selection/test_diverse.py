"""Made-up features with clusters that anybody can see."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from scripts.selection import Candidate, choose_diverse

ANGLES = (0, 20, 90, 200)  # degrees, of the middles of four clusters


def cluster_of(name: str) -> int:
    return int(name[1])


def four_clusters(
    sizes: tuple[int, ...] = (30, 20, 10, 5), group: str | None = None, stratum: str = ""
) -> list[Candidate]:
    """Frames within 2 degrees of their cluster's angle, of very different lengths; cC-000 stands in the middle."""
    source = np.random.default_rng(0)
    found = []
    for number, (angle, size) in enumerate(zip(ANGLES, sizes, strict=True)):
        spread = source.uniform(0.5, 2, (size - 1) // 2)
        for k, off in enumerate([0.0, *spread, *-spread]):
            turn = math.radians(angle + off)
            length = source.uniform(0.1, 50)
            name = f"c{number}-{k:03d}"
            found.append(
                Candidate(name, group or name, math.nan, stratum, [length * math.cos(turn), length * math.sin(turn)])
            )
    return found


def ids(chosen) -> list[str]:
    return [each.id for each in chosen]


@pytest.mark.parametrize("seed", range(5))
def test_one_of_each_cluster_the_largest_first_then_the_farthest(seed: int) -> None:
    chosen = choose_diverse(four_clusters(), 4, seed=seed)
    # from 0 degrees the farthest is 200, then 90, then 20
    assert ids(chosen) == ["c0-000", "c3-000", "c2-000", "c1-000"], "the middle of each stands for it"
    assert chosen[0].reason == "stands for the largest cluster (29 frames)"
    assert [each.rank for each in chosen] == [1, 2, 3, 4]


def test_the_order_of_the_input_does_not_matter() -> None:
    candidates = four_clusters()
    mixed = [candidates[k] for k in np.random.default_rng(1).permutation(len(candidates))]
    assert ids(choose_diverse(candidates, 15, seed=2)) == ids(choose_diverse(mixed, 15, seed=2))


def test_labelled_frames_repel() -> None:
    labelled = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (1, 199)]
    chosen = choose_diverse(four_clusters(), 2, labelled_features=labelled)
    assert {cluster_of(each.id) for each in chosen} == {1, 2} and cluster_of(chosen[0].id) == 2


def test_spread_beats_the_size_of_clusters() -> None:
    """A hundred frames of one view and three others: random would take the one view again and again."""
    chosen = choose_diverse(four_clusters((101, 3, 3, 3)), 4)
    assert sorted(cluster_of(each.id) for each in chosen) == [0, 1, 2, 3]


def test_group_cap() -> None:
    """Clusters 0 and 1 are of one patient: one of them must be given up, and it is said."""
    candidates = [
        Candidate(each.id, "p" if cluster_of(each.id) < 2 else each.id, each.score, "", each.features)
        for each in four_clusters()
    ]
    chosen = choose_diverse(candidates, 4)
    assert Counter(each.group for each in chosen)["p"] == 1
    assert len(chosen) == 4 and "all clusters it could stand for are served" in chosen[3].reason
    assert sorted(cluster_of(each.id) for each in choose_diverse(candidates, 4, group_cap=2)) == [0, 1, 2, 3]
    full = choose_diverse(candidates, 3, labelled_per_group={"p": 1})
    assert Counter(each.group for each in full)["p"] == 0


def test_a_cap_that_leaves_too_few_gives_way_and_says_so() -> None:
    chosen = choose_diverse(four_clusters(group="p"), 3)
    assert len(chosen) == 3 and len({cluster_of(each.id) for each in chosen}) == 3
    assert "passed" not in chosen[0].reason
    assert all("group cap of 1 passed" in each.reason for each in chosen[1:])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_likely_lesions_in_every_first_part(share: float) -> None:
    """Of 63 frames 8 in cluster 0 likely show a lesion."""
    candidates = [
        Candidate(each.id, each.group, each.score, "lesion" if each.id < "c0-008" else "clear", each.features)
        for each in four_clusters()
    ]
    chosen = choose_diverse(candidates, 8, foreground_share=share)
    lesions = np.cumsum([each.stratum == "lesion" for each in chosen])
    assert all(shown >= share * number - 1e-9 for number, shown in enumerate(lesions, start=1))
    assert share == 1 or len({cluster_of(each.id) for each in chosen}) == 4, "the rest still covers all"


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_likely_lesions_where_one_is_chosen_at_a_time(share: float) -> None:
    left = [
        Candidate(each.id, each.group, each.score, "lesion" if each.id < "c0-008" else "clear", each.features)
        for each in four_clusters()
    ]
    shown: Counter = Counter()
    for number in range(1, 9):
        (next_one,) = choose_diverse(left, 1, labelled_per_stratum=shown, foreground_share=share)
        shown[next_one.stratum] += 1
        left = [each for each in left if each.id != next_one.id]
        assert shown["lesion"] >= share * number - 1e-9
    assert shown["lesion"] == math.ceil(share * 8), "and no more than were asked for, though each alone would be one"


def test_too_few_likely_lesions_are_said_and_unknown_strata_ask_for_none() -> None:
    clear = choose_diverse(four_clusters(stratum="clear"), 3)
    assert all("share of 0.5 likely lesions not reached" in clear[k].reason for k in (0, 2))
    unknown = choose_diverse(four_clusters(), 3)
    assert all("likely lesions" not in each.reason for each in unknown)


def test_fewer_different_frames_than_are_wanted() -> None:
    candidates = [Candidate(f"f{k}", f"f{k}", math.nan, "", [1.0, 0.0] if k < 6 else [0.0, 1.0]) for k in range(9)]
    chosen = choose_diverse(candidates, 5)
    assert ids(chosen)[:2] == ["f0", "f6"] and len(set(ids(chosen))) == 5
    assert len(choose_diverse(candidates, 99)) == 9


def test_frames_without_features_come_last(caplog: pytest.LogCaptureFixture) -> None:
    candidates = [Candidate("a", "a", math.nan), Candidate("b", "b", math.nan, "", [1.0, 0.0])]
    chosen = choose_diverse(candidates, 2)
    assert ids(chosen) == ["b", "a"] and chosen[1].reason == "no features to compare it by"
    assert "1 of 2 candidates have no features" in caplog.text
    assert ids(choose_diverse(candidates[:1], 1)) == ["a"] and choose_diverse([], 3) == []


@pytest.mark.parametrize("seed", range(5))
def test_it_covers_more_than_chance(seed: int) -> None:
    """Largest distance of any frame to its nearest chosen one, over the average of 50 random choices."""
    source = np.random.default_rng(seed)
    features = source.normal(size=(12, 16))[source.choice(12, 300, p=np.r_[0.7, [0.3 / 11] * 11])]
    features = features + 0.1 * source.normal(size=(300, 16))
    candidates = [Candidate(f"{k:03d}", str(k), math.nan, "", features[k]) for k in range(300)]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    def radius(rows: np.ndarray) -> float:
        return float((1 - unit @ unit[rows].T).min(axis=1).max())

    chosen = np.array([int(each.id) for each in choose_diverse(candidates, 12, seed=seed)])
    assert radius(chosen) < 0.5 * np.mean([radius(source.choice(300, 12, replace=False)) for _ in range(50)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"foreground_share": 1.1}, "foreground_share is 1.1"), ({"group_cap": 0}, "group_cap is 0")],
)
def test_numbers_that_make_no_sense(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_diverse(four_clusters(), 2, **changes)
