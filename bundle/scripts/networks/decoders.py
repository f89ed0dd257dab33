"""From backbone taps to the map that the head reads: the lite and the published decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .context import ContextBlock
from .fusion import fusion_parts, resize
from .presets import NetworkPreset


def conv_norm_act(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _aggregation_level(reductions: list[int], stride: int) -> int:
    """Index of the tap at ``stride`` input pixels.

    Raises:
        ValueError: the backbone has no such tap.
    """
    if stride not in reductions:
        raise ValueError(f"aggregation_stride {stride} is not among the backbone's strides {reductions}: choose one")
    return reductions.index(stride)


class _AddBlock(nn.Module):
    """``block(resize(conv1x1(lower)) + skip)``: one level of the lite decoder."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.block = nn.Sequential(conv_norm_act(out_channels, out_channels), conv_norm_act(out_channels, out_channels))

    def forward(self, lower: Tensor, skip: Tensor) -> Tensor:
        """(B, C_l, h, w) and (B, C, H, W) -> (B, C, H, W)."""
        return self.block(resize(self.reduce(lower), skip.shape[2], skip.shape[3]) + skip)


class LiteDecoder(nn.Module):
    """Narrow decoder: laterals, context on the coarsest, aggregation and fusion, then add from coarse to fine.

    Level i: ``y_i = block_i(resize(conv1x1_i(y_{i+1})) + f_i)``, ``block`` = two ``conv3x3, batch norm, ReLU``.

    Args:
        channels: C_i of the taps, from fine to coarse. reductions: their strides.
        preset: sizes; ``decoder_widths`` from coarse to fine (a backbone without the stride-2 tap ends at stride 4).

    Shape:
        input list of (B, C_i, H_i, W_i) from fine to coarse, output (B, out_channels, H_0, W_0).
    """

    def __init__(self, channels: list[int], reductions: list[int], preset: NetworkPreset) -> None:
        super().__init__()
        levels = len(channels)
        if len(preset.decoder_widths) < levels:
            raise ValueError(
                f"{preset.backbone} has {levels} taps and decoder_widths only {len(preset.decoder_widths)} numbers "
                f"({preset.decoder_widths}): give one for each tap, from coarse to fine"
            )
        widths = list(preset.decoder_widths[:levels])[::-1]  # from fine to coarse, as the taps
        level = _aggregation_level(reductions, preset.aggregation_stride)
        self.out_channels = widths[0]
        self.lateral = nn.ModuleList([conv_norm_act(c, width, 1) for c, width in zip(channels, widths, strict=True)])
        self.context = ContextBlock(widths[-1], preset.context_layers) if preset.context_layers else nn.Identity()
        self.aggregation, self.fusion = fusion_parts(widths, level, preset)
        steps = range(levels - 2, -1, -1)  # from coarse to fine
        self.up = nn.ModuleList([_AddBlock(widths[index + 1], widths[index]) for index in steps])

    def forward(self, features: list[Tensor]) -> Tensor:
        """Taps from fine to coarse -> (B, out_channels, H_0, W_0)."""
        levels: list[Tensor] = []
        for index, lateral in enumerate(self.lateral):
            levels.append(lateral(features[index]))
        levels[-1] = self.context(levels[-1])
        levels = self.fusion(levels, self.aggregation(levels))
        y = levels[-1]
        for step, up in enumerate(self.up):
            y = up(y, levels[len(levels) - 2 - step])
        return y


class _UpBlock(nn.Module):
    """Double the lower map, append the skip, two ``conv3x3, ReLU``: one level of the published U-Net."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, lower: Tensor, skip: Tensor) -> Tensor:
        """(B, C_l, h, w) and (B, C_s, 2h, 2w) -> (B, out_channels, 2h, 2w)."""
        # align_corners=True as released
        up = F.interpolate(lower, size=(skip.shape[2], skip.shape[3]), mode="bilinear", align_corners=True)
        x = F.relu(self.conv1(torch.cat([up, skip], dim=1)), inplace=True)
        return F.relu(self.conv2(x), inplace=True)


class PublishedDecoder(nn.Module):
    """The decoder of LESS-Net as released: fusion at full width, then a U-Net without norm up to the input size.

    LESS-Net, Front. Physiol. 16:1644589 (2025). Sizes come from the taps, where the release fixes them for 512 px.

    Args:
        channels: C_i of the taps, from fine to coarse. reductions: their strides; the finest is 2.
        preset: sizes; ``decoder_widths`` from coarse to fine: one for each of the L - 1 joins, one at the input size.

    Shape:
        input list of (B, C_i, H_i, W_i) from fine to coarse, output (B, out_channels, 2 H_0, 2 W_0).
    """

    def __init__(self, channels: list[int], reductions: list[int], preset: NetworkPreset) -> None:
        super().__init__()
        if reductions[0] != 2 or len(preset.decoder_widths) != len(channels):
            raise ValueError(
                f"the published decoder needs a tap at stride 2 and one width for each tap, found strides {reductions} "
                f"and decoder_widths {preset.decoder_widths}: choose a MobileViT backbone, or decoder 'lite'"
            )
        level = _aggregation_level(reductions, preset.aggregation_stride)
        self.aggregation, self.fusion = fusion_parts(channels, level, preset)
        ups: list[nn.Module] = []
        lower = channels[-1]
        for skip, width in zip(channels[-2::-1], preset.decoder_widths[:-1], strict=True):
            ups.append(_UpBlock(lower + skip, width))
            lower = width
        self.up = nn.ModuleList(ups)
        self.out_channels = preset.decoder_widths[-1]
        self.last1 = nn.Conv2d(lower, self.out_channels, 3, padding=1)
        self.last2 = nn.Conv2d(self.out_channels, self.out_channels, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Taps from fine to coarse -> (B, out_channels, 2 H_0, 2 W_0)."""
        levels = self.fusion(features, self.aggregation(features))
        y = levels[-1]
        for step, up in enumerate(self.up):
            y = up(y, levels[len(levels) - 2 - step])
        y = F.interpolate(y, size=(y.shape[2] * 2, y.shape[3] * 2), mode="bilinear", align_corners=True)
        y = F.relu(self.last1(y), inplace=True)
        return F.relu(self.last2(y), inplace=True)
