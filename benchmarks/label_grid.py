"""The cells of the label-efficiency grid, its named groups and the order in which they are run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from label_axes import CHAIN, DATA, FUSION, METHODS, NETWORKS, RIVALS, SAME_ENCODER, SIZES, refusal

SEEDS = (0, 1, 2)
#: the recipe that the reaches of the docs are measured with; named before any test figure was seen
RECIPE = "weak_to_strong"
#: {data set: method above the recipe on its validation frames}; named with test figures seen, so shown beside it
SECOND = {"kvasir": "local_contrast", "wce_bleeding": "less_net"}


@dataclass(frozen=True)
class Cell:
    """One run of the grid; ``start`` of the encoder is "random", "imagenet", or a name that was given for a file."""

    data: str
    network: str
    method: str
    label_fraction: float
    start: str
    seed: int = 0

    def key(self, preset: str, settings: str) -> dict[str, Any]:
        """What makes a row of the CSV the row of this cell."""
        return asdict(self) | {"preset": preset, "settings": settings}


def headline() -> Iterator[Cell]:
    """Supervised against the recipe on all data and shares of labels; published against lite in the same recipe."""
    for data, one in DATA.items():
        yield from _allowed([data], ["lite"], ["supervised", RECIPE], one.fractions, "imagenet")
    yield from _allowed(["kvasir"], ["lite", "published"], [RECIPE], [0.1], "random")


def rivals() -> Iterator[Cell]:
    """Networks from random numbers: all with all labels, lite's recipes with half of them; all with a tenth.

    With a tenth by supervision and by the recipe, or by mean_teacher where the network cannot be cut in two. Networks
    that have lite's encoder are compared from its ImageNet weights.
    """
    networks = ["lite", "published", *RIVALS]
    for data in ("kvasir", "wce_bleeding"):
        yield from _allowed([data], ["lite"], [RECIPE, SECOND[data]], [0.5], "random")
        yield from _allowed([data], networks, ["supervised"], [1.0], "random")
    for network in networks:
        semi = RECIPE if NETWORKS[network].in_two else "mean_teacher"
        yield from _allowed(["kvasir"], [network], ["supervised", semi], [0.1], "random")
    for data in ("kvasir", "wce_bleeding"):
        yield from _allowed([data], SAME_ENCODER, ["supervised"], [1.0], "imagenet")
    yield from _allowed(["kvasir"], SAME_ENCODER, ["supervised", RECIPE], [0.1], "imagenet")


def methods() -> Iterator[Cell]:
    """The other objectives, and the recipe after local contrast, on all; LESS-Net as released on its own network."""
    names = ["mean_teacher", "less_net", "less_net_published", "local_contrast"]
    for data, one in DATA.items():
        yield from _allowed([data], ["lite"], names, one.fractions, "imagenet")
    yield from _allowed(["kvasir"], ["published"], ["less_net_published"], [0.1, 0.5], "random")


def ablation() -> Iterator[Cell]:
    """weak_to_strong step by step, and what may be put before or in the place of it, with a tenth of the labels."""
    names = ["supervised", *CHAIN, "local_contrast", "semise", "knowledge_mining"]
    yield from _allowed(["kvasir", "wce_bleeding"], ["lite"], names, [0.1], "imagenet")


def fusion() -> Iterator[Cell]:
    """lite with each part of its fusion off."""
    for method, fraction in ((RECIPE, 0.1), ("supervised", 1.0)):
        yield from _allowed(["kvasir"], ["lite", *FUSION], [method], [fraction], "imagenet")


def size() -> Iterator[Cell]:
    """Sizes of the encoder from random numbers, beside lite with its pretrained one."""
    for method, fraction in ((RECIPE, 0.1), ("supervised", 1.0)):
        yield from _allowed(["kvasir"], ["lite"], [method], [fraction], "imagenet")
        yield from _allowed(["kvasir"], ["lite", *SIZES, "published"], [method], [fraction], "random")


GROUPS: dict[str, Callable[[], Iterator[Cell]]] = {
    "headline": headline,
    "rivals": rivals,
    "methods": methods,
    "ablation": ablation,
    "fusion": fusion,
    "size": size,
}
#: groups of the first tier are run with all seeds before those of the second begin
TIERS = (("headline", "rivals"), ("methods", "ablation", "fusion", "size"))


def plan(groups: Iterable[str], seeds: Iterable[int], only: Mapping[str, Collection[Any]] | None = None) -> list[Cell]:
    """Cells in the order of running: by tier, then seed, then group, then as the group has them; none twice.

    Args:
        groups: some of GROUPS.
        only: {field of Cell: values that are kept}.
    """
    chosen = list(groups)
    cells: dict[Cell, None] = {}
    for tier in TIERS:
        for seed in seeds:
            for group in (name for name in tier if name in chosen):
                for cell in GROUPS[group]():
                    if all(getattr(cell, name) in values for name, values in (only or {}).items()):
                        cells[Cell(**{**asdict(cell), "seed": seed})] = None
    return list(cells)


def free(
    data: Iterable[str],
    networks: Iterable[str],
    names: Iterable[str],
    fractions: Iterable[float],
    starts: Iterable[str],
    seeds: Iterable[int],
) -> list[Cell]:
    """Every combination, seed by seed.

    Raises:
        ValueError: a combination that cannot be run, with the reason.
    """
    cells = []
    for seed, one, network, method, fraction, start in product(seeds, data, networks, names, fractions, starts):
        if reason := refusal(one, network, method, fraction):
            raise ValueError(f"{one}, {network}, {method}, {fraction:.0%}: {reason}")
        cells.append(Cell(one, network, method, fraction, start, seed))
    return cells


def _allowed(
    data: Iterable[str], networks: Iterable[str], names: Iterable[str], fractions: Iterable[float], start: str
) -> Iterator[Cell]:
    """The combinations that can be run, with seed 0."""
    unknown = [name for name in names if name not in METHODS] + [name for name in networks if name not in NETWORKS]
    if unknown:
        raise ValueError(f"unknown: {unknown}; methods are {list(METHODS)}, networks {list(NETWORKS)}")
    for one, fraction, network, method in product(data, fractions, networks, names):
        if not refusal(one, network, method, fraction):
            yield Cell(one, network, method, fraction, start)
