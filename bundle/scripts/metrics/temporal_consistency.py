"""How steady a video's masks are: the overlap of each with the one before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.metrics.confusion import overlap_figures


class TemporalConsistency:
    """Mean Dice between the masks of successive frames; nothing but the last mask and sums is kept.

    It needs no truth, and motion lowers it as flicker does: compare two ways of making masks of one video (with and
    without smoothing), not two videos. A mask that never changes has 1 and can still be wrong.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.bool_] | None = None
        self._sums = np.zeros((2, 2))  # all pairs, pairs with lesion: sum of Dice, count

    def reset(self) -> None:
        """Leave out the pair of the last and the next mask: the scene changed, or frames between them are missing."""
        self._last = None

    def update(self, mask: NDArray[np.bool_], scene_change: bool = False) -> float | None:
        """Take the next frame's mask.

        Args:
            mask: (H, W) bool. scene_change: as reset() before it. A mask of another size is taken for one.

        Returns:
            Dice with the mask before, 0..1 (two empty ones 1), or None where there is none to compare with.

        Raises:
            ValueError: the mask is not (H, W) bool.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype != bool:
            raise ValueError(f"mask is {mask.shape} {mask.dtype}, expected (H, W) bool: threshold it first.")
        last, self._last = self._last, mask.copy()
        if last is None or scene_change or last.shape != mask.shape:
            return None
        both, before, now = (int(np.count_nonzero(part)) for part in (last & mask, last, mask))
        dice = float(overlap_figures(both, now - both, before - both, mask.size - before - now + both)["dice"])
        self._sums[0] += dice, 1
        if before + now:
            self._sums[1] += dice, 1
        return dice

    @property
    def value(self) -> float | None:
        """Mean Dice over all pairs, 0..1; two empty masks count 1. None before the first pair."""
        return _mean(self._sums[0])

    @property
    def lesion_value(self) -> float | None:
        """The same over the pairs of which at least one mask has lesion; None without such a pair."""
        return _mean(self._sums[1])

    @property
    def pairs(self) -> int:
        """Number of pairs compared."""
        return int(self._sums[0, 1])


def _mean(sums: NDArray[np.float64]) -> float | None:
    return float(sums[0] / sums[1]) if sums[1] else None
