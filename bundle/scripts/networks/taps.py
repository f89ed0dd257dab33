"""The places of a segmentation network that others ask for: the map before its head, the coarsest map, the head."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from monai.networks.nets import BasicUNet, UNet
from torch import Tensor, nn

from .less_net import LESSNet

SUPPORTED = "LESSNet, monai.networks.nets.UNet and monai.networks.nets.BasicUNet (2D)"


def _refuse(network: Any) -> TypeError:
    return TypeError(
        f"{type(network).__name__} has no known maps and head; expected {SUPPORTED}: choose one of them as "
        "network_def, or add them to scripts/networks/taps.py."
    )


@singledispatch
def dense_map(network: nn.Module, image: Tensor) -> Tensor:
    """The map that the segmentation head reads, without running the head.

    Shape:
        image (B, C_in, H, W) in 0..1 -> (B, C, h, w), which covers the image and nothing else; h = H / s.

    Raises:
        TypeError: a network of another kind.
    """
    raise _refuse(network)


@singledispatch
def coarsest_map(network: nn.Module, image: Tensor) -> Tensor:
    """The encoder's last map, (B, C_in, H, W) in 0..1 -> (B, C, h, w); nothing of the decoder is run.

    Raises:
        TypeError: a network of another kind.
    """
    raise _refuse(network)


@singledispatch
def tap_channels(network: nn.Module) -> tuple[int, int]:
    """Channels of the dense and of the coarsest map.

    Raises:
        TypeError: a network of another kind, or one that is not 2D.
    """
    raise _refuse(network)


@singledispatch
def segmentation_head(network: nn.Module) -> nn.Module:
    """The part that makes logits of the dense map.

    Raises:
        TypeError: a network of another kind.
    """
    raise _refuse(network)


@segmentation_head.register
def _(network: LESSNet) -> nn.Module:
    return network.head


@segmentation_head.register
def _(network: UNet) -> nn.Module:
    return network.model[2]


@segmentation_head.register
def _(network: BasicUNet) -> nn.Module:
    return network.final_conv


@tap_channels.register
def _(network: LESSNet) -> tuple[int, int]:
    return network.head.in_channels, network.encoder.channels[-1]


@dense_map.register
def _(network: LESSNet, image: Tensor) -> Tensor:
    taps = network.encode(image)
    dense = network.dropout(network.decoder(taps))
    # encode() pads to multiples of 32; what was made up is no part of the picture.
    stride = taps[0].shape[2] * network.finest_stride // dense.shape[2]
    height, width = (-(-side // stride) for side in image.shape[2:])
    return dense[:, :, :height, :width]


@coarsest_map.register
def _(network: LESSNet, image: Tensor) -> Tensor:
    return network.encode(image)[-1]


# MONAI's UNet is Sequential(down, SkipConnection(the level below), up), one inside the other; the last up holds the
# head, and what goes into it is the first level's map beside that of all levels below.
@tap_channels.register
def _(network: UNet) -> tuple[int, int]:
    if network.dimensions != 2:
        raise TypeError(f"UNet has spatial_dims {network.dimensions}; expected {SUPPORTED}: set spatial_dims 2.")
    first, below = network.channels[:2]
    return first + (first if len(network.channels) > 2 else below), network.channels[-1]


@dense_map.register
def _(network: UNet, image: Tensor) -> Tensor:
    down, with_levels_below, _ = network.model
    return with_levels_below(down(image))


@coarsest_map.register
def _(network: UNet, image: Tensor) -> Tensor:
    level, x = network.model, image
    for _ in range(len(network.channels) - 1):
        down, skip, _ = level
        level, x = skip.submodule, down(x)
    return level(x)


@tap_channels.register
def _(network: BasicUNet) -> tuple[int, int]:
    head = network.final_conv
    if not isinstance(head, nn.Conv2d):
        raise TypeError(f"BasicUNet ends in {type(head).__name__}; expected {SUPPORTED}: set spatial_dims 2.")
    return head.in_channels, network.down_4.convs.conv_1.conv.out_channels


@dense_map.register
def _(network: BasicUNet, image: Tensor) -> Tensor:
    maps = _down(network, image)
    x = maps.pop()
    for up in (network.upcat_4, network.upcat_3, network.upcat_2, network.upcat_1):
        x = up(x, maps.pop())
    return x


@coarsest_map.register
def _(network: BasicUNet, image: Tensor) -> Tensor:
    return _down(network, image)[-1]


def _down(network: BasicUNet, image: Tensor) -> list[Tensor]:
    """Maps of BasicUNet's way down, from fine to coarse."""
    maps = [network.conv_0(image)]
    for down in (network.down_1, network.down_2, network.down_3, network.down_4):
        maps.append(down(maps[-1]))
    return maps
