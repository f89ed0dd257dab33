"""Evaluation at original resolution, one loop for validation and test: figures, per-image rows, predicted masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scripts.io.writers import OutputNamer, write_mask_png
from scripts.metrics.evaluation import LesionEvaluation


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


class EvaluationHandler:
    """Adds every image of a MONAI evaluator to a LesionEvaluation, and writes its mask if a folder is given.

    Args:
        evaluation: gathered over all processes at the end.
        predictions_dir: masks as PNG (0 / 255) at original size go there.
    """

    def __init__(self, evaluation: LesionEvaluation, predictions_dir: str | Path | None = None) -> None:
        self.evaluation = evaluation
        self.predictions_dir = None if predictions_dir is None else Path(predictions_dir)
        self.namer = OutputNamer()

    def attach(self, engine: Engine) -> None:
        """Collect after every iteration, gather at the end."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.evaluation.gather())

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            probability = output[Keys.PRED][0].cpu().numpy()
            self.evaluation.add(item["file"], item["group"], probability, output[Keys.LABEL][0].cpu().numpy())
            if self.predictions_dir is not None:
                write_mask_png(self.predictions_dir / self.namer(item["file"]), probability > 0.5)


def evaluate(
    network: nn.Module,
    dataloader: DataLoader,
    device: str | torch.device,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    predictions_dir: str | Path | None = None,
    evaluation: LesionEvaluation | None = None,
) -> LesionEvaluation:
    """Run a network over a split and measure it at original resolution.

    Args:
        dataloader: items with "image" at the network's size and "label" at the original one, one frame a batch.
        postprocessing: logits -> lesion probability (1, H, W) at original size.

    Returns:
        all images of all processes.
    """
    result = LesionEvaluation() if evaluation is None else evaluation  # An empty one is false.
    evaluator = SupervisedEvaluator(
        device=torch.device(device),
        val_data_loader=dataloader,
        network=network,
        prepare_batch=prepare_frames,
        inferer=inferer,
        postprocessing=postprocessing,
        val_handlers=[EvaluationHandler(result, predictions_dir)],
    )
    evaluator.run()
    return result
