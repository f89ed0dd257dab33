"""Smoothing in time as a transform of items, for the postprocessing of a config."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from scripts.transforms.resizing import lesion_probability
from scripts.transforms.temporal import LogitSmoother

#: (2, h, w): lesion probability 0..1 without and with smoothing, on the network's grid
GRID = "pred_grid"
_COMPARED = ("pred_companion", "pred_flip")  # what the agreement compares with pred


class SmoothInTimed(Transform):
    """Smooth the logits of videos over successive frames, and keep what they were beside them.

    ``pred`` becomes the smoothed logits; ``pred_grid`` (see GRID) and ``scene_change`` (bool) are added. Those of
    ``pred_companion`` and ``pred_flip``, where they are there, are smoothed alike: a mask that lags behind would
    disagree with them wherever the lesion moves. Figures with and without smoothing are taken on the network's grid: at
    the frame's size the second map would cost a sixth of the speed. Items must come in the order of their frames. Those
    without a time (pictures), and those that could not be read, pass unchanged and leave the state as it is.

    Args:
        momentum: see LogitSmoother; 0 = no smoothing, all items pass unchanged.
        temperature: divides the logits.

    Raises:
        ValueError: a momentum outside 0..1.
    """

    def __init__(self, momentum: float = 0.6, temperature: float = 1.0) -> None:
        self.smoother = LogitSmoother(momentum) if momentum != 0 else None
        self.temperature = temperature

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Item with ``pred`` (C, h, w), ``image`` (3, h, w) uint8, ``source``, ``time_s`` -> the same, smoothed."""
        result = dict(data)
        time_s = float(result.get("time_s", "nan"))
        if self.smoother is None or time_s != time_s or result.get("error"):
            return result
        # One tensor for all, so that they begin anew at the same frames.
        keys = ["pred", *(key for key in _COMPARED if result.get(key) is not None)]
        parts = [torch.as_tensor(result[key]).as_subclass(torch.Tensor) for key in keys]
        smoothed = self.smoother(torch.cat(parts), result["image"], str(result["source"]), time_s)
        result.update(zip(keys, smoothed.split([len(part) for part in parts]), strict=True))
        grid = torch.stack([parts[0], result["pred"]]).float() / self.temperature
        result[GRID] = lesion_probability(grid)
        result["scene_change"] = self.smoother.scene_change
        return result
