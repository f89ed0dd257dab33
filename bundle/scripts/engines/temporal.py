"""Smoothing of a video's predictions in time, as a handler."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys

from scripts.engines.frame_result import MOVING
from scripts.transforms.temporal import LogitSmoother


class TemporalSmoothing:
    """Adds ``pred_smoothed`` to a MONAI evaluator's output: the logits of videos, smoothed over successive frames.

    Runs on the batch after the forward pass, before postprocessing. Frames of other files keep their own logits, frames
    that could not be read leave the state as it is.

    Args:
        smoother: keeps the state from frame to frame; None = no smoothing.
    """

    def __init__(self, smoother: LogitSmoother | None) -> None:
        self.smoother = smoother

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        if self.smoother is not None:
            engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.smooth)

    def smooth(self, engine: Engine) -> None:
        """(B, C, H, W) logits -> the same, smoothed frame by frame in the order of the batch."""
        batch: dict[str, Any] = engine.state.batch
        logits = engine.state.output[Keys.PRED]
        smoothed = logits.clone()
        changes = []
        for n, kind in enumerate(batch["kind"]):
            changed = False
            if kind in MOVING and not batch["error"][n]:
                frame = batch[Keys.IMAGE][n]
                smoothed[n] = self.smoother(logits[n], frame, batch["source"][n], float(batch["time_s"][n]))
                changed = self.smoother.scene_change
            changes.append(changed)
        engine.state.output["pred_smoothed"] = smoothed
        engine.state.output["scene_change"] = torch.tensor(changes)
