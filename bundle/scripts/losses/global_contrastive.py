"""Global contrast: the two views of a picture are drawn together, views of different pictures apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.tiled_contrast import TILE_MIB, supervised_contrast


class GlobalContrastiveLoss(nn.Module):
    """NT-Xent over a batch of pictures, or of slices of volumes (Chen et al. 2020, eq. 1; Hu et al. 2021, eq. 1).

    L = -1/(2B) sum_i log( exp(z_i . z_j(i) / temperature) / sum_{k != i} exp(z_i . z_k / temperature) ), j(i) being the
    other view of i: supervised contrast in which each picture is a class of two. MONAI's ContrastiveLoss gives the same
    number (a test holds it to that), but by way of a (2B, 2B, C) array: 0.5 GB at 512 pictures and C = 128.

    Args:
        temperature: of the similarities, > 0 (0.5 in the released configuration).
        tile_mib: MiB of similarities held at a time.

    Raises:
        ValueError: options out of range; vectors that do not fit each other, or a single picture.
    """

    def __init__(self, temperature: float = 0.5, tile_mib: float = TILE_MIB) -> None:
        super().__init__()
        if temperature <= 0 or tile_mib <= 0:
            raise ValueError(f"temperature is {temperature}, tile_mib is {tile_mib}; both must be above 0.")
        self.temperature = temperature
        self.tile_mib = tile_mib

    def forward(self, first: Tensor, second: Tensor, picture: Tensor | None = None) -> Tensor:
        """Loss of a batch: embeddings (B, C) of the first and the second view of the same pictures -> scalar.

        Args:
            picture: (B,) whole number of each picture; one that is drawn twice is drawn together with itself, not
                apart. None = all are different.
        """
        if first.ndim != 2 or first.shape != second.shape:
            raise ValueError(f"views are {tuple(first.shape)} and {tuple(second.shape)}; expected (B, C) twice.")
        if len(first) < 2:
            raise ValueError(
                f"the batch holds {len(first)} picture; expected at least 2, which are each other's negatives: set "
                "--labeled_batch_size higher."
            )
        with torch.autocast(first.device.type, enabled=False):
            both = torch.cat([first, second])
            both = functional.normalize(both if both.dtype == torch.float64 else both.float(), dim=1)
            every = torch.arange(len(both), device=both.device)
            classes = every % len(first) if picture is None else picture.repeat(2)
            return supervised_contrast(both, classes, every, self.temperature, tile_mib=self.tile_mib)[0]
