"""The maps that contrast reads are those of an ordinary forward pass; the head stays outside of the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import AttentionUnet, BasicUNet, UNet
from torch import Tensor, nn

from scripts.networks import ContrastNetwork, LESSNet
from scripts.networks.taps import coarsest_map, dense_map, tap_channels

FEATURES = (8, 8, 12, 16, 24, 8)


def unet(**changes: Any) -> UNet:
    options: dict[str, Any] = {"channels": (8, 12, 16), "strides": (1, 2), "num_res_units": 0} | changes
    return UNet(spatial_dims=2, in_channels=3, out_channels=3, **options)


NETWORKS = {
    "unet": (unet, lambda net: net.model[2], lambda net: net.model[1].submodule[1].submodule, (32, 48)),
    "unet_residual": (
        lambda: unet(num_res_units=2, strides=(2, 2)),
        lambda net: net.model[2],
        lambda net: net.model[1].submodule[1].submodule,
        (32, 48),
    ),
    "unet_two_levels": (
        lambda: unet(channels=(8, 12), strides=(2,)), lambda net: net.model[2], lambda net: net.model[1].submodule,
        (32, 48),
    ),
    "basic_unet": (
        lambda: BasicUNet(2, 3, 3, FEATURES), lambda net: net.final_conv, lambda net: net.down_4, (32, 48),
    ),
    # no multiples of 32: the network pads inside, and what it made up must not come out
    "less_net": (
        lambda: LESSNet(encoder_weights="none"), lambda net: net.head, lambda net: net.encoder, (72, 90),
    ),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, nn.Module, Tensor]:
    make, head, last, size = NETWORKS[request.param]
    torch.manual_seed(0)
    network = make().eval()
    return network, head(network), last(network), torch.rand(2, 3, *size)


@torch.no_grad()
def test_maps_are_those_of_a_forward_pass(case: tuple[nn.Module, nn.Module, nn.Module, Tensor]) -> None:
    network, head, last, image = case
    seen: dict[str, Any] = {}
    hooks = [
        head.register_forward_pre_hook(lambda module, inputs: seen.update(dense=inputs[0])),
        last.register_forward_hook(lambda module, inputs, output: seen.update(coarsest=output)),
    ]
    logits = network(image)
    for hook in hooks:
        hook.remove()
    coarsest = seen["coarsest"][-1] if isinstance(seen["coarsest"], list) else seen["coarsest"]
    assert torch.equal(coarsest_map(network, image), coarsest)
    dense = dense_map(network, image)
    height, width = dense.shape[2:]
    assert torch.equal(dense, seen["dense"][:, :, :height, :width])
    assert tap_channels(network) == (dense.shape[1], coarsest.shape[1])
    stride = round(logits.shape[2] / height)
    assert (height, width) == tuple(-(-side // stride) for side in image.shape[2:]), "all of the image, nothing more"


def test_the_published_decoder_has_a_map_at_full_size() -> None:
    network = LESSNet("published", encoder_weights="none").eval()
    with torch.no_grad():
        assert dense_map(network, torch.rand(1, 3, 64, 70)).shape[2:] == (64, 70)


def test_the_head_is_no_part_of_the_network(case: tuple[nn.Module, nn.Module, nn.Module, Tensor]) -> None:
    network, _, _, image = case
    before = list(network.state_dict())
    pixels, picture = ContrastNetwork(network, "pixels", (6, 4)), ContrastNetwork(network, "image", (6, 5))
    assert list(network.state_dict()) == before and pixels.network is network
    dense = dense_map(network, image)
    assert pixels(image).shape == (2, 4, *dense.shape[2:])
    assert picture(image).shape == (2, 5)
    assert pixels.encoder is getattr(network, "encoder", None)


def test_the_head_is_linear() -> None:
    """Two layers and no activation: h(x) + h(y) = h(x + y) + h(0)."""
    torch.manual_seed(0)
    head = ContrastNetwork(unet(), "pixels").projection
    x, y = torch.randn(2, 16, 5, 5), torch.randn(2, 16, 5, 5)
    assert torch.allclose(head(x) + head(y), head(x + y) + head(torch.zeros_like(x)), atol=1e-5)
    assert [layer.out_channels for layer in head] == [256, 128]


@pytest.mark.parametrize("name", ["unet", "basic_unet", "less_net"])
def test_the_image_level_trains_the_encoder_alone(name: str) -> None:
    network = NETWORKS[name][0]()
    contrast = ContrastNetwork(network, "image", (6, 5))
    contrast(torch.rand(2, 3, 64, 64)).square().sum().backward()
    moved = {key for key, parameter in network.named_parameters() if parameter.grad is not None}
    decoder = {
        "unet": ("model.2.", "model.1.submodule.2."),
        "basic_unet": ("upcat", "final_conv"),
        "less_net": ("decoder", "head"),
    }
    expected = {key for key, _ in network.named_parameters() if not key.startswith(decoder[name])}
    assert moved == expected


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (AttentionUnet(2, 3, 2, (4, 8), (2,)), "AttentionUnet has no known maps.*LESSNet, monai.*UNet and .*BasicUNet"),
        (UNet(3, 1, 2, (4, 8), (2,)), "UNet has spatial_dims 3.*spatial_dims 2"),
        (BasicUNet(3, 1, 2, (4, 4, 4, 4, 4, 4)), "BasicUNet ends in Conv3d.*spatial_dims 2"),
    ],
    ids=["another", "unet_3d", "basic_unet_3d"],
)
def test_other_networks_are_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ContrastNetwork(network)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": "pixel"}, "level is 'pixel'"), ({"channels": (8,)}, r"channels are \[8\]; expected two numbers")],
)
def test_other_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContrastNetwork(unet(), **options)
