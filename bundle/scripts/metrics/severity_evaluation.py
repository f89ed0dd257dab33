"""How well severity is told: by grade, and as an order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import distributed

from scripts.io.table import Table
from scripts.metrics.definitions import severity_definition
from scripts.metrics.evaluation import Figure
from scripts.metrics.intervals import draw_weights, percentile_interval, share_with_interval, with_interval


class SeverityEvaluation:
    """Collects pictures one by one, then gives figures with 95 % intervals over groups.

    Of grades: macro F1, macro recall, accuracy, MAEE and quadratic kappa, all from one confusion matrix; the predicted
    grade is the likeliest. Of the severity score, which any increasing change leaves as it is: Spearman's correlation.

    Args:
        grades: names, the place is the grade; None = there is a score alone.

    Raises:
        ValueError: fewer than two grades.
    """

    table = "per_picture.csv"  # what its rows are called in a run directory

    def __init__(self, grades: Sequence[str] | None = None) -> None:
        self.grades = None if grades is None else tuple(map(str, grades))
        if self.grades is not None and len(self.grades) < 2:
            raise ValueError(f"grades are {list(self.grades)}; expected at least two names, healthy first")
        # of each picture: group, severity, score, probabilities
        self._pictures: dict[str, tuple[str, float, float, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, file: str, group: str, prediction: np.ndarray, truth: Any) -> None:
        """Take one picture.

        Args:
            file: relative to the dataset. group: patient.
            prediction: (1 + K,) severity score and the probability of each of K grades; (1,) without grades.
            truth: severity, of a graded evaluation the grade.

        Raises:
            ValueError: naming the file, for a picture that was added before, another length, or no such grade.
        """
        if file in self._pictures:
            raise ValueError(f"{file}: added twice to one evaluation, expected once.")
        found = np.asarray(prediction, dtype=np.float64).reshape(-1)
        severity = float(truth)
        wanted = 1 + len(self.grades or ())
        if len(found) != wanted or not np.isfinite(found).all():
            raise ValueError(f"{file}: prediction is {found.tolist()}, expected {wanted} finite numbers.")
        if not np.isfinite(severity) or (self.grades is not None and severity not in range(len(self.grades))):
            expected = "a number" if self.grades is None else f"a grade 0..{len(self.grades) - 1}"
            raise ValueError(f"{file}: severity is {severity}, expected {expected}.")
        self._pictures[file] = (str(group), severity, float(found[0]), found[1:])

    def gather(self) -> None:
        """Take over the pictures of all processes, where torch.distributed runs; every process must call it."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        parts: list[SeverityEvaluation | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self)
        for part in parts:
            self._pictures = {**part._pictures, **self._pictures}  # type: ignore[union-attr]

    def confusion(self) -> np.ndarray:
        """Pictures (K, K) by true (rows) and predicted (columns) grade."""
        return self._pairs().sum(axis=0).astype(np.int64)

    def figures(self, temperature: float | None = None, bootstrap: int = 1000, seed: int = 0) -> dict[str, Figure]:
        """All figures: {name: {"value", "low", "high", "unit", "definition"}}.

        Args:
            temperature: not used. bootstrap: draws of groups. seed: of the draws.

        Raises:
            ValueError: before the first picture.
        """
        if not self._pictures:
            raise ValueError("The evaluation holds no picture, expected at least one: is the split empty?")
        groups, severities, scores, _ = self._columns()
        weights = draw_weights(len(set(groups)), bootstrap, seed)
        results = {}
        if self.grades is not None:
            pairs = self._pairs()
            results = {name: with_interval(groups, pairs, of, weights) for name, of in OF_CONFUSION.items()}
            right = np.stack([np.trace(pairs, axis1=1, axis2=2), np.ones(len(pairs))], axis=1)
            results["accuracy"] = share_with_interval(groups, right, weights)
        results["spearman"] = _spearman_with_interval(groups, severities, scores, weights)
        return {
            name: {
                "value": float(value) if np.isfinite(value) else None,
                "low": None if interval is None else interval[0],
                "high": None if interval is None else interval[1],
                "unit": severity_definition(name, interval is not None)[1],
                "definition": severity_definition(name, interval is not None)[0],
            }
            for name, (value, interval) in results.items()
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a picture, sorted by file."""
        rows = []
        for file, (group, severity, score, probability) in sorted(self._pictures.items()):
            row = {"file": file, "group": group, "severity": severity, "score": score}
            if self.grades is not None:
                row["predicted"] = int(probability.argmax())
                row |= {f"p_{grade}": float(value) for grade, value in enumerate(probability)}
            rows.append(row)
        return rows

    def write_csv(self, path: str | Path) -> Path:
        """Write the rows, whole or not at all. Raises OutputError when it cannot be written."""
        rows = self.rows
        table = Table(tuple(rows[0]))
        for row in rows:
            table.add(**row)
        table.write(path)
        return Path(path)

    def _columns(self) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
        """Groups, severities (N,), scores (N,), probabilities (N, K), sorted by file."""
        found = [self._pictures[file] for file in sorted(self._pictures)]
        groups, severities, scores, probabilities = zip(*found, strict=True)
        return list(groups), np.array(severities), np.array(scores), np.stack(probabilities)

    def _pairs(self) -> np.ndarray:
        """Of each picture (N, K, K) a 1 at its true and predicted grade."""
        _, severities, _, probabilities = self._columns()
        pairs = np.zeros((len(severities), *(probabilities.shape[1],) * 2))
        pairs[np.arange(len(severities)), severities.astype(int), probabilities.argmax(axis=1)] = 1.0
        return pairs


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Confusion matrices (M, K, K) -> mean F1 over the grades that are there or predicted, (M,)."""
    both, actual, predicted = _margins(confusion)
    return _mean_where(2 * both, actual + predicted)


def macro_recall(confusion: np.ndarray) -> np.ndarray:
    """Mean recall over the grades that are there, (M,)."""
    both, actual, _ = _margins(confusion)
    return _mean_where(both, actual)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of pictures of the right grade, (M,)."""
    return _margins(confusion)[0].sum(axis=1) / confusion.sum(axis=(1, 2))


def maee(confusion: np.ndarray) -> np.ndarray:
    """Mean of exp |true - predicted grade|, (M,); 1 = no error (Tran et al., arXiv 2404.18831)."""
    return (confusion * np.exp(_apart(confusion.shape[1]))).sum(axis=(1, 2)) / confusion.sum(axis=(1, 2))


def quadratic_kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa with quadratic weights, (M,); nan where all pictures are of one grade and rightly predicted."""
    _, actual, predicted = _margins(confusion)
    by_chance = actual[:, :, None] * predicted[:, None, :] / confusion.sum(axis=(1, 2))[:, None, None]
    weights = _apart(confusion.shape[1]) ** 2
    missed, expected = (confusion * weights).sum(axis=(1, 2)), (by_chance * weights).sum(axis=(1, 2))
    return 1.0 - np.divide(missed, expected, out=np.full_like(missed, np.nan), where=expected > 0)


def spearman(severities: np.ndarray, scores: np.ndarray) -> float:
    """Spearman's rank correlation, ties at their mean rank; nan where either is constant."""
    ranks = [rankdata(values) for values in (severities, scores)]
    centred = [values - values.mean() for values in ranks]
    size = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / size) if size > 0 else float("nan")


