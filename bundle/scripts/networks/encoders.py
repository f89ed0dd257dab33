"""Any timm backbone as a pyramid of feature maps."""

from __future__ import annotations

import itertools

import timm
import torch
from timm.layers import Attention, Mlp
from torch import Tensor, nn

from .exportable import make_exportable
from .presets import nearest

# Backbones whose weights at hand were trained with TensorFlow's SAME padding (pad right and bottom at stride 2).
# Padding is part of the architecture and not of a state dict, so it is fixed by name and not by the weights used.
SAME_PADDED_BACKBONES = ("mobilenetv2_100",)

_CURE = (
    "at least two maps (B, C, H, W) whose strides double, up to 32, are needed for any input size: choose a "
    "convolutional or hybrid backbone, for example mobilenetv2_100 or mobilevit_xs"
)


class TimmEncoder(nn.Module):
    """The taps of a timm backbone, from fine to coarse, one for each stride.

    A last 1x1 expansion that only feeds a classifier (``final_conv`` of MobileViT) is dropped: the tap is its input.

    Args:
        backbone: timm name.
        in_channels: channels of the input.
        transformer_dropout: dropout after self-attention and after the feed-forward layer; timm builds them with 0.

    Attributes:
        channels: C_i of the taps. reductions: their strides, for example [2, 4, 8, 16, 32].

    Shape:
        input (B, in_channels, H, W) with H and W multiples of ``reductions[-1]``,
        output list of (B, C_i, H / reductions[i], W / reductions[i]).

    Raises:
        ValueError: timm does not know the name, or the backbone gives no pyramid of maps.
    """

    def __init__(self, backbone: str, in_channels: int = 3, transformer_dropout: float = 0.0) -> None:
        super().__init__()
        if backbone.split(".")[0] not in timm.list_models():
            raise ValueError(f"timm has no backbone {backbone!r}: {nearest(backbone, timm.list_models())}")
        options = {"pad_type": "same"} if backbone in SAME_PADDED_BACKBONES else {}
        try:
            body = timm.create_model(backbone, pretrained=False, features_only=True, in_chans=in_channels, **options)
        except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
            raise ValueError(f"backbone {backbone!r} gives no feature maps (timm features_only): {error}") from error
        if isinstance(body, nn.ModuleDict) and "final_conv" in body:
            body["final_conv"] = nn.Identity()
        for module in body.modules():
            if isinstance(module, Attention):
                module.proj_drop.p = transformer_dropout
            elif isinstance(module, Mlp):
                module.drop2.p = transformer_dropout
        make_exportable(body)
        self.body = body
        self.channels, self.reductions = self._measure(backbone, in_channels)

    @torch.no_grad()
    def _measure(self, backbone: str, in_channels: int) -> tuple[list[int], list[int]]:
        """Channels and strides of the taps, read off a dry run instead of timm's table (``final_conv`` is gone)."""
        training, side = self.body.training, 128
        self.body.eval()
        try:
            taps = self.body(torch.zeros(1, in_channels, side, side))
        except (RuntimeError, AssertionError) as error:  # bound to one input size
            raise ValueError(f"backbone {backbone!r} does not take a {side}x{side} input ({error}): {_CURE}") from error
        self.body.train(training)
        shapes = [tuple(tap.shape) for tap in taps]
        maps = [shape for shape in shapes if len(shape) == 4 and shape[2] == shape[3]]
        channels, reductions = [shape[1] for shape in maps], [side // shape[2] for shape in maps]
        doubling = all(fine * 2 == coarse for fine, coarse in itertools.pairwise(reductions))
        if len(maps) != len(shapes) or len(maps) < 2 or not doubling or reductions[-1] > 32:
            raise ValueError(f"backbone {backbone!r} gives maps {shapes} for a {side}x{side} input: {_CURE}")
        return channels, reductions

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) -> taps from fine to coarse."""
        return self.body(x)
