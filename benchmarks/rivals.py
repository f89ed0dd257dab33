"""Networks of other libraries as the bundle's loop wants them: pixels in 0..1 in, logits of the same size out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.networks import CheckpointError, UNetPlusPlus  # noqa: E402
from scripts.networks.encoders import TimmEncoder  # noqa: E402
from scripts.networks.normalization import InputNormalization  # noqa: E402
from scripts.networks.weights import start_encoder  # noqa: E402

#: of the pictures that all encoders here were or would be pretrained on; LESSNet has the same from random numbers
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Rival(nn.Module):
    """A network with the input normalisation in it, and a report of what its encoder started from.

    Args:
        network: (B, 3, H, W), normalised, to logits (B, C, H, W).
        encoder_weights: "none" = random numbers, "imagenet" = the library's own, which the maker has fetched or failed.

    Shape:
        input (B, 3, H, W) in 0..1, output (B, C, H, W); H and W as the network takes them, multiples of 32 at most.

    Raises:
        CheckpointError: other encoder weights.
    """

    def __init__(self, network: nn.Module, encoder_weights: str = "none") -> None:
        super().__init__()
        kind = type(network).__name__
        if encoder_weights not in ("none", "imagenet"):
            raise CheckpointError(
                f"encoder_weights is {encoder_weights!r} and {kind} takes 'none' (random numbers) or 'imagenet' (its "
                "library's own weights): give one of them"
            )
        self.network = network
        self.normalize = InputNormalization(IMAGENET_MEAN, IMAGENET_STD)
        used = "random" if encoder_weights == "none" else f"{type(network).__module__.partition('.')[0]} imagenet"
        message = f"the encoder of {kind} starts from {used}, as asked for (encoder_weights {encoder_weights})"
        self.encoder_weights_report: dict[str, Any] = {
            "requested": encoder_weights, "used": used, "substituted": False, "message": message,
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.network(self.normalize(x))


class RivalInTwo(Rival):
    """A rival that can be cut between encoder and decoder, which weak_to_strong needs.

    Its maps are those that the decoder reads, from fine to coarse: the encoder's own, without the picture that
    segmentation_models_pytorch hands through as the first of them.
    """

    @property
    def encoder(self) -> nn.Module:
        """The part that may be pretrained, for its own learning rate."""
        return self.network.encoder

    def encode(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in 0..1 -> maps (B, C_i, H_i, W_i)."""
        maps = list(self.network.encoder(self.normalize(x)))
        return maps if self._is_flexible else maps[1:]

    def decode(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps of ``encode``, perturbed or not, -> logits (B, C, H, W) of the picture's ``size``."""
        if self._is_flexible:
            decoded = self.network.decoder(list(features), self.network.skip_connect)
        else:
            # The decoder asks the picture for nothing but its size.
            decoded = self.network.decoder([features[0].new_empty(1, 1, *size), *features])
        return self.network.segmentation_head(decoded)

    def forward(self, x: Tensor) -> Tensor:
        """See Rival."""
        return self.decode(self.encode(x), (x.shape[2], x.shape[3]))

    @property
    def _is_flexible(self) -> bool:
        return isinstance(self.network, FlexibleUNet)


def flexible_unet(backbone: str, encoder_weights: str = "none", out_channels: int = 2) -> Rival:
    """MONAI's FlexibleUNet with its own decoder."""
    network = FlexibleUNet(3, out_channels, backbone, pretrained=encoder_weights == "imagenet")
    return RivalInTwo(network, encoder_weights)


def smp_network(architecture: str, encoder: str, encoder_weights: str = "none", out_channels: int = 2) -> Rival:
    """A network of segmentation_models_pytorch, such as Unet or UnetPlusPlus.

    Raises:
        ImportError: the package is not installed.
    """
    weights = "imagenet" if encoder_weights == "imagenet" else None
    return RivalInTwo(_smp(architecture, encoder, weights, out_channels), encoder_weights)


def smp_on_backbone(architecture: str, backbone: str, encoder_weights: str = "auto", out_channels: int = 2) -> Rival:
    """A decoder of segmentation_models_pytorch on LESSNet's encoder: the same padding, weights and normalisation.

    Args:
        backbone: timm name. encoder_weights: what :func:`scripts.networks.weights.start_encoder` takes, such as a file.

    Raises:
        ImportError: the package is not installed.
        CheckpointError: weights that cannot be had or do not fit.
    """
    network = _smp(architecture, f"tu-{backbone}", None, out_channels)
    encoder = TimmEncoder(backbone)
    start = start_encoder(encoder, backbone, encoder_weights)
    network.encoder.model = encoder.body
    rival = RivalInTwo(network)
    rival.normalize = InputNormalization(start.mean, start.std)
    rival.encoder_weights_report = start.report
    return rival


def _smp(architecture: str, encoder: str, weights: str | None, out_channels: int) -> nn.Module:
    """The library's network."""
    try:
        import segmentation_models_pytorch as models
    except ImportError as error:
        raise ImportError(
            f"{architecture} with {encoder} is of segmentation_models_pytorch, which is not installed: install the "
            "optional extra 'rivals' of pyproject.toml"
        ) from error
    return getattr(models, architecture)(encoder, encoder_weights=weights, in_channels=3, classes=out_channels)


def basic_unet_plus_plus(features: Sequence[int], encoder_weights: str = "none", out_channels: int = 2) -> Rival:
    """MONAI's BasicUNetPlusPlus with one answer, as in unet_plus_plus.json; it has no encoder of its own.

    Raises:
        CheckpointError: encoder weights are asked for.
    """
    if encoder_weights == "imagenet":
        raise CheckpointError("encoder_weights is 'imagenet' and there are none for BasicUNetPlusPlus: give 'none'")
    network = UNetPlusPlus(spatial_dims=2, in_channels=3, out_channels=out_channels, features=tuple(features))
    return Rival(network, encoder_weights)
