"""Weights of a network in and out of files: safe reading, whole-network loading, errors that name the tensor."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from scripts.io.provenance import file_sha256

logger = logging.getLogger(__name__)

# Where a checkpoint may keep the network, in the order they are looked for; a run's model.pt has "model", as MONAI
# Label expects.
NETWORK_KEYS = ("model", "network", "state_dict")
#: Where a run's files say at how many pixels, the side of a square, the network was trained.
IMAGE_SIZE = "image_size"


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names file, key, shapes and cure."""


def read_file(path: str | Path) -> tuple[Any, dict[str, str]]:
    """The content of a .safetensors or PyTorch file and its metadata (empty for PyTorch files), on the CPU.

    PyTorch files are read with ``weights_only=True``: no code in them can run.

    Raises:
        CheckpointError: missing, empty, truncated or unsafe file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"weight file {path} does not exist (looked for {path.resolve()}): check the path")
    if path.stat().st_size == 0:
        raise CheckpointError(f"weight file {path} is empty: copy or download it again")
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
        return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"weight file {path} cannot be read ({first_line}): it must be .safetensors, or a PyTorch file of tensors "
            "and plain values that was written whole (torch.save(network.state_dict(), ...)); copy it again or save "
            "it again in that form"
        ) from error


def find_state(content: Any, path: str | Path, key: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The state dict inside a file's content and the key it was found under ("" for a plain state dict).

    Raises:
        CheckpointError: no such key, or no tensors there.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a state dict or a dict that holds one"
        )
    found = ""
    if key is not None:
        if key not in content:
            raise CheckpointError(
                f"{path} has no key {key!r}; it has {sorted(map(str, content))[:12]}: name one of them"
            )
        content, found = content[key], key
    elif not any(isinstance(value, Tensor) for value in content.values()):
        inside = [name for name in NETWORK_KEYS if isinstance(content.get(name), Mapping)]
        if not inside:
            raise CheckpointError(
                f"{path} holds no state dict: expected tensors, or one of {NETWORK_KEYS} as its key, found "
                f"{sorted(map(str, content))[:12]}: name the key that holds the network"
            )
        content, found = content[inside[0]], inside[0]
    state = {str(name): value for name, value in content.items()} if isinstance(content, Mapping) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors{f' under {found!r}' if found else ''}")
    if all(name.startswith("module.") for name in state):  # saved from DistributedDataParallel
        state = {name[len("module.") :]: value for name, value in state.items()}
    return state, found


def warn_of_other_size(content: Any, path: str | Path, image_size: int | None) -> None:
    """Say so where a run's file was trained at another size than the network is going to see (None = any will do)."""
    trained_at = content.get(IMAGE_SIZE) if isinstance(content, Mapping) else None
    if image_size is not None and trained_at is not None and int(trained_at) != int(image_size):
        logger.warning(
            "%s was trained at %d px and is used at %d px: masks get worse, temperature and agreement are not those "
            "that were measured. Give --image_size %d.",
            path, trained_at, image_size, trained_at,
        )  # fmt: skip


def load_weights(
    network: nn.Module, path: str | Path, key: str | None = None, image_size: int | None = None
) -> dict[str, Any]:
    """Load a whole network from a run's model.pt, a plain state dict or a .safetensors file, all tensors or none.

    Args:
        network: takes the weights, in its own dtype and device.
        path: file.
        key: entry of the file that holds the state dict, for example ``"teacher"``; None looks for the usual ones.
        image_size: pixels, side of the square that the network is going to see; a file that says that it was trained
            at another one is warned about. None = any will do.

    Returns:
        ``{"file": str, "key": str, "tensors": int}``.

    Raises:
        CheckpointError: unreadable file, missing or unexpected keys, or a tensor of another shape. The network is left
            as it was.
    """
    content, _ = read_file(path)
    state, found = find_state(content, path, key)
    own = network.state_dict()
    cure = (
        "build the network with the options of the run that wrote the file (its config.json: preset, backbone, "
        "out_channels, in_channels)"
    )
    for name, value in own.items():
        if name in state and state[name].shape != value.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, the network expects {tuple(value.shape)}: {cure}"
            )
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        raise CheckpointError(
            f"{path} is of another network: {len(missing)} tensors missing {missing[:3]}, {len(unexpected)} unexpected "
            f"{unexpected[:3]}: {cure}"
        )
    network.load_state_dict(state)
    warn_of_other_size(content, path, image_size)
    logger.info("loaded %d tensors from %s%s", len(state), path, f" [{found}]" if found else "")
    return {"file": str(path), "key": found, "tensors": len(state)}


def ready_network(
    network: nn.Module,
    device: str | torch.device,
    checkpoint: str | Path | None = None,
    encoder_weights: str = "auto",
    image_size: int | None = None,
) -> nn.Module:
    """The network on its device, with the weights of a checkpoint if one is given ("" = none).

    Every network gets an ``encoder_weights_report``. After a checkpoint it names that: the encoder is no longer a
    random one, whatever it was made with, and must not be trained as one.

    Args:
        encoder_weights: what was asked for, for networks that take no such argument (MONAI's): there are no pretrained
            ones, so that only "auto" and "none" can be granted. LESSNet has been given it when it was made.
        image_size: see :func:`load_weights`.

    Raises:
        CheckpointError: see :func:`load_weights`; encoder weights that such a network cannot take.
    """
    if not hasattr(network, "encoder_weights_report"):
        network.encoder_weights_report = _without_pretrained(type(network).__name__, encoder_weights)
    if checkpoint:
        load_weights(network, checkpoint, image_size=image_size)
        message = f"the whole network starts from {checkpoint}"
        used = {
            "used": str(checkpoint),
            "substituted": False,
            "message": message,
            "sha256": file_sha256(Path(checkpoint).expanduser()),
        }
        network.encoder_weights_report = dict(network.encoder_weights_report) | used
    return network.to(device)


def _without_pretrained(name: str, requested: str) -> dict[str, Any]:
    """The encoder_weights_report of a network for which there are no pretrained weights."""
    if requested not in ("auto", "none"):
        raise CheckpointError(
            f"encoder_weights is {requested!r} and {name} has no encoder to put them into: leave it at 'auto' or "
            "'none', give a run's model.pt as init_checkpoint, or choose LESSNet"
        )
    message = f"{name} starts from random numbers: there are no pretrained weights for it"
    logger.info(message)
    return {"requested": requested, "used": "random", "substituted": False, "message": message}
