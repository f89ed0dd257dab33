"""Pretraining on graded pictures, with ungraded ones beside them where there are any."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from scripts.engines.frame_trainer import IterationLoss
from scripts.engines.view_trainer import ViewTrainer, numbers_of
from scripts.losses.severity_objective import GradedViews
from scripts.networks.severity import SeverityEmbedder, healthy_distance

Reference = Literal["mean", "image"]


class Phases:
    """Where the first phase ends, as last.pt keeps it.

    Args:
        discrimination_epochs: of the first phase.
    """

    def __init__(self, discrimination_epochs: int) -> None:
        self.discrimination_epochs = discrimination_epochs

    def state_dict(self) -> dict[str, int]:
        """Of the run that began."""
        return {"discrimination_epochs": self.discrimination_epochs}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Of the run that goes on, whatever max_epochs would give now."""
        self.discrimination_epochs = state["discrimination_epochs"]


class SeverityTrainer(ViewTrainer):
    """Trains a SeverityEmbedder on two random views of each picture, which pass it as one batch.

    Args:
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        network: SeverityEmbedder; its running mean of healthy embeddings is kept up. ``train_data_loader`` gives it
            {"image": (B, 3, H, W) uint8, "label": (B, 1) severity, "group", "file"}, ``unlabeled_data_loader`` the same
            of pictures that are not graded.
        discrimination_epochs: of the first phase; the objective is told.
        reference: what severity is measured from: the running "mean" of healthy embeddings, which is steadier, or the
            embedding of one healthy "image", drawn anew for each batch (the mean where the batch has none).
        kwargs: device, optimizer, views, drawn twice, and the rest, see ViewTrainer. ``loss_function``: GradedViews ->
            loss and readings, see scripts/losses/severity_objective.py; if its ``orders`` is true the network remembers
            healthy pictures.

    Raises:
        ValueError: more than one process, nothing to train on, options out of range.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    one_process: ClassVar[str] = (
        "Pretraining on severity runs in one process, since its pairs are those of a batch: start it without "
        "torchrun and multi_gpu_train.json; the training that follows may use them."
    )
    no_frames: ClassVar[str] = "There are no pictures to pretrain on: the training split is empty."

    def __init__(
        self,
        max_epochs: int,
        network: SeverityEmbedder,
        discrimination_epochs: int = 0,
        reference: Reference = "mean",
        **kwargs: Any,
    ) -> None:
        if reference not in ("mean", "image"):
            raise ValueError(f"reference is {reference!r}; expected 'mean' or 'image'.")
        if not 0 <= discrimination_epochs < max_epochs:
            raise ValueError(
                f"discrimination_epochs is {discrimination_epochs}; expected 0 to {max_epochs - 1}: of max_epochs "
                f"{max_epochs} some must be left for the second phase."
            )
        super().__init__(max_epochs=max_epochs, network=network, **kwargs)
        self.phases = Phases(discrimination_epochs)
        self.reference = reference

    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """The objective of two views of the batch."""
        parts = [part for part in (batch["labeled"], batch["unlabeled"]) if part is not None]
        image = torch.cat([self.pixels(part["image"]) for part in parts])
        severity = torch.cat([part["label"][:, 0] for part in parts]).to(self.state.device)
        groups = [name for part in parts for name in part["group"]]
        files = [file for part in parts for file in part.get("file", [])]
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
            group=numbers_of(groups, embedding.device),
            reference=self._reference(healthy),
            discriminating=self.state.epoch <= self.phases.discrimination_epochs,
            picture=numbers_of(files, embedding.device) if files else None,
        )
        loss, readings = self.loss_function(views)
        return IterationLoss(loss, files, {**readings, **_order(first.detach(), views)})

    def parts(self) -> dict[str, Any]:
        """With the end of the first phase: a run that is made longer does not go back into it."""
        return super().parts() | {"phases": self.phases}

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
