"""The weights of a run as the zoo takes them: plain state dicts, by option in float16, with the parity measured."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from scripts.engines.export import Parity, probabilities
from scripts.engines.inference import companion_beside
from scripts.io.image_reader import read_rgb
from scripts.networks.checkpoints import IMAGE_SIZE, CheckpointError, find_state, load_weights, read_file
from scripts.package.contents import COMPANION_FILE, WEIGHTS_FILE
from scripts.package.errors import PackageError
from scripts.transforms.resizing import ResizeTo

#: None = as they are in the file
STORAGE = {"given": None, "float32": torch.float32, "float16": torch.float16}
LEAST_DICE = 0.999  # mean, of the masks by the stored weights with those by the given ones
THRESHOLD = 0.5
NO_WEIGHTS = "this package holds no weights: train with configs/train.json, or give --checkpoint"


@dataclass
class PackedWeights:
    """What is written into the package.

    Attributes:
        files: name in the package -> bytes. entry: of metadata.json, what they are. image_size: pixels, side of the
            square that they were trained at, which the package's configs get; None = they have it already.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=lambda: {"file": None, "note": NO_WEIGHTS})
    image_size: int | None = None


def pack_weights(
    checkpoint: Path, bundle: Path, storage: str, frames: Sequence[Path], frames_name: str
) -> PackedWeights:
    """Read a run's model.pt (or a plain state dict), store it as asked for, and measure what that changes.

    The zoo loads models/model.pt without naming a key, so that the weights to use and the companion become files of
    their own.

    Args:
        storage: of the floating-point tensors: "given" (as in the file), "float32" or "float16".
        frames: pictures on which the masks are compared; frames_name says in the entry what they are.

    Raises:
        PackageError: weights of another network, not finite, or other masks after storing.
    """
    try:
        content, _ = read_file(checkpoint)
        state, _ = find_state(content, checkpoint)
        original = _network(bundle)
        load_weights(original, checkpoint)
        companion = _companion(checkpoint, content)
        if companion is not None:
            _network(bundle).load_state_dict(companion)
    except (CheckpointError, RuntimeError) as error:
        raise PackageError([f"{error}."]) from error
    side = int(content.get(IMAGE_SIZE, _config(bundle)["image_size"]))
    packed = PackedWeights({WEIGHTS_FILE: _bytes(state, storage, checkpoint)}, image_size=side)
    if companion is not None:
        packed.files[COMPANION_FILE] = _bytes(companion, storage, checkpoint)
    packed.entry = {
        "file": WEIGHTS_FILE,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in packed.files.items()},
        "parameters": sum(parameter.numel() for parameter in original.parameters()),
        "storage": storage if storage != "given" else _dtype(state),
    }
    if storage == "float16":
        packed.entry["parity"] = _parity(original, _stored(bundle, packed), frames, frames_name, side)
    return packed


def entry_problems(declared: dict[str, str], entry: dict[str, Any]) -> list[str]:
    """Weights that are not those whose hashes metadata.json declares under "weights"."""
    if not declared or declared == entry.get("sha256"):
        return []
    return [
        f"configs/metadata.json: weights#sha256 is {declared}, the weights to package have {entry.get('sha256')}: "
        "put back the weights that the figures of metadata.json are of, or name others with --weights."
    ]


def _companion(checkpoint: Path, content: Any) -> dict[str, Tensor] | None:
    """The student beside its EMA, from the file itself or from the one that a package has beside it."""
    if isinstance(content, dict) and "companion" in content:
        return find_state(content, checkpoint, "companion")[0]
    beside = companion_beside(checkpoint)
    return find_state(read_file(beside)[0], beside)[0] if beside.is_file() else None


def _dtype(state: dict[str, Tensor]) -> str:
    """How most of the floating-point tensors are stored, such as "float16"."""
    counts: Counter[torch.dtype] = Counter()
    for value in state.values():
        if value.is_floating_point():
            counts[value.dtype] += value.numel()
    return str(counts.most_common(1)[0][0]).removeprefix("torch.")


def _bytes(state: dict[str, Tensor], storage: str, checkpoint: Path) -> bytes:
    """A state dict as a file that depends on its tensors alone: no name of a file goes into it."""
    kept = {}
    for name, value in state.items():
        if value.is_floating_point():
            value = value.to(STORAGE[storage] or value.dtype)
            if not torch.isfinite(value).all():
                raise PackageError(
                    [f"{checkpoint}: {name} is not finite in {storage}: use --storage float32, or train again."]
                )
        kept[name] = value.clone().contiguous()
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    return buffer.getvalue()


def _config(bundle: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    return parser


def _network(bundle: Path) -> nn.Module:
    """The network that the package declares."""
    return _config(bundle).get_parsed_content("network_def").eval()


def _stored(bundle: Path, packed: PackedWeights) -> nn.Module:
    """The network as the package will have it."""
    network = _network(bundle)
    network.load_state_dict(torch.load(io.BytesIO(packed.files[WEIGHTS_FILE]), weights_only=True))
    return network


def _parity(
    original: nn.Module, stored: nn.Module, frames: Sequence[Path], frames_name: str, side: int
) -> dict[str, Any]:
    """How far the masks are apart; PackageError when too far."""
    resize = ResizeTo(keys="image", size=[side, side])
    pictures = [torch.from_numpy(read_rgb(str(path)).copy()).permute(2, 0, 1) for path in frames]
    batches = [resize({"image": picture})["image"][None].float() / 255 for picture in pictures]
    by_both = [probabilities(network, batches, name) for network, name in ((original, "float32"), (stored, "float16"))]
    parity = Parity.of(*by_both, THRESHOLD)
    if parity.dice < LEAST_DICE:
        raise PackageError(
            [
                f"the masks by float16 weights have a mean Dice of {parity.dice:.4f} with those by the given ones on "
                f"{frames_name}, expected {LEAST_DICE} or more: use --storage float32."
            ]
        )
    return {
        "frames": frames_name,
        "count": parity.frames,
        "dice": round(parity.dice, 6),
        "lowest_dice": round(parity.lowest_dice, 6),
        "probability_difference": round(parity.probability_difference, 6),
    }
