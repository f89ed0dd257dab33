"""Pretraining by distillation: an encoder learns to see frames as a pretrained one of another architecture does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from scripts.engines.frame_trainer import FrameTrainer, IterationLoss, refuse_several_processes
from scripts.engines.streams import PairedStreams
from scripts.networks.distillation import DistillationNetwork, Matched


class DistillationTrainer(FrameTrainer):
    """Trains the student of a DistillationNetwork; both see the same view of each frame (Beyer et al. 2022).

    Args:
        device: where to compute.
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        train_data_loader: stream_loader of {"image": (B, 3, H, W) uint8, "file": names}.
        network: DistillationNetwork.
        optimizer: over the parameters of student and heads.
        loss_function: Matched -> loss and readings.
        views: random view of a batch, drawn once.
        mixup: of a batch of views (B, 3, H, W), for example kornia's RandomMixUpV2; None = frames are not mixed.
        kwargs: lr_scheduler, precision, accumulation_steps, train_handlers and the rest, see FrameTrainer.

    Raises:
        ValueError: more than one process, or nothing to train on.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader | None,
        network: DistillationNetwork,
        optimizer: Optimizer,
        loss_function: Callable[[Matched], tuple[Tensor, dict[str, Tensor]]],
        views: nn.Module,
        mixup: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_several_processes(
            network,
            "Distillation runs in one process, since its maps are standardised over a batch: start it without torchrun "
            "and multi_gpu_train.json; the training that follows may use them.",
        )
        if train_data_loader is None:
            raise ValueError(
                "There are no frames to distil on: the data set has no training and no unlabelled frames. Give more "
                "frames, folders of frames by --unlabeled_data, or a larger first share of --split."
            )
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            train_data_loader=PairedStreams(train_data_loader),
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            bare_network=network.student,
            **kwargs,
        )
        self.views = views
        self.mixup = mixup

    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """The distance between student and teacher on one view of the batch."""
        batch = batch["labeled"]
        image = self.views(self.pixels(batch["image"])).image
        if self.mixup is not None:
            image = self.mixup(image)
        with self.autocast():
            matched = self.network(image)
        loss, readings = self.loss_function(matched)
        return IterationLoss(loss, list(batch.get("file", [])), dict(readings))

    def parts(self) -> dict[str, Any]:
        """With adapters and classifier, which last.pt keeps and model.pt does not."""
        return super().parts() | {"heads": self.network.heads}
