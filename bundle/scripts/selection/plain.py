"""Frames in the order of their names, or drawn by lot: what every cleverer choice must beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from scripts.selection.candidates import Candidate, Choice, check_request, choice


def choose_first(candidates: Sequence[Candidate], count: int) -> list[Choice]:
    """The first `count` by id. Raises ValueError: see check_request."""
    check_request(candidates, count)
    ordered = sorted(candidates, key=lambda each: each.id)[:count]
    return [choice(each, rank, "in order of its name") for rank, each in enumerate(ordered, start=1)]


def choose_random(candidates: Sequence[Candidate], count: int, *, seed: int = 0) -> list[Choice]:
    """`count` drawn by lot, the same for one seed in whatever order they come. Raises ValueError: see check_request."""
    check_request(candidates, count)
    ordered = sorted(candidates, key=lambda each: (uniform(seed, each.id), each.id))[:count]
    return [choice(each, rank, f"drawn by lot, seed {seed}") for rank, each in enumerate(ordered, start=1)]


def uniform(seed: int, name: str) -> float:
    """A number above 0 and below 1 that belongs to seed and name, whatever else is drawn."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48
