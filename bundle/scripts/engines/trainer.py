"""The one training loop: labelled frames, and, if an objective is given, unlabelled ones beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from scripts.engines.streams import PairedStreams
from scripts.engines.teacher import EMATeacher
from scripts.losses.objective import Objective

logger = logging.getLogger(__name__)
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLossError(RuntimeError):
    """The loss is NaN or infinite; the message names the frames of the batch."""


class SemiSupervisedTrainer(SupervisedTrainer):
    """MONAI's SupervisedTrainer with a second stream of frames: loss = supervised + weight(t) * objective.

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
                "a mask or into unlabeled/, lower --label_fraction, or train with --objective supervised."
            )
        if objective is not None and objective.needs_teacher and teacher is None:
            raise ValueError(f"{type(objective).__name__} needs a teacher: give an EMATeacher of the network.")
        if len(train_data_loader) % accumulation_steps:
            raise ValueError(
                f"accumulation_steps is {accumulation_steps} and an epoch has {len(train_data_loader)} iterations; "
                "the first must divide the second."
            )
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=PairedStreams(train_data_loader, unlabeled_data_loader if objective else None),
            epoch_length=len(train_data_loader),
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            inferer=inferer,
            train_handlers=train_handlers,
            decollate=False,
            accumulation_steps=accumulation_steps,
            **kwargs,
        )
        self.bare_network = network.module if isinstance(network, DistributedDataParallel) else network
        self.objective = objective.to(device) if objective is not None else None
        self.teacher = teacher.to(device) if teacher is not None else None
        self.unsupervised_weight = unsupervised_weight or (lambda iteration: 1.0)
        self.labeled_view = labeled_view
        self.lr_scheduler = lr_scheduler
        self.precision = resolve_precision(precision, device)
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.add_event_handler(
            Events.EPOCH_STARTED, lambda engine: engine.data_loader.set_epoch(engine.state.epoch - 1)
        )
        self.add_event_handler(Events.ITERATION_COMPLETED, self._same_buffers_everywhere)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, Tensor | float]:
        """One iteration; returns the readings that handlers log, as detached scalars."""
        labeled, unlabeled = batchdata["labeled"], batchdata["unlabeled"]
        local = (self.state.iteration - 1) % self.state.epoch_length
        self.network.train()
        if local % self.accumulation_steps == 0:
            self.optimizer.zero_grad(set_to_none=True)

        weight = self.unsupervised_weight(self.state.iteration) if self.objective is not None else 0.0
        image, label = self._pixels(labeled["image"]), labeled["label"].to(self.state.device, non_blocking=True)
        if self.labeled_view is not None:
            seen = self.labeled_view(image, label)
            image, label = seen.image, seen.label
        dtype = PRECISIONS[self.precision]
        with torch.autocast(self.state.device.type, dtype=dtype, enabled=dtype is not None):
            logits = self.inferer(image, self.network).float()
            supervised = self.loss_function(logits, label)
            output: dict[str, Tensor | float] = {"loss_supervised": supervised.detach()}
            total = supervised
            if weight > 0:
                answer = self.objective(self.bare_network, self.teacher, self._pixels(unlabeled["image"]))
                total = supervised + weight * answer.loss
                output |= {
                    "loss_unsupervised": answer.loss.detach(),
                    "confident_share": answer.confident_share.detach(),
                }
                output |= {"lesion_share": answer.lesion_share.detach(), **answer.terms}
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        if not torch.isfinite(total):
            files = list(labeled.get("file", [])) + (
                list(unlabeled.get("file", [])) if unlabeled and weight > 0 else []
            )
            raise NonFiniteLossError(
                f"The loss is {total.item()} at iteration {self.state.iteration} (epoch {self.state.epoch}); the batch "
                f"holds {files}. The last good checkpoint is kept. Look at these files, or lower --learning_rate, "
                "or use --precision fp32."
            )
        self.grad_scaler.scale(total / self.accumulation_steps).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if (local + 1) % self.accumulation_steps == 0:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
            if self.lr_scheduler is not None:
                self.lr_scheduler.step()
            if self.teacher is not None:
                self.teacher.update(self.bare_network)
        output |= {Keys.LOSS: total.detach(), "unsupervised_weight": weight}
        self.state.output = output
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    @torch.no_grad()
    def _same_buffers_everywhere(self, engine: Engine) -> None:
        """At the end of an epoch every process takes rank 0's BatchNorm statistics: all then validate one network."""
        if not isinstance(self.network, DistributedDataParallel) or self.state.iteration % self.state.epoch_length:
            return
        for module in (self.bare_network, self.teacher):
            for buffer in module.buffers() if module is not None else ():
                torch.distributed.broadcast(buffer, src=0)

    def _pixels(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> float 0..1 on the device."""
        return image.to(self.state.device, non_blocking=True).float().div_(255.0)


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" -> what the device does best; half precision asked for on a CPU becomes fp32 and is logged.

    Raises:
        ValueError: unknown name.
    """
    if precision not in (*PRECISIONS, "auto"):
        raise ValueError(f"precision '{precision}' is unknown; expected auto, fp32, bf16 or fp16.")
    if device.type != "cuda":
        if precision not in ("auto", "fp32"):
            logger.warning("precision %s is for GPUs; on %s training runs in fp32.", precision, device.type)
        return "fp32"
    if precision == "auto":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return precision
