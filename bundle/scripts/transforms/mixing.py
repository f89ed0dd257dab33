"""CutMix for dense prediction: a box of each picture is replaced by the same box of another."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CutMix(nn.Module):
    """Boxes of 2-40 % of a picture, filled from the batch in reverse order (Yun et al. 2019; French et al. 2020).

    ``draw`` gives the boxes, ``mix`` applies them, so that pictures, pseudo-labels and confidences are mixed alike.

    Args:
        probability: share of pictures that are mixed.
        area: smallest and largest share of the picture that a box covers.
        aspect: smallest and largest width/height of a box.
    """

    def __init__(
        self,
        probability: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
    ) -> None:
        super().__init__()
        self.probability = probability
        self.area = area
        self.aspect = aspect

    def draw(self, image: Tensor) -> Tensor:
        """Boxes (B, 1, H, W) for a batch (B, C, H, W): True inside."""
        height, width = image.shape[-2:]
        boxes = torch.zeros(len(image), 1, height, width, dtype=torch.bool)
        for box in boxes:
            if torch.rand(()) >= self.probability:
                continue
            area = torch.empty(()).uniform_(*self.area).item() * height * width
            aspect = math.exp(torch.empty(()).uniform_(math.log(self.aspect[0]), math.log(self.aspect[1])).item())
            box_width = min(width, max(1, round(math.sqrt(area * aspect))))
            box_height = min(height, max(1, round(math.sqrt(area / aspect))))
            top = int(torch.randint(0, height - box_height + 1, ()))
            left = int(torch.randint(0, width - box_width + 1, ()))
            box[:, top : top + box_height, left : left + box_width] = True
        return boxes.to(image.device)

    @staticmethod
    def mix(values: Tensor, boxes: Tensor) -> Tensor:
        """Fill the boxes (B, 1, H, W) of ``values`` (B, C, H, W) from the batch in reverse order."""
        return torch.where(boxes, values.flip(0), values)
