"""MONAI's U-Net++ with one answer instead of a list of them."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import BasicUNetPlusPlus
from torch import Tensor, nn


class UNetPlusPlus(BasicUNetPlusPlus):
    """U-Net++ (Zhou et al. 2018), the student of knowledge mining as published (Mao et al. 2025).

    MONAI's network without deep supervision: its three other heads are computed for nobody, and are left out.

    Shape:
        (B, C_in, H, W) in 0..1 -> logits (B, C_out, H, W); H and W multiples of 16.
    """

    def __init__(self, **options: Any) -> None:
        """Prepare the network; ``options`` are those of BasicUNetPlusPlus but deep_supervision."""
        super().__init__(**options, deep_supervision=False)
        for name in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
            setattr(self, name, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return super().forward(x)[0]
