"""Pretraining by distillation: an encoder learns to see frames as a pretrained one of another architecture does."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from scripts.engines.frame_trainer import IterationLoss
from scripts.engines.view_trainer import ViewTrainer
from scripts.networks.distillation import DistillationNetwork


class DistillationTrainer(ViewTrainer):
    """Trains the student of a DistillationNetwork; both see the same view of each frame (Beyer et al. 2022).

    Args:
        network: DistillationNetwork; ``train_data_loader`` gives it {"image": (B, 3, H, W) uint8, "file": names}.
        mixup: of a batch of views (B, 3, H, W), for example kornia's RandomMixUpV2; None = frames are not mixed.
        kwargs: device, max_epochs, views, drawn once, and the rest, see ViewTrainer. ``loss_function``: Matched -> loss
            and readings; ``optimizer``: over the parameters of student and heads.

    Raises:
        ValueError: more than one process, or nothing to train on.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    one_process: ClassVar[str] = (
        "Distillation runs in one process, since its maps are standardised over a batch: start it without torchrun "
        "and multi_gpu_train.json; the training that follows may use them."
    )
    no_frames: ClassVar[str] = (
        "There are no frames to distil on: the data set has no training and no unlabelled frames. Give more "
        "frames, folders of frames by --unlabeled_data, or a larger first share of --split."
    )

    def __init__(self, network: DistillationNetwork, mixup: nn.Module | None = None, **kwargs: Any) -> None:
        super().__init__(network=network, bare_network=getattr(network, "student", None), **kwargs)
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
