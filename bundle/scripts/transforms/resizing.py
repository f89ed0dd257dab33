"""To the network's input size, and back to the size the frame came in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch.nn import functional
from torchvision.transforms.v2.functional import InterpolationMode, resize


class RecordSized(MapTransform):
    """Note the height and width of a picture before it is resized.

    Args:
        keys: pictures of shape (C, H, W).
        output_key: where to write the size, as a tensor [H, W].
    """

    def __init__(self, keys: KeysCollection, output_key: str = "original_size") -> None:
        super().__init__(keys)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[self.output_key] = torch.tensor(result[key].shape[-2:])
        return result


class ResizeTo(MapTransform):
    """Resize to one size: pictures antialiased, label maps by nearest neighbour.

    The aspect ratio is not kept, as in the published protocols (LESS-Net 512 x 512, Kvasir-SEG 352 x 352); figures
    are computed after going back to the original size, so it costs nothing there.

    Args:
        keys: uint8 pictures (3, H, W) or label maps (1, H, W).
        size: [height, width] in pixels.
        label_keys: those of ``keys`` that hold class indices.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: Sequence[int],
        label_keys: Sequence[str] = ("label", "pseudo_label"),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = [int(side) for side in size]
        self.label_keys = set(label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            # Plain tensors: nothing downstream reads MetaTensor's history, and it slows every operation.
            pixels = torch.as_tensor(result[key]).as_subclass(torch.Tensor).to(torch.uint8)
            mode = InterpolationMode.NEAREST_EXACT if key in self.label_keys else InterpolationMode.BILINEAR
            result[key] = resize(pixels, self.size, interpolation=mode, antialias=mode is InterpolationMode.BILINEAR)
        return result


class RestoreLesionProbabilityd(MapTransform):
    """Logits at the network's size -> lesion probability at the frame's original size.

    Logits are interpolated first and softmax taken after, so that contours fall between pixels rather than on the
    coarse grid. Keys that the evaluator did not produce are skipped.

    Args:
        keys: logits of shape (C, H, W); channel 1 and up are lesion classes.
        size_key: the tensor [H, W] that RecordSized wrote.
        temperature: divides the logits (1 = as trained).
    """

    def __init__(self, keys: KeysCollection, size_key: str = "original_size", temperature: float = 1.0) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.size_key = size_key
        self.temperature = temperature

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        size = [int(side) for side in result[self.size_key]]
        for key in self.key_iterator(result):
            logits = torch.as_tensor(result[key]).as_subclass(torch.Tensor)
            result[key] = restore_probability(logits[None], size, self.temperature)
        return result


class RestoreClassesd(MapTransform):
    """Logits at the network's size -> class index at the picture's original size, (1, H, W) uint8.

    Logits are interpolated first and the largest is taken after, as in RestoreLesionProbabilityd. Keys that the
    evaluator did not produce are skipped.

    Args:
        keys: logits of shape (C, h, w), C of 2 to 256 classes.
        size_key: the tensor [H, W] that RecordSized wrote.

    Raises:
        ValueError: logits that are not finite: their largest would mean nothing.
    """

    def __init__(self, keys: KeysCollection, size_key: str = "original_size") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.size_key = size_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        size = [int(side) for side in result[self.size_key]]
        for key in self.key_iterator(result):
            logits = torch.as_tensor(result[key]).as_subclass(torch.Tensor)[None].float()
            if not torch.isfinite(logits.sum()):
                raise ValueError(f"{key}: the network's output is not finite; check the weights (--checkpoint)")
            logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            result[key] = logits.argmax(dim=1).to(torch.uint8)
        return result


def restore_probability(logits: torch.Tensor, size: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Logits (B, C, h, w) -> lesion probability (B, H, W), 0..1, at size [H, W]; the input is left as it is."""
    logits = logits.float() / temperature
    if logits.shape[1] == 2:  # half the pixels to interpolate; the same, since interpolation is linear
        logits = logits[:, 1:] - logits[:, :1]
    logits = functional.interpolate(logits, size=list(size), mode="bilinear", align_corners=False)
    return logits[:, 0].sigmoid_() if logits.shape[1] == 1 else lesion_probability(logits)


def lesion_probability(logits: torch.Tensor) -> torch.Tensor:
    """Logits (B, C, H, W) -> probability of any class but 0, (B, H, W), 0..1."""
    if logits.shape[1] == 2:  # softmax of two is the sigmoid of their difference
        return (logits[:, 1] - logits[:, 0]).sigmoid_()
    return 1.0 - torch.softmax(logits, dim=1)[:, 0]
