"""How severe a picture is: by its distance from healthy, or by its grade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .encoders import TimmEncoder
from .normalization import InputNormalization
from .weights import start_encoder


class PictureEncoder(nn.Module):
    """A picture as one vector: the mean of the encoder's last map.

    Its parts are called as LESSNet's are, so that the checkpoint of one starts the encoder of the other.

    Args:
        backbone: timm name.
        encoder_weights: ``auto``, ``imagenet``, ``none`` or a path, see :func:`~.weights.start_encoder`.
        in_channels: 3 for RGB.

    Attributes:
        encoder: the backbone, for parameter groups. length: of the vector.
        encoder_weights_report: ``requested``, ``used``, ``substituted``, ``message``.
    """

    def __init__(self, backbone: str = "mobilenetv2_100", encoder_weights: str = "auto", in_channels: int = 3) -> None:
        super().__init__()
        self.encoder = TimmEncoder(backbone, in_channels)
        start = start_encoder(self.encoder, backbone, encoder_weights, in_channels)
        self.normalize = InputNormalization(start.mean, start.std)
        self.encoder_weights_report = start.report
        self.length = self.encoder.channels[-1]

    def maps(self, image: Tensor) -> list[Tensor]:
        """(B, C, H, W) in 0..1 -> the encoder's taps from fine to coarse, (B, C_i, h_i, w_i)."""
        return self.encoder(self.normalize(image).contiguous(memory_format=torch.channels_last))

    def vector(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> (B, length)."""
        return self.maps(image)[-1].mean(dim=(2, 3))


class SeverityEmbedder(PictureEncoder):
    """Embeddings in which the distance from healthy is the severity (SEMISE, Tran et al., arXiv 2501.03848).

    Args:
        channels: of the two layers of the projection; the second is the embedding's.
        momentum: share of the running mean of healthy embeddings that a batch leaves, 0..1.
        backbone, encoder_weights, in_channels: see PictureEncoder.

    Attributes:
        healthy: (C,) running mean of the unit vectors of healthy pictures; 0 until the first is seen. A buffer: it goes
            with the weights.
    """

    def __init__(
        self,
        backbone: str = "mobilenetv2_100",
        encoder_weights: str = "auto",
        in_channels: int = 3,
        channels: Sequence[int] = (256, 128),
        momentum: float = 0.9,
    ) -> None:
        super().__init__(backbone, encoder_weights, in_channels)
        if len(channels) != 2 or min(channels) < 1:
            raise ValueError(f"projection channels are {list(channels)}; expected two numbers above 0, as in 256, 128.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; expected 0 up to, not including, 1.")
        hidden, embedding = channels
        self.projection = nn.Sequential(nn.Linear(self.length, hidden), nn.ReLU(), nn.Linear(hidden, embedding))
        self.momentum = momentum
        self.register_buffer("healthy", torch.zeros(embedding))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> embeddings (B, channels[1]), of any length."""
        return self.projection(self.vector(image))

    @torch.no_grad()
    def remember_healthy(self, embedding: Tensor) -> None:
        """Move the running mean towards embeddings (B, C) of healthy pictures; none leave it as it is."""
        if not len(embedding):
            return
        mean = functional.normalize(embedding.detach().float(), dim=1).mean(dim=0)
        first = not self.healthy.any()
        self.healthy.copy_(mean if first else self.momentum * self.healthy + (1.0 - self.momentum) * mean)

    def assess(self, image: Tensor) -> Tensor:
        """Severity of pictures (B, C, H, W): the cosine distance from healthy, 0..2, as (B, 1, 1).

        Raises:
            RuntimeError: no healthy picture was ever seen.
        """
        if not self.healthy.any():
            raise RuntimeError(
                "the checkpoint knows no healthy picture, from which severity is measured: give the model.pt of a "
                "pretrain_severity.json run whose data have pictures of severity 0"
            )
        return healthy_distance(self(image), self.healthy)[:, None, None]


def healthy_distance(embedding: Tensor, reference: Tensor) -> Tensor:
    """Severity score of embeddings (B, C): the cosine distance from healthy (C,), 0..2, as (B,)."""
    embedding = embedding if embedding.dtype == torch.float64 else embedding.float()
    return 1.0 - functional.cosine_similarity(embedding, reference.to(embedding.dtype)[None], dim=1)


class SeverityClassifier(PictureEncoder):
    """Grades of pictures, 0 = healthy.

    Args:
        grades: how many there are.
        dropout: chance of an entry of the vector to be dropped in training, 0..1.
        freeze_encoder: the encoder stays as it was given, its batch statistics too: what is trained is a linear probe.
        backbone, encoder_weights, in_channels: see PictureEncoder.

    Attributes:
        head: the classifier.
    """

    def __init__(
        self,
        grades: int,
        backbone: str = "mobilenetv2_100",
        encoder_weights: str = "auto",
        in_channels: int = 3,
        dropout: float = 0.2,
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__(backbone, encoder_weights, in_channels)
        if grades < 2:
            raise ValueError(f"grades is {grades}; expected at least 2.")
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.length, grades))
        self.freeze_encoder = freeze_encoder
        if freeze_encoder:
            self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> SeverityClassifier:
        """As usual, but that a frozen encoder stays in evaluation."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in 0..1 -> logits (B, grades)."""
        return self.head(self.vector(image))

    def assess(self, image: Tensor) -> Tensor:
        """Expected grade and probability of each grade, of pictures (B, C, H, W), as (B, 1, 1 + grades)."""
        probability = self(image).float().softmax(dim=1)
        places = torch.arange(probability.shape[1], device=probability.device, dtype=probability.dtype)
        return torch.cat([(probability * places).sum(dim=1, keepdim=True), probability], dim=1)[:, None]
