"""Bootstrap intervals: images of one patient are no independent evidence, so groups are drawn, not images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

ROUNDING = 1e-9  # of sums; an interval narrower than this has no width


def sum_by_group(groups: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Sums of `values` (N, ...) over the images of each group: float64 (G, ...), groups in sorted order."""
    names, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]), dtype=np.float64)
    np.add.at(sums, index, values)
    return sums


def draw_weights(groups: int, draws: int, seed: int) -> np.ndarray:
    """How often each group is drawn: float64 (draws, groups), each row sums to `groups`."""
    uniform = np.full(groups, 1.0 / groups)
    return np.random.default_rng(seed).multinomial(groups, uniform, size=draws).astype(np.float64)


def with_interval(
    groups: Sequence[str], values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], weights: np.ndarray
) -> tuple[float, tuple[float, float] | None]:
    """A figure and its 95 % interval over groups.

    Args:
        groups: of each of N rows. values: (N, ...), what is summed. weights: of draw_weights.
        statistic: sums (M, ...) -> figures (M,). Every figure is a function of sums over rows, so a draw of groups is a
            weighted sum of group sums.

    Returns:
        the figure, nan where undefined; (low, high), None where fewer than two groups have it, or see
        percentile_interval.
    """
    sums = sum_by_group(groups, values.reshape(len(values), -1))
    shape = (-1, *values.shape[1:])
    value = float(statistic(sums.sum(axis=0).reshape(shape))[0])
    if np.count_nonzero(sums.any(axis=1)) < 2:  # of the groups that have this figure, one: nothing to draw from
        return value, None
    return value, percentile_interval(statistic((weights @ sums).reshape(shape)))


def share_with_interval(
    groups: Sequence[str], values: np.ndarray, weights: np.ndarray
) -> tuple[float, tuple[float, float] | None]:
    """A mean of figures in 0..1, or a share of rows, and its 95 % interval over groups.

    As with_interval, but where all rows have 0, or all have 1, and every draw too, the interval is the exact binomial
    one of as many groups (Clopper and Pearson, Biometrika 1934).

    Args:
        groups: of each of N rows. values: (N, 2), figure in 0..1 and whether the row counts, both 0 where not.
        weights: of draw_weights.
    """
    value, interval = with_interval(groups, values, mean_of_sums, weights)
    having = np.count_nonzero(sum_by_group(groups, values)[:, 1])
    if having < 2 or value not in (0.0, 1.0):
        return value, interval
    bound = 0.025 ** (1 / having)
    return value, ((0.0, 1.0 - bound) if value == 0.0 else (bound, 1.0))


def mean_of_sums(sums: np.ndarray) -> np.ndarray:
    """Quotient of the two columns of (M, 2), a sum and a count; nan where the count is 0."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """The central `level` of bootstrap values (draws,); draws where the figure is undefined (nan) are left out.

    None when more than half of the draws are undefined: what is left would speak for a different population; and when
    the draws are alike, as where each picture is right: an interval of no width would claim to be certain.
    """
    defined = values[np.isfinite(values)]
    if len(values) == 0 or len(defined) * 2 < len(values):
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return None if high - low < ROUNDING else (float(low), float(high))
