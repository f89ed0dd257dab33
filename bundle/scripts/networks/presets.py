"""The registry of LESS-Net presets: every size of the network in one table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class NetworkPreset:
    """The design choices of one LESS-Net; an override replaces a single field.

    Attributes:
        backbone: timm name of an encoder that supports ``features_only``.
        decoder: ``"lite"`` (additive, batch norm, narrow) or ``"published"`` (U-Net, concatenation, no norm).
        decoder_widths: channels of the decoder, from coarse to fine, one a level.
        aggregation_channels: channels of the global map G.
        aggregation_stride: input pixels for each pixel of G, a power of two.
        attention_reduction: hidden channels of coordinate attention = aggregation_channels / attention_reduction.
        context_layers: transformer layers on the coarsest level of the lite decoder; 0 = no context block.
        transformer_dropout: dropout after self-attention and after the feed-forward layer inside the backbone.
        fusion: whether there is a global map at all; without it each level goes to the decoder as it is.
        attention: whether the global map passes coordinate attention.
    """

    backbone: str
    decoder: str
    decoder_widths: tuple[int, ...]
    aggregation_channels: int
    aggregation_stride: int
    attention_reduction: int
    context_layers: int = 0
    transformer_dropout: float = 0.0
    fusion: bool = True
    attention: bool = True


# Coarse to fine: strides 32, 16, 8, 4, 2. Narrow where the maps are large: a 3x3 convolution at stride 2 costs as much
# as one of four times its width at stride 8.
_LITE_WIDTHS = (96, 64, 48, 40, 24)

_LITE = NetworkPreset(
    backbone="mobilenetv2_100",
    decoder="lite",
    decoder_widths=_LITE_WIDTHS,
    aggregation_channels=64,
    aggregation_stride=8,
    attention_reduction=4,
    context_layers=1,
)

PRESETS: dict[str, NetworkPreset] = {
    "lite": _LITE,
    # MobileViT brings its own transformer layers: no context block.
    "lite_mobilevit_xxs": replace(_LITE, backbone="mobilevit_xxs", context_layers=0),
    "lite_mobilevit_xs": replace(_LITE, backbone="mobilevit_xs", context_layers=0),
    "published": NetworkPreset(
        backbone="mobilevit_s",
        decoder="published",
        decoder_widths=(512, 256, 128, 64, 64),
        aggregation_channels=256,
        aggregation_stride=2,
        attention_reduction=16,
        transformer_dropout=0.1,
    ),
}


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause of an error message that offers the names nearest to a mistyped one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {', '.join(close)}?" if close else f"known names: {', '.join(names[:40])}"


def get_preset(name: str, **overrides: Any) -> NetworkPreset:
    """A preset with single fields replaced.

    Args:
        name: key of :data:`PRESETS`.
        overrides: fields of :class:`NetworkPreset`; ``None`` keeps the preset's value.

    Raises:
        ValueError: unknown preset name or a value out of its range.
        TypeError: unknown override name.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: {nearest(str(name), PRESETS)}")
    known = {field.name for field in fields(NetworkPreset)}
    for key in overrides:
        if key not in known:
            raise TypeError(f"unknown network option {key!r}: {nearest(key, known)}")
    changed = {key: value for key, value in overrides.items() if value is not None}
    if "decoder_widths" in changed:
        changed["decoder_widths"] = tuple(int(width) for width in changed["decoder_widths"])
    preset = replace(PRESETS[name], **changed)
    _check(preset)
    return preset


def _check(preset: NetworkPreset) -> None:
    """Refuse values that would fail later with a message that names something else."""
    if preset.decoder not in ("lite", "published"):
        raise ValueError(f"decoder {preset.decoder!r} is unknown: choose 'lite' or 'published'")
    if not preset.decoder_widths or min(preset.decoder_widths) < 1:
        raise ValueError(f"decoder_widths must be positive channel counts, found {preset.decoder_widths}")
    stride = preset.aggregation_stride
    if stride not in (2, 4, 8, 16, 32):
        raise ValueError(f"aggregation_stride must be 2, 4, 8, 16 or 32 input pixels, found {stride}")
    if preset.aggregation_channels < 1 or preset.attention_reduction < 1 or preset.context_layers < 0:
        raise ValueError(
            "aggregation_channels and attention_reduction must be at least 1 and context_layers at least 0, found "
            f"{preset.aggregation_channels}, {preset.attention_reduction} and {preset.context_layers}"
        )
    if not 0.0 <= preset.transformer_dropout < 1.0:
        raise ValueError(f"transformer_dropout must lie in [0, 1), found {preset.transformer_dropout}")
