"""What every training loop over frames shares: precision, accumulation, the finite check, the steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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

from scripts.engines.allocator import keep_freed_memory
from scripts.engines.precision import autocast, resolve_precision
from scripts.engines.streams import PairedStreams


class NonFiniteLossError(RuntimeError):
    """The loss is NaN or infinite; the message names the frames of the batch."""


@dataclass
class IterationLoss:
    """What one iteration comes to.

    Attributes:
        loss: scalar with gradient.
        files: names of the frames that it was computed on.
        readings: detached scalars for the log.
    """

    loss: Tensor
    files: list[str]
    readings: dict[str, Tensor | float] = field(default_factory=dict)


class FrameTrainer(SupervisedTrainer):
    """MONAI's SupervisedTrainer over uint8 frames; a subclass says what the loss of a batch is.

    Args:
        device: where to compute.
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        train_data_loader: PairedStreams.
        network: what is called; its gradients are those of ``optimizer``.
        optimizer: over the parameters that are trained.
        loss_function: see the subclass.
        bare_network: the segmentation network in ``network``, whose weights a run ships.
        lr_scheduler: stepped once for each step of the optimizer.
        precision: "fp32", "bf16", "fp16" (GPUs only) or "auto" (bf16 on a GPU that has it, else fp16; fp32 on a CPU).
        accumulation_steps: batches a step of the optimizer; must divide the iterations of an epoch.
        max_gradient_norm: gradients of a step that are longer, over all parameters, are scaled down to it; None = none.

    Raises:
        ValueError: accumulation_steps does not divide the epoch; max_gradient_norm is not above 0.
        NonFiniteLossError: before the step that it would have spoilt.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: PairedStreams | DataLoader,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[..., Tensor],
        bare_network: nn.Module,
        lr_scheduler: LRScheduler | None = None,
        precision: str = "auto",
        accumulation_steps: int = 1,
        max_gradient_norm: float | None = None,
        inferer: Inferer | None = None,
        train_handlers: Sequence | None = None,
        **kwargs: Any,
    ) -> None:
        if len(train_data_loader) % accumulation_steps:
            raise ValueError(
                f"accumulation_steps is {accumulation_steps} and an epoch has {len(train_data_loader)} iterations; "
                "the first must divide the second."
            )
        if max_gradient_norm is not None and not max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm is {max_gradient_norm}; expected a number above 0, or null for none.")
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
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
        self.bare_network = bare_network
        self.lr_scheduler = lr_scheduler
        self.max_gradient_norm = max_gradient_norm
        self.precision = resolve_precision(precision, device)
        if device.type == "cpu":
            keep_freed_memory()
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        self.add_event_handler(
            Events.EPOCH_STARTED, lambda engine: engine.data_loader.set_epoch(engine.state.epoch - 1)
        )
        self.add_event_handler(Events.ITERATION_COMPLETED, self._same_buffers_everywhere)

    @abstractmethod
    def compute_loss(self, batch: dict[str, Any]) -> IterationLoss:
        """The loss of a batch of the streams, {"labeled": ..., "unlabeled": ... or None}."""

    def after_step(self) -> None:
        """What follows a step of the optimizer."""

    def modules_with_buffers(self) -> list[nn.Module]:
        """Modules whose buffers all processes must share."""
        return [self.bare_network]

    def shipped_weights(self) -> dict[str, Any]:
        """The weights that model.pt holds."""
        return {"model": self.bare_network.state_dict()}

    def parts(self) -> dict[str, Any]:
        """Everything but the bare network that has a state, by its name in last.pt."""
        parts = {"optimizer": self.optimizer, "lr_scheduler": self.lr_scheduler, "grad_scaler": self.grad_scaler}
        return {name: part for name, part in parts.items() if part is not None}

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which networks and losses are computed."""
        return autocast(self.precision, self.state.device)

    def pixels(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) -> float 0..1 on the device."""
        return image.to(self.state.device, non_blocking=True).float().div_(255.0)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> list[dict[str, Tensor | float]]:
        """One iteration; returns the readings that handlers log, as detached scalars.

        They are a list of one, as MONAI's handlers (MLFlowHandler, StatsHandler) take the loss from a decollated batch.
        """
        local = (self.state.iteration - 1) % self.state.epoch_length
        self.network.train()
        if local % self.accumulation_steps == 0:
            self.optimizer.zero_grad(set_to_none=True)
        found = self.compute_loss(batchdata)
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        if not torch.isfinite(found.loss):
            raise NonFiniteLossError(
                f"The loss is {found.loss.item()} at iteration {self.state.iteration} (epoch {self.state.epoch}); the "
                f"batch holds {found.files}. The last good checkpoint is kept. Look at these files, or lower "
                "--learning_rate, or use --precision fp32."
            )
        self.grad_scaler.scale(found.loss / self.accumulation_steps).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if (local + 1) % self.accumulation_steps == 0:
            self._clip_gradients()
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
            if self.lr_scheduler is not None:
                self.lr_scheduler.step()
            self.after_step()
        self.state.output = [{Keys.LOSS: found.loss.detach(), **found.readings}]
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _clip_gradients(self) -> None:
        if self.max_gradient_norm is not None:
            self.grad_scaler.unscale_(self.optimizer)
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.max_gradient_norm)

    @torch.no_grad()
    def _same_buffers_everywhere(self, engine: Engine) -> None:
        """At the end of an epoch every process takes rank 0's BatchNorm statistics: all then validate one network."""
        if not isinstance(self.network, DistributedDataParallel) or self.state.iteration % self.state.epoch_length:
            return
        for module in self.modules_with_buffers():
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)


def refuse_several_processes(network: nn.Module, message: str) -> None:
    """Raise ValueError(message) in a run of several processes, or for a network that is wrapped for one."""
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if isinstance(network, DistributedDataParallel) or (together and torch.distributed.get_world_size() > 1):
        raise ValueError(message)
