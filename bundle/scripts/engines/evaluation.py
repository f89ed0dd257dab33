"""Evaluation at original resolution, one loop for validation and test: figures, rows of a table, predicted masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scripts.engines.predictions import Predictions, predictions_for
from scripts.metrics.evaluation import Figure, LesionEvaluation


class Evaluation(Protocol):
    """What the loop measures with: LesionEvaluation for pictures, VolumeEvaluation for several classes and volumes."""

    table: str  # file name of its rows in a run directory

    def __len__(self) -> int:
        """Pictures or slices so far."""

    def add(self, file: str, group: str, prediction: Any, truth: Any) -> object:
        """Measure one, (H, W) each, as the postprocessing gives it."""

    def gather(self) -> None:
        """Take over what other processes measured."""

    def figures(self, temperature: float | None = None) -> dict[str, Figure]:
        """{name: {"value", "low", "high", "unit", "definition"}}."""

    def write_csv(self, path: str | Path) -> Path:
        """Write the rows."""


def prepare_frames(
    batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """MONAI's prepare_batch for uint8 frames: image (B, 3, H, W) float 0..1 and label, if any, on the device."""
    image = batch[Keys.IMAGE].to(device, non_blocking=non_blocking).float().div_(255.0)
    label = batch.get(Keys.LABEL)
    return image, None if label is None else label.to(device, non_blocking=non_blocking)


def lesion_and_label(threshold: float = 0.5) -> Callable[[list[dict[str, Any]]], tuple[list[Tensor], list[Tensor]]]:
    """An output_transform for metrics: predicted classes and labels, lists of (1, H, W)."""

    def transform(output: list[dict[str, Any]]) -> tuple[list[Tensor], list[Tensor]]:
        return [(item[Keys.PRED] > threshold).long() for item in output], [item[Keys.LABEL].long() for item in output]

    return transform


def unpadded(label: Tensor, item: dict[str, Any]) -> Tensor:
    """A label (1, H', W') without what a collate function added below and to the right to fill up its batch."""
    size = item.get("original_size")
    # What has no rows and columns, such as a severity, was not filled up.
    return label if size is None or label.ndim < 2 else label[..., : int(size[0]), : int(size[1])]


class EvaluationHandler:
    """Adds every picture of a MONAI evaluator to an evaluation, and hands what was predicted to a writer, if any.

    Args:
        evaluation: gathered over all processes at the end.
        predictions: where the predicted masks go; None = nowhere.
    """

    def __init__(self, evaluation: Evaluation, predictions: Predictions | None = None) -> None:
        self.evaluation = evaluation
        self.predictions = predictions

    def attach(self, engine: Engine) -> None:
        """Collect after every iteration, gather at the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            predicted, truth = output[Keys.PRED][0].cpu().numpy(), unpadded(output[Keys.LABEL], item)[0].cpu().numpy()
            self.evaluation.add(item["file"], item["group"], predicted, truth)
            if self.predictions is not None:
                self.predictions.add(item["file"], predicted)

    def _finish(self, engine: Engine) -> None:
        self.evaluation.gather()
        if self.predictions is not None:
            self.predictions.finish()


def evaluate(
    network: nn.Module,
    dataloader: DataLoader,
    device: str | torch.device,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    predictions_dir: str | Path | None = None,
    evaluation: Evaluation | None = None,
) -> Evaluation:
    """Run a network over a split and measure it at original resolution.

    Args:
        dataloader: items with "image" at the network's size and "label" at the original one, one frame a batch.
        postprocessing: logits -> what the evaluation takes, (1, H, W) at original size: lesion probability, or class
            index for VolumeEvaluation.
        predictions_dir: masks go there, see predictions_for; None = nowhere.
        evaluation: what to measure with, without pictures yet; None = LesionEvaluation.

    Returns:
        all images of all processes.
    """
    result: Evaluation = LesionEvaluation() if evaluation is None else evaluation  # An empty one is false.
    predictions = None
    if predictions_dir is not None:
        items = getattr(dataloader.dataset, "data", [])
        sources = {item["file"]: item["image"] for item in items if "file" in item}
        predictions = predictions_for(result, Path(predictions_dir), sources)
    evaluator = SupervisedEvaluator(
        device=torch.device(device),
        val_data_loader=dataloader,
        network=network,
        prepare_batch=prepare_frames,
        inferer=inferer,
        postprocessing=postprocessing,
        val_handlers=[EvaluationHandler(result, predictions)],
    )
    evaluator.run()
    return result
