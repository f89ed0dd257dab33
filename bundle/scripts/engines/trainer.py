"""Supervised and semi-supervised training: labelled frames and, with an objective, unlabelled ones beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from scripts.engines.frame_trainer import FrameTrainer, IterationLoss, NonFiniteLossError
from scripts.engines.streams import PairedStreams
from scripts.engines.teacher import EMATeacher
from scripts.losses.objective import Objective

logger = logging.getLogger(__name__)

__all__ = ["NonFiniteLossError", "SemiSupervisedTrainer"]


class SemiSupervisedTrainer(FrameTrainer):
    """A FrameTrainer with a second stream of frames: loss = supervised + weight(t) * objective.

    Without an objective it is plain supervised training, so that every comparison runs through the same code.

    Args:
        device: where to compute.
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        train_data_loader: stream_loader of {"image": (B, 3, H, W) uint8, "label": (B, 1, H, W) uint8, "file": names}.
        network: logits (B, C, H, W) from (B, 3, H, W) in 0..1.
        optimizer: over the network's parameters.
        loss_function: supervised loss of (logits, label).
        unlabeled_data_loader: the same without "label"; same number of batches. None = supervised.
        objective: loss on unlabelled frames, see scripts.losses. None = supervised.
        teacher: moving average of the network; required by objectives that say so.
        unsupervised_weight: iteration -> weight of the objective.
        labeled_view: random view of labelled frames with their labels.
        lr_scheduler: stepped once for each step of the optimizer.
        precision: "fp32", "bf16", "fp16" or "auto" (bf16 on a GPU that has it, else fp16; fp32 on a CPU).
        accumulation_steps: batches a step of the optimizer; must divide the iterations of an epoch.

    Raises:
        NonFiniteLossError: before the step that it would have spoilt.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[[Tensor, Tensor], Tensor],
        unlabeled_data_loader: DataLoader | None = None,
        objective: Objective | None = None,
        teacher: EMATeacher | None = None,
        unsupervised_weight: Callable[[int], float] | None = None,
        labeled_view: nn.Module | None = None,
        lr_scheduler: LRScheduler | None = None,
        precision: str = "auto",
        accumulation_steps: int = 1,
        inferer: Inferer | None = None,
        train_handlers: Sequence | None = None,
        **kwargs: Any,
    ) -> None:
        device = torch.device(device)
        if objective is not None and unlabeled_data_loader is None:
            raise ValueError(
                f"{type(objective).__name__} needs unlabelled frames and there are none: put them into images/ without "
                "a mask or into unlabeled/, lower --label_fraction, let it see the labelled ones by "
                "--labeled_as_unlabeled True, or train with --objective supervised."
            )
        if objective is not None and objective.needs_teacher and teacher is None:
            raise ValueError(f"{type(objective).__name__} needs a teacher: give an EMATeacher of the network.")
        bare_network = network.module if isinstance(network, DistributedDataParallel) else network
        taken_apart = objective is not None and objective.takes_network_apart
        if taken_apart and not (hasattr(bare_network, "encode") and hasattr(bare_network, "decode")):
            raise ValueError(
                f"{type(objective).__name__} perturbs maps inside of the network and {type(bare_network).__name__} has "
                "no encode and decode: train it with --objective supervised, mean_teacher, less_net_published or "
                "pseudo_labels, or choose LESSNet."
            )
        mined = objective is not None and objective.needs_pseudo_labels
        if mined and "pseudo_label" not in unlabeled_data_loader.dataset[0]:
            raise ValueError(
                f"{type(objective).__name__} learns from masks that were mined, and the unlabelled frames have none: "
                "mine them by configs/knowledge_mining.json, or layer configs/pseudo_labels.json over train.json and "
                "give the pseudo_labels.json of a mining as --dataset_dir."
            )
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=PairedStreams(train_data_loader, unlabeled_data_loader if objective else None),
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            bare_network=bare_network,
            lr_scheduler=lr_scheduler,
            precision=precision,
            accumulation_steps=accumulation_steps,
            inferer=inferer,
            train_handlers=train_handlers,
            **kwargs,
        )
        self.objective = objective.to(device) if objective is not None else None
        self.teacher = teacher.to(device) if teacher is not None else None
        self.unsupervised_weight = unsupervised_weight or (lambda iteration: 1.0)
        steps = max_epochs * self.state.epoch_length
        if objective is not None and not self.unsupervised_weight(steps) > 0:
            logger.warning(
                "%s has no weight in any of the %d steps, so that masks alone are learnt from: give more --max_epochs, "
                "or a lower --unsupervised_start",
                type(objective).__name__,
                steps,
            )
        self.labeled_view = labeled_view
        self._left_with: Tensor | None = None
        if self.teacher is not None:
            self.add_event_handler(Events.STARTED, self._teach_from_new_weights)
            self.add_event_handler(Events.COMPLETED, self._remember_weights)

    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """Supervised loss, and from the start of the objective its share."""
        labeled, unlabeled = batch["labeled"], batch["unlabeled"]
        files = list(labeled.get("file", []))
        weight = self.unsupervised_weight(self.state.iteration) if self.objective is not None else 0.0
        image, label = self.pixels(labeled["image"]), labeled["label"].to(self.state.device, non_blocking=True)
        if self.labeled_view is not None:
            seen = self.labeled_view(image, label)
            image, label = seen.image, seen.label
        with self.autocast():
            logits = self.inferer(image, self.network).float()
            supervised = self.loss_function(logits, label)
            readings: dict[str, Tensor | float] = {"loss_supervised": supervised.detach()}
            total = supervised
            if weight > 0:
                answer = self.objective(
                    self.bare_network, self.teacher, self.pixels(unlabeled["image"]), **self._pseudo_labels(unlabeled)
                )
                total = supervised + weight * answer.loss
                files += list(unlabeled.get("file", []))
                readings |= {
                    "loss_unsupervised": answer.loss.detach(),
                    "confident_share": answer.confident_share.detach(),
                }
                readings |= {"lesion_share": answer.lesion_share.detach(), **answer.terms}
        return IterationLoss(total, files, readings | {"unsupervised_weight": weight})

    def _pseudo_labels(self, unlabeled: dict[str, Any]) -> dict[str, Tensor]:
        """Masks (B, 1, H, W) and weights (B,) of the frames, where the objective is about them."""
        if not self.objective.needs_pseudo_labels:
            return {}
        masks, weights = unlabeled["pseudo_label"], unlabeled["weight"]
        return {"pseudo_label": masks.to(self.state.device), "weight": weights.to(self.state.device).float()}

    def after_step(self) -> None:
        """The teacher follows."""
        if self.teacher is not None:
            self.teacher.update(self.bare_network)

    def _teach_from_new_weights(self) -> None:
        """Begin the average anew where others put weights into the network: a round of federated learning does.

        Called after the handlers that restore a run. A teacher without updates is a copy of the network anyway.
        """
        replaced = self._left_with is not None and not torch.equal(self._left_with, _weight_sums(self.bare_network))
        if replaced or not int(self.teacher.updates):
            self.teacher.restart(self.bare_network)

    def _remember_weights(self) -> None:
        self._left_with = _weight_sums(self.bare_network)

    def modules_with_buffers(self) -> list[nn.Module]:
        """The student, the teacher, and the objective, whose moving figures weigh pseudo-labels."""
        return [part for part in (self.bare_network, self.teacher, self.objective) if part is not None]

    def shipped_weights(self) -> dict[str, Any]:
        """The teacher's and, beside them, the student's; the student's alone where there is no teacher."""
        student = self.bare_network.state_dict()
        return (
            {"model": student}
            if self.teacher is None
            else ({"model": self.teacher.network.state_dict(), "companion": student})
        )

    def parts(self) -> dict[str, Any]:
        """With teacher and objective."""
        more = {"teacher": self.teacher, "objective": self.objective}
        return super().parts() | {name: part for name, part in more.items() if part is not None}


@torch.no_grad()
def _weight_sums(network: nn.Module) -> Tensor:
    """The sum of each parameter: changes with any training or loading, and costs no copy."""
    return torch.stack([parameter.detach().double().sum() for parameter in network.parameters()])
