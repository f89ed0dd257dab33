"""LESS-Net: a light encoder, one global map shared by all levels, and a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .decoders import LiteDecoder, PublishedDecoder
from .encoders import TimmEncoder
from .fusion import resize
from .normalization import InputNormalization
from .presets import NetworkPreset, get_preset
from .weights import start_encoder


class LESSNet(nn.Module):
    """Lesion segmentation from few masks: RGB in 0..1 in, logits of the same size out.

    LESS-Net, Front. Physiol. 16:1644589 (2025): MobileViT taps, multi-scale aggregation with coordinate attention,
    additive fusion, U-Net decoder (preset ``published``); ``lite`` has the same ideas in 2.1 M parameters.

    ``forward(x) = decode(encode(x), (H, W))``: training may perturb the taps in between.

    Args:
        preset: ``lite``, ``lite_mobilevit_xxs``, ``lite_mobilevit_xs`` or ``published``.
        backbone: timm name that replaces the preset's.
        encoder_weights: ``auto``, ``imagenet``, ``none`` or a path, see :func:`~.weights.start_encoder`.
        out_channels: classes, background included.
        in_channels: 3 for RGB.
        dropout: chance of a channel of the last map to be dropped in training, 0..1.
        channels_last: keep maps in (B, H, W, C) order in memory, faster on CPUs and with AMP; the result is the same.
        input_mean: of each channel for input in 0..1; ``auto`` = what belongs to the weights.
        input_std: as input_mean.
        overrides: fields of :class:`~.presets.NetworkPreset`, for example ``context_layers=0``.

    Attributes:
        encoder: the backbone, for parameter groups.
        encoder_weights_report: ``requested``, ``used``, ``substituted``, ``message``.

    Shape:
        input (B, in_channels, H, W) with H, W >= 64, output (B, out_channels, H, W).

    Raises:
        ValueError: unknown preset or backbone, or values out of range.
        TypeError: unknown override.
        CheckpointError: encoder weights that cannot be had or do not fit.
    """

    #: names that ``overrides`` takes
    option_names = tuple(field.name for field in fields(NetworkPreset))

    def __init__(
        self,
        preset: str = "lite",
        backbone: str | None = None,
        encoder_weights: str = "auto",
        out_channels: int = 2,
        in_channels: int = 3,
        dropout: float = 0.0,
        channels_last: bool = True,
        input_mean: str | Sequence[float] = "auto",
        input_std: str | Sequence[float] = "auto",
        **overrides: Any,
    ) -> None:
        super().__init__()
        design = get_preset(preset, backbone=backbone, **overrides)
        self.encoder = TimmEncoder(design.backbone, in_channels, design.transformer_dropout)
        decoder = PublishedDecoder if design.decoder == "published" else LiteDecoder
        self.decoder = decoder(self.encoder.channels, self.encoder.reductions, design)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(self.decoder.out_channels, out_channels, 1)
        start = start_encoder(self.encoder, design.backbone, encoder_weights, in_channels)
        self.normalize = InputNormalization(
            _given_or_auto("input_mean", input_mean, start.mean), _given_or_auto("input_std", input_std, start.std)
        )
        self.encoder_weights_report = start.report
        self.min_side = 64  # pixels; below it the coarsest map is a single pixel
        self.multiple = 32  # pixels; input sides are padded to a multiple of it
        self.finest_stride = self.encoder.reductions[0]
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) in 0..1 -> logits (B, out_channels, H, W)."""
        return self.decode(self.encode(x), (x.shape[2], x.shape[3]))

    @torch.jit.export
    def encode(self, x: Tensor) -> list[Tensor]:
        """The backbone's taps, before fusion.

        Shape:
            input (B, in_channels, H, W) in 0..1, output from fine to coarse (B, C_i, H' / s_i, W' / s_i), where H', W'
            are H, W rounded up to multiples of 32 (the last row and column are repeated).

        Raises:
            ValueError: a side below 64 pixels.
        """
        height, width = x.shape[2], x.shape[3]
        if height < self.min_side or width < self.min_side:
            raise ValueError(
                f"the input is {height}x{width} pixels and the network needs at least 64x64: enlarge or pad the image"
            )
        x = self.normalize(x)
        down = (self.multiple - height % self.multiple) % self.multiple
        right = (self.multiple - width % self.multiple) % self.multiple
        if down > 0 or right > 0:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.encoder(x)

    @torch.jit.export
    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits from the taps of :meth:`encode`.

        Args:
            features: taps from fine to coarse, perturbed or not.
            size: (H, W) of the input that :meth:`encode` had.

        Shape:
            output (B, out_channels, H, W).
        """
        logits = self.head(self.dropout(self.decoder(features)))
        padded_height = features[0].shape[2] * self.finest_stride
        padded_width = features[0].shape[3] * self.finest_stride
        if logits.shape[2] != padded_height or logits.shape[3] != padded_width:
            logits = resize(logits, padded_height, padded_width)
        return logits[:, :, : size[0], : size[1]]

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        """Image embedding: the mean of the coarsest tap, (B, in_channels, H, W) in 0..1 -> (B, C)."""
        return self.encode(x)[-1].mean(dim=(2, 3))


def _given_or_auto(name: str, value: str | Sequence[float], auto: Sequence[float]) -> Sequence[float]:
    """The numbers given, or those that belong to the weights for ``"auto"``.

    Raises:
        ValueError: another word, or not one number for each channel.
    """
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"{name} {value!r} is not known: give 'auto' or one number for each input channel")
        return auto
    if len(value) != len(auto):
        raise ValueError(f"{name} has {len(value)} numbers and the input {len(auto)} channels: give one for each")
    return [float(number) for number in value]
