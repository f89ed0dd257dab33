"""What trainings on random views of one stream of frames have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from scripts.engines.frame_trainer import FrameTrainer, refuse_several_processes
from scripts.engines.streams import PairedStreams


class ViewTrainer(FrameTrainer):
    """A training on random views of the frames of a stream; ``compute_loss`` is the subclass's.

    Attributes:
        one_process: why it cannot run in several, said when it is asked to; "" = it can.
        no_frames: what is wrong where there is nothing to train on, and the cure.

    Args:
        device: where to compute.
        max_epochs: an epoch is one pass of ``train_data_loader``, a fixed number of iterations.
        train_data_loader: of stream_loader; None = there is nothing to train on.
        network: what is trained. bare_network: what model.pt holds; None = the network.
        optimizer: over its parameters.
        loss_function: what compute_loss calls.
        views: random view of a batch.
        unlabeled_data_loader: a second stream beside the first; None = none.
        kwargs: lr_scheduler, precision, accumulation_steps, train_handlers and the rest, see FrameTrainer.

    Raises:
        ValueError: several processes, where one is needed; nothing to train on.
    """

    one_process: ClassVar[str] = ""
    no_frames: ClassVar[str]

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: DataLoader | None,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[..., Any],
        views: nn.Module,
        bare_network: nn.Module | None = None,
        unlabeled_data_loader: DataLoader | None = None,
        **kwargs: Any,
    ) -> None:
        if self.one_process:
            refuse_several_processes(network, self.one_process)
        if train_data_loader is None:
            raise ValueError(self.no_frames)
        super().__init__(
            device=torch.device(device),
            max_epochs=max_epochs,
            train_data_loader=PairedStreams(train_data_loader, unlabeled_data_loader),
            network=network,
            optimizer=optimizer,
            loss_function=loss_function,
            bare_network=network if bare_network is None else bare_network,
            **kwargs,
        )
        self.views = views


def numbers_of(names: Sequence[str], device: torch.device) -> Tensor:
    """(N,) a whole number for each name, the same for the same name."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([places[name] for name in names], device=device)
