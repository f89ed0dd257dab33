"""Global context on the coarsest level by a small MobileViT-style block."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class ContextBlock(nn.Module):
    """Add what a few transformer layers see over the whole map; an identity when it is made.

    ``y = x + gamma * conv1x1(LN(transformer(dwconv3x3(x))))`` with ``gamma = 0`` at the start, so that pretrained
    features pass unchanged until training opens the branch. Local convolution, global attention, projection back: the
    block of MobileViT (Mehta, Rastegari, ICLR 2022) with one pixel of the coarsest map for a patch. Positions are
    known by the convolution only, so any map size is taken.

    Args:
        channels: C of the map, divisible by ``heads``.
        layers: transformer layers.
        heads: attention heads.

    Shape:
        input and output (B, C, H, W).
    """

    def __init__(self, channels: int, layers: int, heads: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"the context block needs channels divisible by {heads}, found {channels}: "
                f"set decoder_widths[0] to {channels + heads - channels % heads}, or context_layers to 0"
            )
        self.local = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels)
        )
        self.layers = nn.Sequential(
            *[Block(channels, heads, mlp_ratio=2.0, qkv_bias=True, act_layer=nn.SiLU) for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        height, width = x.shape[2], x.shape[3]
        tokens = self.local(x).flatten(2).transpose(1, 2)  # (B, H * W, C)
        tokens = self.norm(self.layers(tokens))
        context = tokens.transpose(1, 2).reshape(x.shape[0], x.shape[1], height, width)
        return x + self.gamma * self.project(context)
