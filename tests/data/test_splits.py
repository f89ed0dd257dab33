"""Splits and label subsets: never a divided group, nested, the same everywhere."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.data.errors import DatasetError
from scripts.data.layouts import read_dataset
from scripts.data.splits import PARTS, check_fractions, label_subset, split_by_group, split_by_name


def make_items(sizes: list[int]) -> list[dict]:
    return [{"file": f"f{g:03d}_{n:03d}", "group": f"g{g}"} for g, size in enumerate(sizes) for n in range(size)]


def counts(parts: dict[str, list]) -> list[int]:
    return [len(parts[name]) for name in PARTS]


def test_singletons_split_exactly() -> None:
    assert counts(split_by_group(make_items([1] * 100))) == [70, 10, 20]
    assert counts(split_by_group(make_items([1] * 100), (1, 0, 0))) == [100, 0, 0]
    assert counts(split_by_group(make_items([1] * 100), (0.5, 0, 0.5))) == [50, 0, 50]


@pytest.mark.parametrize("seed", range(40))
def test_properties_for_random_groups(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.choice([1, 1, 2, 3, 8, 20]) for _ in range(draw.randint(8, 60))]
    items = make_items(sizes)
    strata = [draw.random() < 0.3 for _ in items] if seed % 2 else None
    parts = split_by_group(items, (0.7, 0.1, 0.2), seed, strata)
    assert sorted(item["file"] for name in PARTS for item in parts[name]) == sorted(item["file"] for item in items)
    groups = [{item["group"] for item in parts[name]} for name in PARTS]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert all(groups)
    for size, fraction in zip(counts(parts), (0.7, 0.1, 0.2), strict=True):
        assert abs(size - fraction * len(items)) <= max(sizes)


def test_order_of_items_does_not_matter() -> None:
    items = make_items([1, 2, 3, 1, 5, 1, 1, 2, 4, 1])
    strata = [item["file"] < "f005" for item in items]
    mixed = list(zip(items, strata, strict=True))
    random.Random(3).shuffle(mixed)
    shuffled, shuffled_strata = [a for a, _ in mixed], [b for _, b in mixed]
    assert split_by_group(items, seed=1, strata=strata) == split_by_group(shuffled, seed=1, strata=shuffled_strata)
    assert label_subset(items, 0.4, 1, strata) == label_subset(shuffled, 0.4, 1, shuffled_strata)


@pytest.mark.parametrize("divide", [split_by_group, split_by_name])
def test_groups_whose_name_is_no_utf_8(divide) -> None:
    names = [b"m\xfc%d.png" % number for number in range(20)]
    items = [{"file": name, "group": name} for name in (raw.decode("utf-8", "surrogateescape") for raw in names)]
    assert sum(counts(divide(items, (0.5, 0.25, 0.25), 0))) == 20


def test_seed_matters() -> None:
    items = make_items([1] * 50)
    assert split_by_group(items, seed=0) != split_by_group(items, seed=1)
    assert label_subset(items, 0.2, 0) != label_subset(items, 0.2, 1)


def test_hash_seed_of_python_does_not_matter() -> None:
    folder = Path(sys.modules["scripts.data.splits"].__file__).parent
    code = (  # the package's own __init__ is left out: it imports torch, which takes its time
        f"import sys, types; package = types.ModuleType('scripts.data'); package.__path__ = [{str(folder)!r}];"
        "sys.modules['scripts.data'] = package;"
        "from scripts.data.splits import *; items = [{'file': f'f{n}', 'group': f'g{n // 2}'} for n in range(40)];"
        "strata = ['ab'[n % 3 == 0] for n in range(40)];"
        "print(split_by_group(items, seed=4, strata=strata), label_subset(items, .3, 4, strata))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(folder.parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert "training" in found.pop()


def test_strata_are_spread() -> None:
    items = make_items([1] * 200)
    lesion_free = [n < 50 for n in range(200)]
    parts = split_by_group(items, seed=5, strata=lesion_free)
    assert counts(parts) == [140, 20, 40]
    free = {item["file"] for item, is_free in zip(items, lesion_free, strict=True) if is_free}
    assert [sum(item["file"] in free for item in parts[name]) for name in PARTS] == [35, 5, 10]
    subset = label_subset(items, 0.1, 5, lesion_free)
    assert sum(item["file"] in free for item in subset) == 5


def test_every_part_gets_a_group() -> None:
    assert sorted(counts(split_by_group(make_items([10, 10, 10])))) == [10, 10, 10]
    assert min(counts(split_by_group(make_items([50, 1, 1])))) == 1


def test_too_few_groups() -> None:
    with pytest.raises(DatasetError, match="20 labelled images in 2 groups cannot be split into 3 parts"):
        split_by_group(make_items([10, 10]))
    assert sorted(counts(split_by_group(make_items([10, 10]), (0.8, 0.2, 0)))) == [0, 10, 10]


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.1, 0.1), (1.2, -0.4, 0.2), (0, 0.5, 0.5), (70, 10, 20)])
def test_bad_fractions(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DatasetError, match="add up to 1"):
        check_fractions(fractions)


def test_strata_must_match() -> None:
    with pytest.raises(ValueError, match="1 strata for 2 items"):
        split_by_group(make_items([2]), strata=[True])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("stratified", [False, True])
def test_subsets_are_nested_and_hold_groups_together(seed: int, stratified: bool) -> None:
    draw = random.Random(seed)
    items = make_items([draw.choice([1, 1, 1, 2, 5]) for _ in range(100)])
    strata = [draw.random() < 0.2 for _ in items] if stratified else None
    inner: set[str] = set()
    for fraction in (0.05, 0.1, 0.25, 0.5, 1.0):
        subset = label_subset(items, fraction, seed, strata)
        files = {item["file"] for item in subset}
        assert inner <= files
        assert 1 <= len(subset) <= fraction * len(items) + 0.5
        assert fraction * len(items) - len(subset) < 5.5  # the largest group
        groups = {item["group"] for item in subset}
        assert files == {item["file"] for item in items if item["group"] in groups}
        inner = files
    assert len(inner) == len(items)


def test_subset_sizes() -> None:
    items = make_items([1] * 560)
    assert [len(label_subset(items, f)) for f in (0.05, 0.1, 0.25, 0.5, 1)] == [28, 56, 140, 280, 560]


def test_subset_takes_at_least_one_group(caplog: pytest.LogCaptureFixture) -> None:
    assert len(label_subset(make_items([20, 20, 20]), 0.1)) == 20
    assert "asks for 6 images; the smallest choice is one group of 20" in caplog.text


def test_fewer_than_one_image() -> None:
    with pytest.raises(DatasetError, match=r"fewer than one labelled image after label_fraction 0\.01 of 20.*0\.0250"):
        label_subset(make_items([1] * 20), 0.01)
    assert len(label_subset(make_items([1] * 20), 0.025)) == 1
    with pytest.raises(DatasetError, match="fewer than one labelled image"):
        label_subset([], 0.5)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, 10, float("nan")])
def test_bad_label_fraction(fraction: float) -> None:
    with pytest.raises(DatasetError, match="expected a number above 0 and up to 1"):
        label_subset(make_items([1] * 20), fraction)


def test_kvasir(shared_dir: Path) -> None:
    parts = split_by_group(read_dataset(shared_dir / "data/kvasir_seg")["pool"])
    assert counts(parts) == [560, 80, 160]


def test_a_split_by_name_stays_as_masks_are_added() -> None:
    items = make_items([1] * 400)
    random.Random(0).shuffle(items)
    before: dict[str, str] = {}
    for count in (20, 40, 100, 400):
        parts = split_by_name(items[:count], (0.8, 0.2, 0.0))
        now = {item["file"]: name for name in PARTS for item in parts[name]}
        assert len(now) == count and before.items() <= now.items()
        before = now
    assert 0.15 < list(before.values()).count("validation") / 400 < 0.25
    assert split_by_name(items, (0.8, 0.2, 0.0), seed=1)["validation"] != parts["validation"]


def test_a_split_by_name_divides_no_group_and_fills_each_part() -> None:
    parts = split_by_name(make_items([3, 1, 2]), (0.98, 0.01, 0.01))
    assert sorted(len({item["group"] for item in parts[name]}) for name in PARTS) == [1, 1, 1]
    with pytest.raises(DatasetError, match="2 groups cannot be split into 3 parts"):
        split_by_name(make_items([3, 1]))
