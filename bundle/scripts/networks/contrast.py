"""A segmentation network that gives embeddings: for pretraining, with a head that is dropped afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from .taps import coarsest_map, dense_map, segmentation_head, tap_channels

Level = Literal["pixels", "image"]


class ContrastNetwork(nn.Module):
    """A segmentation network with a projection head of two linear layers (Hu et al., MICCAI 2021, fig. 1).

    The head is no part of the segmentation network: ``network.state_dict()`` is what a training goes on with.

    Args:
        network: LESSNet, or MONAI's UNet or BasicUNet in 2D; not copied.
        level: "pixels": an embedding for each pixel of the map that the segmentation head reads, by 1x1 convolutions.
            "image": one for the picture, from the mean of the encoder's last map; the decoder is neither run nor moved.
        channels: of the two layers; the second is the embedding's.

    Attributes:
        network: the segmentation network.
        projection: the head.
        encoder: the network's, for parameter groups; None where it has none of that name.
        encoder_weights_report: the network's.

    Shape:
        input (B, C_in, H, W) in 0..1, output (B, channels[1], h, w) for pixels, (B, channels[1]) for the image.

    Raises:
        TypeError: a network of another kind.
        ValueError: another level, or not two numbers of channels.
    """

    def __init__(self, network: nn.Module, level: Level = "pixels", channels: Sequence[int] = (256, 128)) -> None:
        super().__init__()
        if level not in ("pixels", "image"):
            raise ValueError(f"level is {level!r}; expected 'pixels' or 'image'.")
        if len(channels) != 2 or min(channels) < 1:
            raise ValueError(f"projection channels are {list(channels)}; expected two numbers above 0, as in 256, 128.")
        dense, coarsest = tap_channels(network)
        self.network = network
        self.level = level
        hidden, embedding = channels
        if level == "pixels":
            self.projection = nn.Sequential(nn.Conv2d(dense, hidden, 1), nn.Conv2d(hidden, embedding, 1))
        else:
            self.projection = nn.Sequential(nn.Linear(coarsest, hidden), nn.Linear(hidden, embedding))
        self.projection.to(next(network.parameters()).device)

    @property
    def encoder(self) -> nn.Module | None:
        return getattr(self.network, "encoder", None)

    @property
    def encoder_weights_report(self) -> dict[str, Any]:
        return getattr(self.network, "encoder_weights_report", {})

    def forward(self, image: Tensor) -> Tensor:
        """Embeddings, of any length."""
        if self.level == "pixels":
            return self.projection(dense_map(self.network, image))
        return self.projection(coarsest_map(self.network, image).mean(dim=(2, 3)))


@segmentation_head.register
def _(network: ContrastNetwork) -> nn.Module:
    return segmentation_head(network.network)
