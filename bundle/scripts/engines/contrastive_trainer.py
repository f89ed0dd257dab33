"""Pretraining by contrast: two views of each frame, an embedding of them, and a loss between the embeddings."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.engines.frame_trainer import IterationLoss
from scripts.engines.view_trainer import ViewTrainer, numbers_of
from scripts.losses.local_contrastive import IGNORED
from scripts.networks.contrast import ContrastNetwork

logger = logging.getLogger(__name__)


class ContrastiveTrainer(ViewTrainer):
    """Trains a ContrastNetwork on two random views of each frame, which pass it as one batch.

    Global contrast (level "image") reads no label and a view may move the picture. Local contrast (level "pixels")
    reads the label, which both views share, so that a view may change colours alone; what moves the picture is drawn
    before, for both views and the label. The label is brought to the size of the map by nearest neighbour.

    Args:
        network: ContrastNetwork; ``train_data_loader`` gives it {"image": (B, 3, H, W) uint8, "file": names}, for
            pixels with "label": (B, 1, H, W) uint8 class index.
        views: random view of a batch, drawn twice.
        shared_view: level "pixels": random view of frames with their labels, drawn once, before the two. The border
            that it makes up takes no part. None = the frames as they are, as published.
        kwargs: device, max_epochs, optimizer and the rest, see ViewTrainer. ``loss_function``: level "image": of both
            views' embeddings, (B, C) each, and the pictures' numbers (B,), None where they have no names; level
            "pixels": of the embedding (2B, C, h, w) and the label (2B, 1, h, w).

    Raises:
        ValueError: more than one process, nothing to train on, or a view that moves pixels in local contrast.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    one_process: ClassVar[str] = (
        "Pretraining by contrast runs in one process, since the frames of a batch are each other's negatives: "
        "start it without torchrun and multi_gpu_train.json; the training that follows may use them."
    )
    no_frames: ClassVar[str] = (
        "There are no frames to pretrain on: the training split is empty. Give more frames, or a larger first "
        "share of --split."
    )

    def __init__(
        self, network: ContrastNetwork, views: nn.Module, shared_view: nn.Module | None = None, **kwargs: Any
    ) -> None:
        super().__init__(network=network, views=views, bare_network=getattr(network, "network", None), **kwargs)
        if network.level == "pixels" and getattr(views, "geometry", None) is not None:
            raise ValueError(
                "The views of local contrast share one label and so must not move pixels: leave flips, rotation, scale "
                "and translation of pretraining_views at 0; shared_view may move them."
            )
        if network.level == "image" and shared_view is not None:
            raise ValueError("Global contrast has no shared_view: its two views may move the picture themselves.")
        self.shared_view = shared_view
        loader = kwargs["train_data_loader"]
        if network.level == "image" and len(loader.dataset) < loader.batch_size:
            logger.warning(
                "Global contrast draws batches of %d from %d frames, of which each is then in it more than once: set "
                "--labeled_batch_size to %d or less.",
                *(loader.batch_size, len(loader.dataset), len(loader.dataset)),
            )

    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """The contrast between two views of the batch."""
        batch = batch["labeled"]
        image, label = self.pixels(batch["image"]), None
        if self.network.level == "pixels":
            image, label = self._moved(image, batch["label"].to(self.state.device, non_blocking=True))
        both = torch.cat([self.views(image).image for _ in range(2)])
        with self.autocast():
            embedding = self.network(both).float()
        first, second = embedding.chunk(2)
        files = list(batch.get("file", []))
        # How alike the two views of one place are, -1..1: it rises towards 1 as the network learns to see past a view.
        readings: dict[str, Tensor | float] = {
            "view_similarity": functional.cosine_similarity(first.detach(), second.detach(), dim=1).mean()
        }
        if self.network.level == "image":
            # A pass of the frames may end, and the next begin, inside of a batch: a frame is then in it twice.
            picture = numbers_of(files, embedding.device) if files else None
            loss = self.loss_function(first, second, picture)
        else:
            label = functional.interpolate(label.float(), size=embedding.shape[2:], mode="nearest-exact").long()
            label = torch.cat([label, label])
            loss = self.loss_function(embedding, label)
            # Without foreground there is no anchor and nothing is learnt.
            readings["foreground_share"] = ((label > 0) & (label != IGNORED)).float().mean()
        return IterationLoss(loss, files, readings)

    def _moved(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The shared view of frames (B, 3, H, W) and labels (B, 1, H, W), IGNORED where it shows no frame."""
        if self.shared_view is None:
            return image, label
        seen = self.shared_view(image, label)
        return seen.image, seen.label.masked_fill(seen.valid() == 0, IGNORED)

    def parts(self) -> dict[str, Any]:
        """With the projection head, which last.pt keeps and model.pt does not."""
        return super().parts() | {"projection": self.network.projection}
