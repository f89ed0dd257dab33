"""One inferer for frames and for stacks of frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class FramesInferer(Inferer):
    """Runs a 2D network over frames (B, 3, H, W), or over each frame of stacks (B, 3, D, H, W).

    Stacks are what a file of several frames becomes in MONAI Label, which reads a whole file at a time.

    Args:
        batch_size: frames of a stack in one pass.
    """

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Frames, float 0..1 or uint8 -> logits (B, C, H, W), or (B, C, D, H, W) for stacks."""
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)
        if inputs.ndim == 4:
            return network(_as_float(inputs), *args, **kwargs)
        if inputs.ndim != 5:
            raise ValueError(
                f"inputs of shape {tuple(inputs.shape)}; expected frames (B, 3, H, W) or stacks (B, 3, D, H, W)"
            )
        frames = inputs.transpose(1, 2).flatten(0, 1)
        logits = [network(_as_float(part), *args, **kwargs) for part in frames.split(self.batch_size)]
        return torch.cat(logits).unflatten(0, (len(inputs), inputs.shape[2])).transpose(1, 2)


def _as_float(frames: Tensor) -> Tensor:
    return frames.float() / 255.0 if frames.dtype == torch.uint8 else frames
