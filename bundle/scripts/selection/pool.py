"""What is left to choose from: how full the groups are, and how near each frame is to what was chosen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scripts.selection.candidates import Candidate, Features

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]


class Pool:
    """Candidates, of which one after the other is taken.

    Args:
        candidates: N of them; all masks below are (N,) in their order.
        group_cap: how many of a group, labelled ones counted; None = any number.
        labelled_per_group: how many frames of a group have a mask already.
        labelled_features: of frames that have a mask already, (M, C).

    Attributes:
        free: not yet taken.
        known: has features.
        features: (N, C) float32, of length 1; 0 where there are none.
        distance: cosine distance 0..2 to the nearest frame taken or labelled; inf as long as there is none, and where
            there are no features.

    Raises:
        ValueError: a cap below 1, or features of different lengths.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        group_cap: int | None = None,
        labelled_per_group: Mapping[str, int] | None = None,
        labelled_features: Sequence[Features] | NDArray[np.floating] | None = None,
    ) -> None:
        if group_cap is not None and group_cap < 1:
            raise ValueError(f"group_cap is {group_cap}; expected 1 or more, or None for no cap")
        self.group_cap = group_cap
        names, self._groups = np.unique([candidate.group for candidate in candidates], return_inverse=True)
        labelled = labelled_per_group or {}
        self._taken = np.array([int(labelled.get(str(name), 0)) for name in names], dtype=np.int64)
        self.free = np.ones(len(candidates), dtype=bool)
        self.features, self.known = unit_features([candidate.features for candidate in candidates])
        self.distance = np.full(len(candidates), np.inf)
        others, fit = unit_features([] if labelled_features is None else list(labelled_features))
        for row in others[fit]:
            self._come_nearer(row)

    def room(self) -> Mask:
        """Free, and of a group that is not full."""
        if self.group_cap is None:
            return self.free.copy()
        return self.free & (self._taken[self._groups] < self.group_cap)

    def least_full(self, wanted: Mask) -> Mask:
        """Those of `wanted` whose group has the fewest: where the cap gives way, it does so by one."""
        fewest = self._taken[self._groups[wanted]].min(initial=np.iinfo(np.int64).max)
        return wanted & (self._taken[self._groups] == fewest)

    def taken_of(self, index: int) -> int:
        """How many of the candidate's group are taken or labelled."""
        return int(self._taken[self._groups[index]])

    def take(self, index: int) -> None:
        """Take the candidate `index`."""
        self.free[index] = False
        self._taken[self._groups[index]] += 1
        if self.known[index]:
            self._come_nearer(self.features[index])

    def _come_nearer(self, row: NDArray[np.float32]) -> None:
        if not self.known.any():
            return
        if len(row) != self.features.shape[1]:
            raise ValueError(f"labelled features of {len(row)} numbers, candidates have {self.features.shape[1]}")
        nearest = np.minimum(self.distance, 1.0 - self.features @ row)
        self.distance = np.where(self.known, nearest.clip(0.0), np.inf)


def unit_features(features: Sequence[Features | None]) -> tuple[NDArray[np.float32], Mask]:
    """N feature vectors, some missing -> ((N, C) float32 of length 1, (N,) bool which are there).

    Vectors with nan or inf, and of length 0, count as missing (logged). Raises ValueError: of different lengths.
    """
    lengths = {len(row) for row in features if row is not None}
    if len(lengths) > 1:
        raise ValueError(f"features of {sorted(lengths)} numbers; expected those of one encoder, all of one length")
    rows = np.zeros((len(features), next(iter(lengths), 0)), dtype=np.float32)
    for index, row in enumerate(features):
        if row is not None:
            rows[index] = row
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    known = np.isfinite(norms) & (norms > 0)
    given = sum(row is not None for row in features)
    if broken := given - int(known.sum()):
        logger.warning("%d of %d feature vectors are zero or not finite and are left out", broken, given)
    rows[~known] = 0
    rows[known] /= norms[known, None].astype(np.float32)
    return rows, known
