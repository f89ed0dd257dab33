"""The exponential moving average of a network."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class EMATeacher(nn.Module):
    """theta_T <- d theta_T + (1 - d) theta_S with d = min(1 - 1/(t + 1), decay), buffers included, always in eval mode.

    At the first update (t = 0) d is 0, so that the teacher begins as a copy of the student. BatchNorm statistics move
    like weights; integer buffers (counters) are copied.

    Args:
        network: the student; copied, never changed.
        decay: largest d. 0.99 for a few thousand steps, 0.996 for tens of thousands.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMATeacher: decay is {decay}; expected 0 <= decay < 1.")
        self.network = deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the student; call it after each step of the optimizer."""
        count = int(self.updates)
        decay = min(1.0 - 1.0 / (count + 1), self.decay)
        source = student.state_dict()
        for name, target in self.network.state_dict().items():
            if target.dtype.is_floating_point:
                target.lerp_(source[name].to(target), 1.0 - decay)
            else:
                target.copy_(source[name])
        self.updates += 1

    @torch.no_grad()
    def restart(self, student: nn.Module) -> None:
        """Be a copy of the student, and average from here on as if nothing had been before."""
        self.network.load_state_dict(student.state_dict())
        self.updates.zero_()

    def train(self, mode: bool = True) -> EMATeacher:
        """Stay in eval mode whatever is asked: a teacher that updates its own BatchNorm statistics drifts."""
        return super().train(False)

    def forward(self, image: Tensor) -> Any:
        """The averaged network's answer."""
        return self.network(image)
