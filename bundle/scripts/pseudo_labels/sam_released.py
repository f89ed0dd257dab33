"""Segment Anything models out of files of the original releases, for kornia: tensors alone, complete or refused.

Kirillov et al. 2023, "Segment Anything" (sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth);
Zhang et al. 2023, "Faster Segment Anything" (mobile_sam.pt). Fine-tuned files with the same tensors do as well.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from kornia.models.sam import Sam, SamConfig
from torch import Tensor, nn

from scripts.pseudo_labels.promptable import SegmenterError
from scripts.pseudo_labels.sam_weights import first_line

#: channels that the image encoder ends with: what kornia calls the model
KINDS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h", 320: "mobile_sam"}
# The first convolution after the last block of either image encoder, (256, channels, 1, 1).
_NECK = "image_encoder.neck.0.weight"
#: how a tensor's name begins that only another model has: that model, and where it can be had as a folder
OTHERS = {
    "mask_decoder.hf_token": ("SAM-HQ", "syscv-community/sam-hq-vit-base"),
    "spatial_perceiver": ("EdgeTAM", "yonigozlan/EdgeTAM-hf"),
    "sam_mask_decoder": ("SAM 2", "facebook/sam2.1-hiera-tiny"),
    "vision_encoder": ("a model in the form of the transformers library", "facebook/sam-vit-base"),
}
_CURE = "Give a file as it was published (sam_vit_{b_01ec64,l_0b3195,h_4b8939}.pth, mobile_sam.pt)"


def load_released(path: str | Path) -> tuple[Sam, str]:
    """kornia's network in float32 on the CPU with the numbers of a file, and which of KINDS it is.

    Code in the file is never run, and torch's random numbers are left as they are.

    Args:
        path: file that PyTorch wrote, with the tensors of the release at the top or under "model" or "state_dict".

    Raises:
        SegmenterError: the file cannot be read, is of another model, or holds not exactly the tensors of its kind.
    """
    state = _state(_read(path), path)
    kind = released_kind(state, path)
    network = _unfilled(kind)
    own = network.state_dict()
    # What follows from the size of the windows is a buffer that some save; it must be the same one.
    derived = {name: buffer for name, buffer in network.named_buffers() if name not in own}
    state = {
        name: value
        for name, value in state.items()
        if name not in derived or not torch.equal(value.to(derived[name].dtype), derived[name])
    }
    _check(path, kind, state, own)
    network.load_state_dict({name: value.to(own[name].dtype) for name, value in state.items()}, assign=True)
    return network, kind


def released_kind(state: Mapping[str, Tensor], path: str | Path = "weights") -> str:
    """Which of KINDS a state dict is, by the width of its image encoder; the path is for messages.

    Raises:
        SegmenterError: none of them.
    """
    shape = tuple(state[_NECK].shape) if _NECK in state else ()
    kind = KINDS.get(shape[1]) if len(shape) == 4 else None
    if kind is None:
        known = ", ".join(f"{width} ({name})" for width, name in KINDS.items())
        found = f"of shape {shape}" if shape else f"missing among {len(state)} tensors {sorted(state)[:3]}"
        raise SegmenterError(
            f"{path}: {_NECK} is {found}, expected (256, C, 1, 1) with C one of {known}. {_advice(state)}"
        )
    return kind


def _read(path: str | Path) -> Any:
    """What a file holds, on the CPU, without running code of it. Raises SegmenterError."""
    if not Path(path).is_file():
        raise SegmenterError(f"{path}: there is no such file; check the path. {_CURE}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text tells how to open the file all the same
        raise SegmenterError(
            f"{path}: is not a PyTorch file of tensors alone, and what else is in it could be code, which is not run. "
            f"{_CURE}, or download it again; of a .safetensors file give the folder, which must hold its config.json."
        ) from error
    except Exception as error:  # RuntimeError, EOFError, OSError and more, by where the file ends
        raise SegmenterError(
            f"{path}: cannot be read ({first_line(error)}), expected a whole PyTorch file. {_CURE}, or download it "
            "again."
        ) from error


def _state(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The tensors by their names. Raises SegmenterError for anything else."""
    if isinstance(content, Mapping):
        for key in ("model", "state_dict"):
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
        others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
        found = f"{len(others)} entries that are no tensors {others[:3]}" if others else "nothing"
    else:
        found = f"a {type(content).__name__}"
    raise SegmenterError(f"{path}: holds {found}; expected tensors by their names. {_CURE}.")


def _unfilled(kind: str) -> nn.Module:
    """kornia's network, whose numbers are all to be replaced."""
    if kind == "mobile_sam":  # asks tensors for their numbers while it is made; it is small
        with torch.random.fork_rng(devices=[]):
            return Sam.from_config(SamConfig(kind))
    with torch.device("meta"):  # up to 641 M numbers, that would be drawn for nothing
        return Sam.from_config(SamConfig(kind))


def _check(path: str | Path, kind: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise SegmenterError unless the file has exactly the network's tensors, in their shapes."""
    wrong = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "misshapen": [
            f"{name}: {_form(state[name])}, expected {_form(value)}"
            for name, value in own.items()
            if name in state and _form(state[name]) != _form(value)
        ],
    }
    if any(wrong.values()):
        counts = "; ".join(f"{len(names)} {what} {names[:3]}" for what, names in wrong.items() if names)
        raise SegmenterError(
            f"{path}: its image encoder is as wide as that of {kind}, but {counts}; expected the {len(own)} tensors of "
            f"{kind}. {_advice(state)}"
        )


def _form(value: Tensor) -> str:
    """Shape and kind of number; the precision of floats may differ."""
    return f"{tuple(value.shape)} of {'floats' if value.is_floating_point() else str(value.dtype)}"


def _advice(state: Mapping[str, Tensor]) -> str:
    """What to do with a file that is not of these models, by the names of its tensors."""
    for start, (model, hub) in OTHERS.items():
        if any(name.startswith(start) for name in state):
            return f"This looks like {model}: give the folder that holds its config.json, or a hub name such as {hub}."
    return f"{_CURE}, or download it again; of other models give a folder with config.json, or a hub name."
