"""Logits of all frames of a file -> the mask volume that annotation tools take."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from scripts.transforms.resizing import restore_probability

CHUNK = 16  # frames that are interpolated at once


class LesionMasksd(MapTransform):
    """Logits (2, D, h, w) of D frames -> mask (1, W, H, D) uint8, 0 background and 1 lesion, at the original size.

    The column comes first, as in NIfTI and as MONAI Label's writer wants it. Frames are interpolated by the rule of
    RestoreLesionProbabilityd, a few at a time, and results are kept in the CPU's memory: a mask of full HD needs
    2 MB a frame, the logits of all frames at that size would need eight times as much.

    Args:
        keys: logits of shape (C, D, h, w), or (C, h, w) of one frame; channel 1 and up are lesion classes.
        size_key: the tensor [H, W] that RecordSized wrote.
        threshold: lesion is where its probability is above, 0..1.
        temperature: divides the logits (1 = as trained).
        uncertainty_key: where to write the binary entropy of the lesion probability, (1, W, H, D) float32, 0..1 bit;
            None = nowhere. Only for one key.
        probability_key: where to write the lesion probability, (1, W, H, D) float32, 0..1; None = nowhere.

    Raises:
        ValueError: numbers that make no sense, several keys with one map, logits of another shape or not finite.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        size_key: str = "original_size",
        threshold: float = 0.5,
        temperature: float = 1.0,
        uncertainty_key: str | None = None,
        probability_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        if not 0 <= threshold <= 1 or not temperature > 0:
            raise ValueError(f"threshold is {threshold}, temperature {temperature}; expected 0 to 1, and above 0")
        if len(self.keys) > 1 and (uncertainty_key or probability_key):
            raise ValueError(f"uncertainty_key and probability_key need one key, found {self.keys}")
        self.size_key = size_key
        self.threshold = threshold
        self.temperature = temperature
        self.uncertainty_key = uncertainty_key
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        height, width = (int(side) for side in result[self.size_key])
        for key in self.key_iterator(result):
            logits = _as_frames(result[key], str(key))
            shape = (1, width, height, len(logits))
            mask = torch.empty(shape, dtype=torch.uint8)
            maps = {name: torch.empty(shape) for name in (self.uncertainty_key, self.probability_key) if name}
            for start in range(0, len(logits), CHUNK):
                part = slice(start, start + CHUNK)
                probability = restore_probability(logits[part], (height, width), self.temperature)
                if not torch.isfinite(probability.sum()):
                    raise ValueError(f"{key}: the network's output is not finite; check the weights (--checkpoint)")
                mask[0, ..., part] = (probability > self.threshold).permute(2, 1, 0)
                if self.uncertainty_key:
                    maps[self.uncertainty_key][0, ..., part] = binary_entropy(probability).permute(2, 1, 0)
                if self.probability_key:
                    maps[self.probability_key][0, ..., part] = probability.permute(2, 1, 0)
            result[key] = mask
            result.update(maps)
        return result


def binary_entropy(probability: torch.Tensor) -> torch.Tensor:
    """Probabilities of any shape, 0..1 -> -p log2 p - (1 - p) log2 (1 - p), bits, 0 (certain) to 1 (p = 0.5)."""
    return torch.special.entr(probability).add_(torch.special.entr(1 - probability)).div_(0.6931471805599453)


def _as_frames(logits: Any, key: str) -> torch.Tensor:
    """(C, D, h, w) or (C, h, w) -> (D, C, h, w)."""
    logits = torch.as_tensor(logits).as_subclass(torch.Tensor)
    if logits.ndim == 3:
        logits = logits[:, None]
    if logits.ndim != 4 or len(logits) < 2:
        raise ValueError(f"{key} is {tuple(logits.shape)}; expected logits (2, D, h, w) of D frames, or (2, h, w)")
    return logits.transpose(0, 1)
