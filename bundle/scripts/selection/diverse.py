"""Frames that differ from each other, for the first labels, when no network can say what it is unsure of."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from scripts.selection.candidates import LESION, Candidate, Choice, Features, check_request, choice
from scripts.selection.pool import Mask, Pool

logger = logging.getLogger(__name__)

_ROUNDS = 25  # of k-means


def choose_diverse(
    candidates: Sequence[Candidate],
    count: int,
    *,
    seed: int = 0,
    labelled_features: Sequence[Features] | NDArray[np.floating] | None = None,
    group_cap: int | None = 1,
    labelled_per_group: Mapping[str, int] | None = None,
    labelled_per_stratum: Mapping[str, int] | None = None,
    foreground_share: float = 0.5,
) -> list[Choice]:
    """One typical frame of each of `count` kinds of views, ordered so that any first part is spread out.

    k-means on features of length 1; of each cluster the frame nearest its centre. The first is that of the largest
    cluster, each next one the farthest (cosine) from those chosen and from labelled ones. Where there are labelled
    frames, there are up to twice as many clusters as are wanted, so that those near labelled frames can be left out.
    The same for one seed, in whatever order the candidates come.

    A rule gives way, and `reason` says so, only for a pick that could not be made otherwise, in this order: one frame
    a cluster; the group cap (the least full group is taken); the share of likely lesions. Frames without features come
    last, by id.

    Args:
        labelled_features: of frames that have a mask already, (M, C).
        group_cap: at most so many of a group, those of labelled_per_group counted; None = any number.
        foreground_share: at least this part, 0..1, of the choice and of any first part of it has the stratum "lesion",
            where strata are known; those of labelled_per_stratum are counted.
        labelled_per_stratum: frames so far, for those who choose one by one.

    Raises:
        ValueError: numbers out of range, an id twice, features of different lengths.
    """
    check_request(candidates, count)
    if not 0 <= foreground_share <= 1:
        raise ValueError(f"foreground_share is {foreground_share}; expected 0..1")
    ordered = sorted(candidates, key=lambda each: each.id)
    pool = Pool(ordered, group_cap, labelled_per_group, labelled_features)
    if not pool.known.all():
        logger.warning("%d of %d candidates have no features: they come last", (~pool.known).sum(), len(ordered))
    labelled = 0 if labelled_features is None else len(labelled_features)
    clusters = _Clusters(pool, count + min(labelled, count), seed)
    lesion = np.array([each.stratum == LESION for each in ordered], dtype=bool)
    share = foreground_share if any(each.stratum for each in ordered) else 0.0
    chosen: list[Choice] = []
    before = dict(labelled_per_stratum or {})
    shown = before.get(LESION, 0)  # of those labelled and chosen, likely with a lesion
    while len(chosen) < min(count, len(ordered)):
        part = pool.free & (pool.known if (pool.free & pool.known).any() else True)
        wanted, gave_way = part, []
        if shown < math.ceil(share * (sum(before.values()) + len(chosen) + 1) - 1e-9):
            if (part & lesion).any():
                wanted = part & lesion
            else:
                gave_way.append(f"share of {share:g} likely lesions not reached: no such frame is left")
        allowed = pool.room() & wanted
        if not allowed.any():
            allowed = pool.least_full(wanted)
            gave_way.append(f"group cap of {group_cap} passed: no frame of a group with fewer is left")
        index, why = clusters.best(allowed)
        pool.take(index)
        shown += int(lesion[index])
        chosen.append(choice(ordered[index], len(chosen) + 1, "; ".join([why, *gave_way])))
    return chosen


class _Clusters:
    """Which frames look alike, and which cluster has been served."""

    def __init__(self, pool: Pool, count: int, seed: int) -> None:
        self.pool = pool
        self.of = np.full(len(pool.free), -1)
        self.off_centre = np.full(len(pool.free), np.inf)  # distance to the centre of the own cluster
        rows = pool.features[pool.known].astype(np.float64)
        # Rounded: pictures that differ by the last bit of a convolution are one.
        count = min(count, len(np.unique(rows.round(5), axis=0)) if len(rows) else 0)
        if count > 0:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "One of the clusters is empty")
                centres, labels = kmeans2(rows, _first_centres(rows, count, seed), iter=_ROUNDS, minit="matrix")
            self.of[pool.known] = labels
            self.off_centre[pool.known] = np.linalg.norm(rows - centres[labels], axis=1)
        self.sizes = np.bincount(self.of[self.of >= 0], minlength=count)
        self.served = np.zeros(count, dtype=bool)

    def best(self, allowed: Mask) -> tuple[int, str]:
        """The next of the allowed frames (there is one), and why."""
        if not (allowed & self.pool.known).any():
            return int(np.argmax(allowed)), "no features to compare it by"
        waiting = [
            self._nearest(members)
            for cluster in np.flatnonzero(~self.served)
            if (members := allowed & (self.of == cluster)).any()
        ]
        if not waiting:
            # argmax takes the first of equals, and frames stand in the order of their ids.
            index = int(np.argmax(np.where(allowed, self.pool.distance, -np.inf)))
            return index, "farthest from those before; all clusters it could stand for are served"
        waiting.sort()
        if np.isinf(self.pool.distance[waiting]).all():
            index = max(waiting, key=lambda each: (self.sizes[self.of[each]], -each))
            why = "stands for the largest cluster"
        else:
            index = max(waiting, key=lambda each: (self.pool.distance[each], -each))
            why = f"stands for a cluster, {self.pool.distance[index]:.3f} from the nearest before"
        self.served[self.of[index]] = True
        return index, f"{why} ({self.sizes[self.of[index]]} frames)"

    def _nearest(self, members: Mask) -> int:
        return int(np.argmin(np.where(members, self.off_centre, np.inf)))


def _first_centres(rows: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """Greedy k-means++: of a few frames drawn by the square of their distance to the centres so far, the best one.

    Best is what leaves the least sum of squares. A single draw falls into a large cluster again too often.
    """
    random = np.random.default_rng(seed)
    draws = 2 + int(math.log(count))
    centres = [rows[random.integers(len(rows))]]
    nearest = ((rows - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count:
        drawn = rows[random.choice(len(rows), size=draws, p=nearest / nearest.sum())]
        left = [np.minimum(nearest, ((rows - row) ** 2).sum(axis=1)) for row in drawn]
        best = int(np.argmin([each.sum() for each in left]))
        nearest = left[best]
        centres.append(drawn[best])
    return np.stack(centres)
