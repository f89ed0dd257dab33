"""Items -> parts that never divide a group."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from scripts.data.errors import DatasetError

logger = logging.getLogger(__name__)

Item = dict[str, Any]
PARTS = ("training", "validation", "test")


def split_by_group(
    items: Sequence[Item],
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    strata: Sequence[Hashable] | None = None,
) -> dict[str, list[Item]]:
    """Split items into training, validation and test; no group is divided.

    Each part's size is within one group (the largest) of fraction * len(items), and every part with a fraction above 0
    gets at least one group. `strata` (one value an item, e.g. "has lesion") are spread in the same proportions.
    The result depends on the set of (file, group), seed and fractions only, not on the order of the items.

    Groups come in the order of a hash of (seed, name), large ones first so that the small ones even the sizes out.
    Raises DatasetError: fractions that are not a split of 1, or fewer groups than parts.
    """
    check_fractions(fractions)
    members, stratum_of = _collect(items, strata)
    parts = [k for k in range(3) if fractions[k] > 0]
    _check_enough(items, members, parts)
    sizes = [0, 0, 0]
    chosen: dict[str, int] = {}
    seen = 0
    for stratum in sorted(set(stratum_of.values()), key=repr):
        names = [name for name in _seeded(members, "split", seed) if stratum_of[name] == stratum]
        seen += sum(len(members[name]) for name in names)
        for name in sorted(names, key=lambda name: -len(members[name])):  # stable: ties stay in seeded order
            size = len(members[name])
            # the target is cumulative over the strata, so that their rounding does not add up
            room = [fractions[k] * seen - sizes[k] for k in range(3)]
            fitting = [k for k in parts if room[k] >= size - 1e-9]
            part = max(fitting, key=lambda k: room[k] / fractions[k]) if fitting else max(parts, key=lambda k: room[k])
            chosen[name] = part
            sizes[part] += size
    _fill_empty(chosen, members, parts)
    return _in_parts(chosen, members)


def split_by_name(
    items: Sequence[Item], fractions: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0
) -> dict[str, list[Item]]:
    """Split items by a hash of their group's name alone: where masks are added, a frame stays in the part it was in.

    A network that goes on from an earlier training is so not measured on frames that it has learnt from. The fractions
    are met on average; a part that gets no group by its hash is given the smallest of another one, until it has one.
    Raises DatasetError: as split_by_group.
    """
    check_fractions(fractions)
    members, _ = _collect(items, None)
    parts = [k for k in range(3) if fractions[k] > 0]
    _check_enough(items, members, parts)
    ends = list(accumulate(fractions))
    chosen = {}
    for name in _seeded(members, "split", seed):
        place = int.from_bytes(_digest("part", seed, name)[:8], "big") / 2**64
        chosen[name] = next((k for k in parts if place < ends[k]), parts[-1])
    _fill_empty(chosen, members, parts)
    return _in_parts(chosen, members)


def label_subset(
    items: Sequence[Item], fraction: float, seed: int = 0, strata: Sequence[Hashable] | None = None
) -> list[Item]:
    """Take the labelled images of the first groups, in a fixed seeded order, that make up `fraction` of the images.

    Subsets are nested for one seed: 5 % lies inside 10 % inside 25 %. Groups are taken while the number of images is at
    most round(fraction * n), and at least one group. `strata` are interleaved, so that small subsets hold each.
    Raises DatasetError: fraction outside (0, 1], or fewer than one image.
    """
    if not 0 < fraction <= 1:
        raise DatasetError(f"label_fraction is {fraction}; expected a number above 0 and up to 1, e.g. 0.1 for 10 %")
    target = math.floor(fraction * len(items) + 0.5 + 1e-9)
    if target < 1:
        needed = f"use at least {0.5 / len(items):.4f}" if items else "add masks"
        raise DatasetError(
            f"fewer than one labelled image after label_fraction {fraction} of {len(items)} in training; {needed}"
        )
    members, stratum_of = _collect(items, strata)
    by_stratum: dict[Hashable, list[str]] = defaultdict(list)
    for name in _seeded(members, "subset", seed):
        by_stratum[stratum_of[name]].append(name)
    # the k-th of m groups of a stratum stands at (k + 1/2) / m: every prefix holds the strata in proportion
    place = {name: (k + 0.5) / len(names) for names in by_stratum.values() for k, name in enumerate(names)}
    order = {name: n for n, name in enumerate(_seeded(members, "subset", seed))}
    taken: list[Item] = []
    for name in sorted(members, key=lambda name: (place[name], order[name])):
        if taken and len(taken) + len(members[name]) > target:
            break
        taken += members[name]
    if len(taken) > target:
        logger.warning(
            "label_fraction %s asks for %d images; the smallest choice is one group of %d", fraction, target, len(taken)
        )
    return sorted(taken, key=lambda item: item["file"])


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise DatasetError unless these are three fractions >= 0 that add up to 1, the first above 0."""
    numbers = [float(value) for value in fractions]
    if len(numbers) != 3 or min(numbers) < 0 or numbers[0] <= 0 or abs(sum(numbers) - 1) > 1e-6:
        raise DatasetError(
            f"split is {list(fractions)}; expected three fractions (training, validation, test) that add up to 1, "
            "training above 0, e.g. 0.7, 0.1, 0.2"
        )


def _collect(
    items: Sequence[Item], strata: Sequence[Hashable] | None
) -> tuple[dict[str, list[Item]], dict[str, Hashable]]:
    """Items by group, and the stratum of each group: the set of its items' strata."""
    if strata is not None and len(strata) != len(items):
        raise ValueError(f"{len(strata)} strata for {len(items)} items; expected one for each")
    members: dict[str, list[Item]] = defaultdict(list)
    found: dict[str, set[Hashable]] = defaultdict(set)
    for n, item in enumerate(items):
        members[item["group"]].append(item)
        found[item["group"]].add(None if strata is None else strata[n])
    return dict(members), {name: tuple(sorted(values, key=repr)) for name, values in found.items()}


def _check_enough(items: Sequence[Item], members: Mapping[str, Any], parts: Sequence[int]) -> None:
    if len(members) < len(parts):
        raise DatasetError(
            f"{len(items)} labelled images in {len(members)} groups cannot be split into {len(parts)} parts without "
            "dividing a group; label images of more groups, or set a fraction of `split` to 0"
        )


def _in_parts(chosen: Mapping[str, int], members: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
    """{part: its items by file} of {group: number of its part}."""
    result: dict[str, list[Item]] = {part: [] for part in PARTS}
    for name, part in chosen.items():
        result[PARTS[part]] += members[name]
    return {part: sorted(found, key=lambda item: item["file"]) for part, found in result.items()}


def _seeded(names: dict[str, Any], purpose: str, seed: int) -> list[str]:
    """Names in an order that depends on nothing but their spelling, the purpose and the seed."""
    return sorted(names, key=lambda name: (_digest(purpose, seed, name), name))


def _digest(purpose: str, seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{purpose}:{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


def _fill_empty(chosen: dict[str, int], members: dict[str, list[Item]], parts: Sequence[int]) -> None:
    """Give an empty part the smallest group of the part that has most groups."""
    for part in parts:
        if part in chosen.values():
            continue
        counts = [list(chosen.values()).count(k) for k in range(3)]
        donor = counts.index(max(counts))
        name = min((name for name, k in chosen.items() if k == donor), key=lambda name: len(members[name]))
        chosen[name] = part
