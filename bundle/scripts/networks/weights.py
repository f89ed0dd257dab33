"""The start of the encoder: pretrained, from a file or random, checked and reported."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.models import adapt_input_conv
from torch import Tensor

from scripts.io.provenance import file_sha256

from .checkpoints import CheckpointError, find_state, read_file
from .encoders import SAME_PADDED_BACKBONES, TimmEncoder
from .pretrained import fetch_pretrained

logger = logging.getLogger(__name__)

AUTO_TIMEOUT = 10.0  # seconds that "auto" waits for the hub before it starts from random numbers
IMAGENET_TIMEOUT = 300.0  # seconds that "imagenet" waits before it fails
LEAST_MATCH = 0.95  # share of the encoder's tensors that a file must hold

# Keys of whole timm models that no feature map reads.
_HEAD = re.compile(r"^(classifier|head|head_dist|fc|conv_head|bn2|norm_head|final_conv)(\.|$)")


@dataclass(frozen=True)
class EncoderStart:
    """What the encoder started from.

    Attributes:
        report: ``requested``, ``used``, ``substituted``, ``message``, and ``sha256`` where it is a file; it goes to
            environment.json and the report.
        mean: input mean of these weights, one for each channel, for input in 0..1.
        std: input standard deviation of these weights.
    """

    report: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def start_encoder(encoder: TimmEncoder, backbone: str, requested: str, in_channels: int = 3) -> EncoderStart:
    """Fill the encoder as asked for and say what was done.

    The input normalisation goes with the weights:

    1. what the file states: safetensors metadata ``mean`` and ``std`` as JSON lists, or a LESSNet checkpoint's buffers;
    2. a file of a SAME-padded backbone: mean .5 and std .5, the convention of the TensorFlow weights that have this
       padding (for mobilenetv2_100.in1k a test holds the stem's batch-norm statistics against real frames);
    3. timm's configuration of the backbone.

    Args:
        encoder: filled in place.
        backbone: its timm name.
        requested: ``"auto"`` (hub within 10 s, else random with a warning), ``"imagenet"`` (hub or fail), ``"none"``
            (random), or the path of a .safetensors or .pt file.
        in_channels: of the encoder; the first convolution of RGB weights is adapted to it.

    Raises:
        CheckpointError: weights that cannot be had or do not fit.
    """
    requested = str(requested)
    mean, std = _timm_normalization(backbone)
    substituted = False
    if requested == "none":
        used, message = "random", "the encoder starts from random numbers, as asked for (encoder_weights none)"
    elif requested in ("auto", "imagenet"):
        used, message, substituted = _start_from_hub(encoder, backbone, requested, in_channels)
    else:
        state, mean, std = _read_encoder_file(requested, backbone, mean, std)
        used, message = requested, load_encoder(encoder, state, requested, in_channels)
    if substituted:
        logger.warning(message)
    else:
        logger.info(message)
    report = {"requested": requested, "used": used, "substituted": substituted, "message": message}
    if used == requested:  # a file
        report["sha256"] = file_sha256(Path(requested).expanduser())
    return EncoderStart(report, _repeat(mean, in_channels), _repeat(std, in_channels))


def load_encoder(encoder: TimmEncoder, state: Mapping[str, Tensor], source: str, in_channels: int = 3) -> str:
    """Copy the tensors of a whole timm model, or of an encoder, into the encoder, all of them or none.

    Returns:
        A sentence with the counts of tensors used and ignored.

    Raises:
        CheckpointError: the first tensor of another shape, keys that belong to another architecture, or too few.
    """
    own = encoder.body.state_dict()
    if any(name.startswith("encoder.body.") for name in state):  # a LESSNet checkpoint
        prefix = "encoder.body."
        state = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    names = {name: name if name in state else _unflatten(name) for name in own}
    matched: dict[str, Tensor] = {}
    for name, value in own.items():
        if names[name] not in state:
            continue
        found = state[names[name]]
        if found.ndim == 4 and found.shape[1] == 3 and value.shape[1] == in_channels != 3:
            found = adapt_input_conv(in_channels, found)
        if found.shape != value.shape:
            raise CheckpointError(
                f"{source} is of another architecture: {names[name]} has shape {tuple(found.shape)}, the encoder "
                f"expects {tuple(value.shape)}: choose the backbone that the file belongs to, or another file"
            )
        matched[name] = found.to(value.dtype)
    missing = [names[name] for name in own if name not in matched and not name.endswith("num_batches_tracked")]
    wanted = len([name for name in own if not name.endswith("num_batches_tracked")])
    share = 1.0 - len(missing) / max(wanted, 1)
    if share < LEAST_MATCH:
        first, shape = next((name, tuple(own[name].shape)) for name in own if names[name] in missing)
        raise CheckpointError(
            f"{source} is of another architecture: {names[first]}, expected with shape {shape}, is absent and "
            f"{wanted - len(missing)} of {wanted} tensors of the encoder match (at least {LEAST_MATCH:.0%} needed); "
            f"the file holds for example {sorted(state)[:3]}: choose the backbone that the file belongs to"
        )
    used = {names[name] for name in matched}
    heads = [name for name in state if name not in used and _HEAD.match(name)]
    others = [name for name in state if name not in used and not _HEAD.match(name)]
    encoder.body.load_state_dict({**own, **matched})
    message = f"the encoder starts from {source}: {len(matched)} of {len(own)} tensors, {len(heads)} of its head unused"
    if missing or others:
        message += f", {len(others)} unknown {others[:3]}, {len(missing)} left random {missing[:3]}"
        logger.warning(message)
    return message


def _start_from_hub(encoder: TimmEncoder, backbone: str, requested: str, in_channels: int) -> tuple[str, str, bool]:
    """Used source, message and whether random numbers took the weights' place."""
    strict = requested == "imagenet"
    outcome = fetch_pretrained(backbone, IMAGENET_TIMEOUT if strict else AUTO_TIMEOUT, retry=strict)
    cure = (
        "connect once so that timm can cache them, or give the path of a .safetensors or .pt file of this backbone as "
        "encoder_weights"
    )
    if not isinstance(outcome, str):
        source = f"timm/{backbone}"
        try:
            return source, load_encoder(encoder, outcome, source, in_channels), False
        except CheckpointError as error:
            outcome = str(error)
    if strict:
        raise CheckpointError(f"the pretrained weights of {backbone} cannot be had ({outcome}): {cure}, or 'none'")
    message = (
        f"THE ENCODER STARTS FROM RANDOM NUMBERS: the pretrained weights of {backbone} cannot be had ({outcome}). "
        f"Expect a much lower Dice from few labels. Cure: {cure}; encoder_weights 'none' accepts the random start"
    )
    return "random", message, True


def _read_encoder_file(
    path: str, backbone: str, mean: Sequence[float], std: Sequence[float]
) -> tuple[dict[str, Tensor], Sequence[float], Sequence[float]]:
    """State dict of a file, and the normalisation that belongs to it (see :func:`start_encoder`)."""
    if Path(path).suffix not in (".safetensors", ".pt", ".pth"):
        raise CheckpointError(
            f"encoder_weights {path!r} is neither 'auto', 'imagenet', 'none' nor a path ending in .safetensors, .pt or "
            ".pth: correct the name, or rename the file"
        )
    content, metadata = read_file(path)
    state, _ = find_state(content, path)
    if "mean" in metadata and "std" in metadata:
        return state, json.loads(metadata["mean"]), json.loads(metadata["std"])
    if "normalize.mean" in state and "normalize.std" in state:
        return state, state["normalize.mean"].flatten().tolist(), state["normalize.std"].flatten().tolist()
    if backbone in SAME_PADDED_BACKBONES:
        return state, (0.5,) * 3, (0.5,) * 3
    return state, mean, std


def _timm_normalization(backbone: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std in timm's configuration of the backbone."""
    config = timm.get_pretrained_cfg(backbone)
    return (config.mean, config.std) if config is not None else ((0.0,) * 3, (1.0,) * 3)


def _repeat(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """The values themselves, or their average for every channel of an input that is not RGB."""
    values = tuple(float(value) for value in values)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _unflatten(name: str) -> str:
    """timm's feature extractor calls ``stages.0.x`` ``stages_0.x``; the name in a whole model's file."""
    return re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", name)
