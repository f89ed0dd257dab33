"""A figure of severity on the validation split, as a metric of a MONAI evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine
from ignite.metrics import Metric
from monai.utils.enums import CommonKeys as Keys

from scripts.metrics.severity_evaluation import SeverityEvaluation


class SeverityMetric(Metric):
    """One figure of a SeverityEvaluation; the others are left in the evaluator's metrics as val_<figure>.

    Args:
        figure: the one to choose the best epoch by, larger is better.
        grades: names; None = there is a score alone.
    """

    def __init__(self, figure: str = "kappa", grades: Sequence[str] | None = None) -> None:
        self.figure = figure
        self.grades = grades
        super().__init__()

    def reset(self) -> None:
        """Forget all pictures."""
        self.evaluation = SeverityEvaluation(self.grades)

    def update(self, output: Any) -> None:
        """Add pictures: (items with "file" and "group", outputs with "pred" (1, 1 + K) and "label" (1,))."""
        for item, found in zip(*output, strict=True):
            self.evaluation.add(item["file"], item["group"], found[Keys.PRED][0].cpu().numpy(), found[Keys.LABEL][0])

    def iteration_completed(self, engine: Engine) -> None:
        """The names of the pictures stand in the batch, which ignite does not hand on."""
        self.update((engine.state.batch, engine.state.output))

    def compute(self) -> float:
        """The figure; where it is undefined 0, which for kappa and Spearman is what chance gives."""
        self.evaluation.gather()
        self.figures = {name: found["value"] for name, found in self.evaluation.figures(bootstrap=1).items()}
        value = self.figures[self.figure]
        return 0.0 if value is None else float(value)

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the figures in the evaluator's metrics."""
        super().completed(engine, name)
        others = {f"val_{figure}": value for figure, value in self.figures.items() if value is not None}
        engine.state.metrics |= others
