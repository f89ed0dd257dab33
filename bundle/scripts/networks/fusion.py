"""Multi-scale feature fusion: every level gives to one global map and takes from it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .coordinate_attention import CoordinateAttention
from .presets import NetworkPreset


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, height, width), pixel areas aligned (``align_corners=False``)."""
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


class Aggregation(nn.Module):
    """Gather all levels in one global map G by resizing, concatenation, 1x1 convolution and coordinate attention.

    ``G = ReLU(BN(CA(conv1x1([resize(x_1), ..., resize(x_L)]))))`` at the size of level ``level``; LESS-Net (Front.
    Physiol. 16:1644589) as released has ``level = 0`` and 256 channels.

    A 1x1 convolution of a concatenation is a sum over its parts, and it commutes with a bilinear resize (the weights of
    a pixel sum to 1). So each level is convolved by its slice of the kernel before it is enlarged: the same G for an
    eighth of the multiplications in ``published``.

    Args:
        channels: C_i of the levels, from fine to coarse.
        out_channels: channels of G.
        level: index of the level whose size G takes.
        reduction: of the coordinate attention.
        attention: False leaves the coordinate attention out.

    Shape:
        input list of (B, C_i, H_i, W_i), output (B, out_channels, H_level, W_level).
    """

    def __init__(
        self, channels: list[int], out_channels: int, level: int, reduction: int, attention: bool = True
    ) -> None:
        super().__init__()
        self.level = level
        self.channels = channels
        self.project = nn.Conv2d(sum(channels), out_channels, 1, bias=False)
        self.attention = CoordinateAttention(out_channels, reduction) if attention else nn.Identity()
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        """List of (B, C_i, H_i, W_i) -> G (B, out_channels, H_level, W_level)."""
        height, width = features[self.level].shape[2], features[self.level].shape[3]
        kernels = self.project.weight.split(self.channels, dim=1)
        gathered = F.conv2d(features[self.level], kernels[self.level])
        for index, feature in enumerate(features):
            if index < self.level:
                # finer than G: the mean of each cell, because bilinear sampling would skip pixels
                step = 1 << (self.level - index)
                gathered += F.conv2d(F.avg_pool2d(feature, [step, step]), kernels[index])
            elif index > self.level:
                gathered += resize(F.conv2d(feature, kernels[index]), height, width)
        return self.act(self.norm(self.attention(gathered)))


class AdditiveFusion(nn.Module):
    """Give the global map back: ``x_i + conv1x1_i(resize(G))`` for every level.

    A 1x1 convolution and a bilinear resize commute (the resize weights of a pixel sum to 1), so the convolution runs
    at the smaller of the two sizes.

    Args:
        channels: C_i of the levels, from fine to coarse.
        global_channels: channels of G.
        level: index of the level whose size G has.

    Shape:
        input list of (B, C_i, H_i, W_i) and G (B, global_channels, H_level, W_level), output as the list.
    """

    def __init__(self, channels: list[int], global_channels: int, level: int) -> None:
        super().__init__()
        self.level = level
        self.project = nn.ModuleList([nn.Conv2d(global_channels, width, 1) for width in channels])

    def forward(self, features: list[Tensor], global_map: Tensor) -> list[Tensor]:
        """Levels and G -> fused levels of the same shapes."""
        fused: list[Tensor] = []
        for index, project in enumerate(self.project):
            feature = features[index]
            height, width = feature.shape[2], feature.shape[3]
            if index < self.level:
                fused.append(feature + resize(project(global_map), height, width))
            elif index == self.level:
                fused.append(feature + project(global_map))
            else:
                fused.append(feature + project(resize(global_map, height, width)))
        return fused


class NoAggregation(nn.Module):
    """In the place of Aggregation where nothing is fused: the coarsest level, which nobody reads."""

    def forward(self, features: list[Tensor]) -> Tensor:
        """List of (B, C_i, H_i, W_i) -> the last of them."""
        return features[-1]


class NoFusion(nn.Module):
    """In the place of AdditiveFusion: the levels as they are."""

    def forward(self, features: list[Tensor], global_map: Tensor) -> list[Tensor]:
        """Levels and anything -> levels."""
        return features


def fusion_parts(channels: list[int], level: int, preset: NetworkPreset) -> tuple[nn.Module, nn.Module]:
    """What gathers the levels in a global map and what gives it back, as the preset has them."""
    if not preset.fusion:
        return NoAggregation(), NoFusion()
    aggregation = Aggregation(
        channels, preset.aggregation_channels, level, preset.attention_reduction, preset.attention
    )
    return aggregation, AdditiveFusion(channels, preset.aggregation_channels, level)
