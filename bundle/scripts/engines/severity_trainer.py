"""Pretraining on graded pictures, with ungraded ones beside them where there are any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from scripts.engines.frame_trainer import FrameTrainer, IterationLoss, refuse_several_processes
from scripts.engines.streams import PairedStreams
from scripts.losses.severity_objective import GradedViews
from scripts.networks.severity import SeverityEmbedder, healthy_distance

Reference = Literal["mean", "image"]


class SeverityTrainer(FrameTrainer):
    """Trains a SeverityEmbedder on two random views of each picture, which pass it as one batch.

    Args:
        device: where to compute.
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        train_data_loader: stream_loader of {"image": (B, 3, H, W) uint8, "label": (B, 1) severity, "group", "file"}.
        network: SeverityEmbedder; its running mean of healthy embeddings is kept up.
        optimizer: over its parameters.
        objective: GradedViews -> loss and readings, see scripts/losses/severity_objective.py; if its ``orders`` is true
            the network remembers healthy pictures.
        views: random view of a batch, drawn twice.
        unlabeled_data_loader: the same of pictures that are not graded; None = none.
        discrimination_epochs: of the first phase; the objective is told.
        reference: what severity is measured from: the running "mean" of healthy embeddings, which is steadier, or the
            embedding of one healthy "image", drawn anew for each batch (the mean where the batch has none).
        kwargs: lr_scheduler, precision, accumulation_steps, train_handlers and the rest, see FrameTrainer.

    Raises:
        ValueError: more than one process, nothing to train on, options out of range.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader | None,
        network: SeverityEmbedder,
        optimizer: Optimizer,
        objective: Callable[[GradedViews], tuple[Tensor, dict[str, Tensor]]],
        views: nn.Module,
        unlabeled_data_loader: DataLoader | None = None,
        discrimination_epochs: int = 0,
        reference: Reference = "mean",
        **kwargs: Any,
    ) -> None:
        refuse_several_processes(
            network,
            "Pretraining on severity runs in one process, since its pairs are those of a batch: start it without "
            "torchrun and multi_gpu_train.json; the training that follows may use them.",
        )
        if train_data_loader is None:
            raise ValueError("There are no pictures to pretrain on: the training split is empty.")
        if reference not in ("mean", "image"):
            raise ValueError(f"reference is {reference!r}; expected 'mean' or 'image'.")
        if not 0 <= discrimination_epochs < max_epochs:
            raise ValueError(
                f"discrimination_epochs is {discrimination_epochs}; expected 0 to {max_epochs - 1}: of max_epochs "
                f"{max_epochs} some must be left for the second phase."
            )
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            train_data_loader=PairedStreams(train_data_loader, unlabeled_data_loader),
            network=network,
            optimizer=optimizer,
            loss_function=objective,
            bare_network=network,
            **kwargs,
        )
        self.views = views
        self.discrimination_epochs = discrimination_epochs
        self.reference = reference

    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """The objective of two views of the batch."""
        parts = [part for part in (batch["labeled"], batch["unlabeled"]) if part is not None]
        image = torch.cat([self.pixels(part["image"]) for part in parts])
        severity = torch.cat([part["label"][:, 0] for part in parts]).to(self.state.device)
        groups = [name for part in parts for name in part["group"]]
        places = {name: place for place, name in enumerate(dict.fromkeys(groups))}
        with self.autocast():
            embedding = self.network(torch.cat([self.views(image).image for _ in range(2)])).float()
        first, second = embedding.chunk(2)
        healthy = embedding[(severity == 0).repeat(2)]
        # Without an order that was learned, a checkpoint must not look as if it could score severity.
        if getattr(self.loss_function, "orders", False):
            self.network.remember_healthy(healthy)
        views = GradedViews(
            first=first,
            second=second,
            severity=severity,
            group=torch.tensor([places[name] for name in groups], device=self.state.device),
            reference=self._reference(healthy),
            discriminating=self.state.epoch <= self.discrimination_epochs,
        )
        loss, readings = self.loss_function(views)
        files = [file for part in parts for file in part.get("file", [])]
        return IterationLoss(loss, files, {**readings, **_order(first.detach(), views)})

    def _reference(self, healthy: Tensor) -> Tensor:
        if self.reference == "mean" or not len(healthy):
            return self.network.healthy.clone()
        return healthy[torch.randint(len(healthy), (), device=healthy.device)].detach()


def _order(embedding: Tensor, views: GradedViews) -> dict[str, Tensor]:
    """Share of the pairs of the batch in which the more severe picture is further from healthy; .5 = by chance."""
    distance = healthy_distance(embedding, views.reference)
    pairs = views.severity[:, None] > views.severity[None, :]
    if not pairs.any() or not views.reference.any():
        return {}
    return {"order_share": (distance[:, None] > distance[None, :])[pairs].float().mean()}
