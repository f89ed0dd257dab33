"""Training to grade pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from scripts.engines.frame_trainer import FrameTrainer, IterationLoss
from scripts.engines.streams import PairedStreams


class GradeTrainer(FrameTrainer):
    """Trains a SeverityClassifier on graded pictures.

    Args:
        device: where to compute.
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        train_data_loader: stream_loader of {"image": (B, 3, H, W) uint8, "label": (B, 1) grade, "file": names}.
        network: image (B, 3, H, W) in 0..1 -> logits (B, grades).
        optimizer: over its parameters.
        loss_function: of logits and grades (B,).
        views: random view of a batch.
        kwargs: lr_scheduler, precision, accumulation_steps, train_handlers and the rest, see FrameTrainer.

    Raises:
        ValueError: nothing to train on.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader | None,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[[Tensor, Tensor], Tensor],
        views: nn.Module,
        **kwargs: Any,
    ) -> None:
        if train_data_loader is None:
            raise ValueError("There are no graded pictures to train on: the training split is empty.")
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            train_data_loader=PairedStreams(train_data_loader),
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            bare_network=network.module if isinstance(network, DistributedDataParallel) else network,
            **kwargs,
        )
        self.views = views

    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """The loss of one view of the batch."""
        batch = batch["labeled"]
        image = self.views(self.pixels(batch["image"])).image
        grade = batch["label"][:, 0].long().to(self.state.device)
        with self.autocast():
            logits = self.network(image).float()
        loss = self.loss_function(logits, grade)
        accuracy = (logits.detach().argmax(dim=1) == grade).float().mean()
        return IterationLoss(loss, list(batch.get("file", [])), {"accuracy": accuracy})
