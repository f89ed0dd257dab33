"""The frames that a network is least sure of, spread over kinds of frames, videos and views."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scripts.selection.candidates import Candidate, Choice, Features, check_request, choice
from scripts.selection.plain import uniform
from scripts.selection.pool import Mask, Pool

logger = logging.getLogger(__name__)

PROPORTIONAL = "proportional"


def choose_uncertain(
    candidates: Sequence[Candidate],
    count: int,
    *,
    noise: float = 0.0,
    seed: int = 0,
    group_cap: int | None = None,
    labelled_per_group: Mapping[str, int] | None = None,
    strata_shares: Mapping[str, float] | str | None = None,
    labelled_per_stratum: Mapping[str, int] | None = None,
    min_distance: float = 0.0,
    labelled_features: Sequence[Features] | NDArray[np.floating] | None = None,
) -> list[Choice]:
    """The `count` candidates of the highest score, best first; without noise, shares, caps and distance exactly these.

    key = log(score) + noise * G, where G is a Gumbel number that belongs to seed and id: the best by key are a draw
    without replacement with weights score ** (1 / noise). Ties go by id; frames of score 0 come after all others,
    frames that were not scored (nan) after those. The order of the input does not matter.

    A rule gives way, and `reason` says so, only for a pick that could not be made otherwise, in this order: the minimum
    distance; the group cap (the least full group is taken); strata of share 0.

    Args:
        noise: 0 = the best exactly, 1 = drawn in proportion to the score.
        group_cap: at most so many of a group, those of labelled_per_group counted; None = any number.
        strata_shares: {stratum: share of the choice}, "proportional" (as they are among the candidates) or None (no
            strata). Each stratum of a share above 0 gets a frame before any gets a second (Adams' apportionment: the
            next frame goes to the largest share / frames so far), and any first part of the list keeps the shares.
        labelled_per_stratum: frames so far, for those who choose one by one.
        min_distance: cosine distance 0..2 of features, to all frames chosen before and to labelled_features.

    Raises:
        ValueError: numbers out of range, a score below 0 or infinite, an id twice.
    """
    check_request(candidates, count)
    if noise < 0 or min_distance < 0:
        raise ValueError(f"noise is {noise}, min_distance {min_distance}; expected 0 or more")
    for each in candidates:
        if each.score < 0 or math.isinf(each.score):
            raise ValueError(f"{each.id} has the score {each.score}; expected 0 and up, or nan where it is not scored")
    ordered = sorted(candidates, key=lambda each: (*_key(each, noise, seed), each.id))
    scored = sum(not math.isnan(each.score) for each in ordered)
    if scored < len(ordered):
        logger.warning("%d of %d candidates are not scored yet: they come last", len(ordered) - scored, len(ordered))
    pool = Pool(ordered, group_cap, labelled_per_group, labelled_features)
    strata = _Strata(ordered, scored, strata_shares, labelled_per_stratum)
    place = {each.id: number for number, each in enumerate(sorted(ordered, key=_by_score), start=1)}
    part = np.arange(len(ordered)) < scored
    chosen: list[Choice] = []
    while len(chosen) < min(count, len(ordered)):
        if not (pool.free & part).any():
            part = ~part  # All scored ones are taken: the others follow.
        index, gave_way = _next(pool, strata, part, min_distance)
        pool.take(index)
        strata.take(index)
        each = ordered[index]
        where = "not scored yet" if math.isnan(each.score) else f"no. {place[each.id]} of {scored} by score"
        chosen.append(choice(each, len(chosen) + 1, "; ".join([where, *gave_way])))
    return chosen


def _next(pool: Pool, strata: _Strata, part: Mask, min_distance: float) -> tuple[int, list[str]]:
    """Index of the best frame that the rules allow, and which of them gave way; `part` has a free one."""
    inside = pool.free & part
    within = strata.open & inside
    gave_way = []
    if not within.any():
        within = inside
        gave_way.append("share of its stratum is 0, but no other frame is left")
    allowed = pool.room() & within
    if not allowed.any():
        allowed = pool.least_full(within)
        cap = pool.group_cap
        gave_way.append(f"group cap of {cap} passed: no frame of a group with fewer is left")
    far = allowed & (pool.distance >= min_distance)
    if not far.any():
        gave_way.insert(0, f"minimum distance of {min_distance:g} passed: no frame is that far from those chosen")
        far = allowed
    index, missing = strata.best(far)
    if missing:
        gave_way.append(f"in place of {missing}, of which no frame is left within the rules")
    return index, gave_way


class _Strata:
    """Whose turn it is: Adams' apportionment over the strata of the candidates, which come best first.

    Frames that were not scored have no stratum: nobody has looked at them.
    """

    def __init__(
        self,
        ordered: Sequence[Candidate],
        scored: int,
        shares: Mapping[str, float] | str | None,
        labelled: Mapping[str, int] | None,
    ) -> None:
        kinds = [each.stratum if shares is not None else "" for each in ordered[:scored]]
        if shares is None or shares == PROPORTIONAL:
            self.shares = {kind: float(kinds.count(kind)) for kind in sorted(set(kinds))}
        elif isinstance(shares, str):
            raise ValueError(f"strata_shares is {shares!r}; expected {PROPORTIONAL!r}, shares of strata, or None")
        else:
            self.shares = {str(kind): float(share) for kind, share in shares.items()}
            if not (all(0 <= share < math.inf for share in self.shares.values()) and sum(self.shares.values()) > 0):
                raise ValueError(f"strata_shares are {dict(shares)}; expected 0 or more each, and one above 0")
        self.taken = {kind: int((labelled or {}).get(kind, 0)) for kind in {*self.shares, *kinds}}
        self._names = sorted(set(kinds))
        self._of = np.full(len(ordered), -1)
        self._of[:scored] = [self._names.index(kind) for kind in kinds]
        self.open = np.ones(len(ordered), dtype=bool)
        self.open[:scored] = [self.shares.get(kind, 0.0) > 0 for kind in kinds]

    def best(self, allowed: Mask) -> tuple[int, str]:
        """The first allowed frame of the stratum whose turn it is, and the stratum that should have had it, or ""."""
        found = np.unique(self._of[allowed])
        if found[0] < 0:
            return int(np.argmax(allowed)), ""
        first = {self._names[code]: int(np.argmax(allowed & (self._of == code))) for code in found}
        turn = min(first, key=lambda kind: (-self._claim(kind), first[kind]))
        higher = [kind for kind in self.shares if kind not in first and self._claim(kind) > self._claim(turn)]
        return first[turn], max(higher, key=self._claim, default="")

    def take(self, index: int) -> None:
        """Count the frame `index`."""
        if self._of[index] >= 0:
            self.taken[self._names[self._of[index]]] += 1

    def _claim(self, kind: str) -> float:
        share, taken = self.shares.get(kind, 0.0), self.taken[kind]
        return 0.0 if share == 0 else share / taken if taken else math.inf


def _key(each: Candidate, noise: float, seed: int) -> tuple[int, float]:
    gumbel = -math.log(-math.log(uniform(seed, each.id))) if noise else 0.0
    if math.isnan(each.score):
        return 2, -noise * gumbel
    if each.score == 0:
        return 1, -noise * gumbel
    return 0, -(math.log(each.score) + noise * gumbel)


def _by_score(each: Candidate) -> tuple[float, str]:
    return math.inf if math.isnan(each.score) else -each.score, each.id
