"""Inference on frames of any size: the shipped network, its companion and a mirrored pass, for mask and agreement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from scripts.io.errors import MediaError
from scripts.networks.checkpoints import load_weights, read_file

logger = logging.getLogger(__name__)


class AgreementIteration:
    """MONAI's iteration_update: logits of the network, of its companion, and of the network on the mirrored frame.

    Args:
        companion: the student where the EMA teacher was shipped; None = not to be had.
        flip: run the mirrored frame too (one more pass).
    """

    def __init__(self, companion: nn.Module | None = None, flip: bool = True) -> None:
        self.companion = companion
        self.flip = flip

    def __call__(self, engine: Engine, batchdata: dict[str, Any]) -> Any:
        """Batch of frames -> "pred", and "pred_companion", "pred_flip" where asked for, each (B, C, H, W) logits."""
        image, _ = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking)
        output = {Keys.IMAGE: image}
        with engine.mode(engine.network):
            output[Keys.PRED] = engine.inferer(image, engine.network)
            if self.flip:
                output["pred_flip"] = engine.inferer(image.flip(-1), engine.network).flip(-1)
        if self.companion is not None:
            with engine.mode(self.companion):
                output["pred_companion"] = engine.inferer(image, self.companion)
        engine.state.output = output
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output  # Decollated and postprocessed by now.


class FrameDataset(Dataset):
    """Frames of which some may be broken: such a one becomes a black picture with its error beside it.

    One bad file must not end a night's work; FrameResultWriter lists it in failures.csv.

    Args:
        data: items with "file" and "image" (path).
        transform: item -> tensors.
        size: [height, width] of the black picture.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable, size: Sequence[int]) -> None:
        super().__init__(data, transform)
        self.size = [int(side) for side in size]

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        shown = {"file": item["file"], "path": item["image"], "error": ""}
        try:
            return {**super()._transform(index), **shown}
        except Exception as error:
            cause = error
            while cause.__cause__ is not None and not isinstance(cause, MediaError):
                cause = cause.__cause__
            if not isinstance(cause, MediaError):
                raise
            black = torch.zeros(3, *self.size, dtype=torch.uint8)
            return {"image": black, "original_size": torch.tensor(self.size), **shown, "error": str(cause)}


def load_shipped(network: nn.Module, checkpoint: str | Path, device: str | torch.device) -> nn.Module:
    """The network with the weights to use of a run's model.pt, on its device.

    Raises:
        CheckpointError: see scripts.networks.checkpoints.
    """
    load_weights(network, checkpoint)
    return network.to(device).eval()


def load_companion(network: nn.Module, checkpoint: str | Path, device: str | torch.device) -> nn.Module | None:
    """The companion of a run's model.pt (the raw student beside its EMA), or None where the file has none."""
    content, _ = read_file(checkpoint)
    if not isinstance(content, dict) or "companion" not in content:
        logger.warning("%s holds no companion: agreement is between the network and its mirrored pass.", checkpoint)
        return None
    load_weights(network, checkpoint, key="companion")
    return network.to(device).eval()
