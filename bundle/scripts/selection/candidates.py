"""A frame that could be labelled next, and one that should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LESION, UNCERTAIN, CLEAR = "lesion", "uncertain", "clear"  # what a network makes of a frame, see uncertainty.stratum

Features = Sequence[float] | NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame without a mask.

    Attributes:
        id: names it, and settles ties.
        group: the video, patient or set of near-duplicates it belongs to.
        score: how much a label would teach, 0 and up; nan = not scored yet.
        stratum: "lesion", "uncertain" or "clear"; "" = not known.
        features: of an encoder, C numbers; None = not to be had.
    """

    id: str
    group: str
    score: float
    stratum: str = ""
    features: Features | None = None


@dataclass(frozen=True)
class Choice:
    """A chosen frame; `rank` counts from 1, `reason` says why it stands there and which rule gave way."""

    id: str
    rank: int
    score: float
    stratum: str
    group: str
    reason: str


def choice(candidate: Candidate, rank: int, reason: str) -> Choice:
    """The candidate as number `rank` of those to label."""
    return Choice(candidate.id, rank, candidate.score, candidate.stratum, candidate.group, reason)


def check_request(candidates: Sequence[Candidate], count: int) -> None:
    """Raise ValueError for a count below 0 or that is no whole number, and for two candidates of one id."""
    if isinstance(count, bool) or int(count) != count or count < 0:
        raise ValueError(f"count is {count}; expected how many frames to choose, 0 or more")
    seen: set[str] = set()
    for candidate in candidates:
        if candidate.id in seen:
            raise ValueError(f"{candidate.id} is twice among the candidates; give each frame once")
        seen.add(candidate.id)
