"""Training to grade pictures."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scripts.engines.frame_trainer import IterationLoss
from scripts.engines.view_trainer import ViewTrainer


class GradeTrainer(ViewTrainer):
    """Trains a SeverityClassifier on graded pictures.

    Args:
        network: image (B, 3, H, W) in 0..1 -> logits (B, grades); ``train_data_loader`` gives {"image": (B, 3, H, W)
            uint8, "label": (B, 1) grade, "file": names}.
        kwargs: device, max_epochs, optimizer, views and the rest, see ViewTrainer. ``loss_function``: of logits and
            grades (B,).

    Raises:
        ValueError: nothing to train on.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    no_frames: ClassVar[str] = "There are no graded pictures to train on: the training split is empty."

    def __init__(self, network: nn.Module, **kwargs: Any) -> None:
        bare = network.module if isinstance(network, DistributedDataParallel) else network
        super().__init__(network=network, bare_network=bare, **kwargs)

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
