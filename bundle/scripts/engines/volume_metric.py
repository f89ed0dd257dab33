"""The validation figures of volumes, as a metric of a MONAI evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine
from ignite.metrics import Metric
from monai.utils.enums import CommonKeys as Keys

from scripts.engines.evaluation import unpadded
from scripts.metrics.volume_evaluation import VolumeEvaluation


class VolumeDice(Metric):
    """Mean Dice of the structures of the validation volumes, from the same counts and rules as the evaluation.

    An ignite metric, to be given as key metric: it is reset each time the evaluator runs and leaves <name> (mean over
    volumes and structures) and, of each structure, <name>_<structure> in the evaluator's metrics. Slices of one volume
    may be spread over processes.

    Args:
        classes: names, the first is the background.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        super().__init__()

    def reset(self) -> None:
        """Forget all slices."""
        self.evaluation = VolumeEvaluation(self.classes)

    def update(self, output: Any) -> None:
        """Add slices: (items with "file" and "group", outputs with class index "pred" and "label", (1, H, W) each)."""
        for item, found in zip(*output, strict=True):
            label = unpadded(found[Keys.LABEL], item)
            self.evaluation.add(item["file"], item["group"], found[Keys.PRED][0], label[0])

    def iteration_completed(self, engine: Engine) -> None:
        """The names of the slices stand in the batch, which ignite does not hand on."""
        self.update((engine.state.batch, engine.state.output))

    def compute(self) -> float:
        """Mean over volumes and structures, 0..1."""
        self.evaluation.gather()
        self.figures = self.evaluation.figures(bootstrap=1)
        return float(self.figures["dice"]["value"])

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the figures in the evaluator's metrics."""
        super().completed(engine, name)
        for structure in self.classes[1:]:
            engine.state.metrics[f"{name}_{structure}"] = self.figures[f"dice_{structure}"]["value"]
