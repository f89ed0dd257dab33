"""MONAI's U-Net++ with one answer instead of a list of them."""

from __future__ import annotations

from typing import Any

import torch
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
        # MONAI's own, written out: TorchScript knows no super().
        x_0_0 = self.conv_0_0(x)
        x_1_0 = self.conv_1_0(x_0_0)
        x_0_1 = self.upcat_0_1(x_1_0, x_0_0)
        x_2_0 = self.conv_2_0(x_1_0)
        x_1_1 = self.upcat_1_1(x_2_0, x_1_0)
        x_0_2 = self.upcat_0_2(x_1_1, torch.cat([x_0_0, x_0_1], dim=1))
        x_3_0 = self.conv_3_0(x_2_0)
        x_2_1 = self.upcat_2_1(x_3_0, x_2_0)
        x_1_2 = self.upcat_1_2(x_2_1, torch.cat([x_1_0, x_1_1], dim=1))
        x_0_3 = self.upcat_0_3(x_1_2, torch.cat([x_0_0, x_0_1, x_0_2], dim=1))
        x_4_0 = self.conv_4_0(x_3_0)
        x_3_1 = self.upcat_3_1(x_4_0, x_3_0)
        x_2_2 = self.upcat_2_2(x_3_1, torch.cat([x_2_0, x_2_1], dim=1))
        x_1_3 = self.upcat_1_3(x_2_2, torch.cat([x_1_0, x_1_1, x_1_2], dim=1))
        x_0_4 = self.upcat_0_4(x_1_3, torch.cat([x_0_0, x_0_1, x_0_2, x_0_3], dim=1))
        return self.final_conv_0_4(x_0_4)
