"""Pictures of one grade are drawn together, pictures of different grades apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.tiled_contrast import TILE_MIB, supervised_contrast


class SupervisedContrastiveLoss(nn.Module):
    """Supervised contrast between pictures (Khosla et al., NeurIPS 2020, eq. 2).

    Positives of a picture are its other view and both views of all pictures of its grade; a picture without a grade has
    its other view alone, as in NT-Xent. Grades are names here: 0 is as far from 1 as from 4.

    Args:
        temperature: of the similarities, > 0.
        tile_mib: MiB of similarities held at a time.

    Raises:
        ValueError: options out of range; views and grades that do not fit each other.
    """

    def __init__(self, temperature: float = 0.1, tile_mib: float = TILE_MIB) -> None:
        super().__init__()
        if temperature <= 0 or tile_mib <= 0:
            raise ValueError(f"temperature is {temperature}, tile_mib is {tile_mib}; both must be above 0.")
        self.temperature = temperature
        self.tile_mib = tile_mib

    def forward(self, first: Tensor, second: Tensor, grade: Tensor, picture: Tensor | None = None) -> Tensor:
        """Loss of a batch: embeddings (B, C) of both views and grades (B,), NaN = none -> scalar.

        Args:
            picture: (B,) whole number of each picture, see GlobalContrastiveLoss; None = all are different.
        """
        if first.ndim != 2 or first.shape != second.shape or grade.shape != first.shape[:1]:
            raise ValueError(
                f"views are {tuple(first.shape)} and {tuple(second.shape)}, grade {tuple(grade.shape)}; expected "
                "(B, C) twice and (B,)."
            )
        with torch.autocast(first.device.type, enabled=False):
            both = torch.cat([first, second])
            both = functional.normalize(both if both.dtype == torch.float64 else both.float(), dim=1)
            _, classes = torch.unique(grade, return_inverse=True)
            alone = grade.isnan()
            number = torch.arange(len(grade), device=grade.device) if picture is None else picture
            classes[alone] = len(grade) + number[alone]
            every = torch.arange(len(both), device=both.device)
            return supervised_contrast(both, classes.repeat(2), every, self.temperature, tile_mib=self.tile_mib)[0]