#: figures that are functions of the confusion matrix
OF_CONFUSION = {
    "macro_f1": macro_f1,
    "macro_recall": macro_recall,
    "accuracy": accuracy,
    "maee": maee,
    "kappa": quadratic_kappa,
}


def _spearman_with_interval(
    groups: Sequence[str], severities: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[float, tuple[float, float] | None]:
    """No function of sums: the pictures of the groups of each draw are ranked anew."""
    value = spearman(severities, scores)
    names, place = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return value, None
    draws = []
    for weight in weights:
        chosen = np.repeat(np.arange(len(place)), weight[place].astype(int))
        draws.append(spearman(severities[chosen], scores[chosen]))
    return value, percentile_interval(np.array(draws))


def _margins(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2), confusion.sum(axis=1)


def _mean_where(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    """Mean over the last axis of parts / wholes, of those that have a whole."""
    shares = np.divide(parts, wholes, out=np.zeros_like(parts, dtype=np.float64), where=wholes > 0)
    return shares.sum(axis=1) / np.maximum((wholes > 0).sum(axis=1), 1)


def _apart(grades: int) -> np.ndarray:
    """Grades (K, K) between the true and the predicted one."""
    return np.abs(np.arange(grades)[:, None] - np.arange(grades)[None, :]).astype(np.float64)
