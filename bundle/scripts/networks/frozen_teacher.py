"""A pretrained backbone that others learn from: its maps and, where its file has one, its classifier."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import timm
import torch
from timm.models import ByobNet, EfficientNet, ResNet
from torch import Tensor, nn

from .checkpoints import CheckpointError, find_state, read_file
from .encoders import TimmEncoder
from .normalization import InputNormalization
from .pretrained import fetch_pretrained
from .weights import IMAGENET_TIMEOUT, start_encoder

#: what timm's models run behind the last tap, in this order
BEHIND_THE_TAPS: dict[type[nn.Module], tuple[str, ...]] = {
    EfficientNet: ("conv_head", "bn2", "global_pool", "classifier"),  # MobileNetV2 too
    ByobNet: ("final_conv", "head"),  # MobileViT
    ResNet: ("global_pool", "fc"),
}
_WITHOUT = "or set logit_weight 0, to learn from its maps alone"


class FrozenTeacher(nn.Module):
    """A timm backbone with the padding and the input normalisation of its weights, which never change.

    It stays in evaluation whatever ``train`` is called with, and gives no gradient.

    Args:
        backbone: timm name.
        weights: ``imagenet`` (timm's hub or fail), or the path of a .safetensors or .pt file.
        classifier: also read the classifier, for logits.

    Attributes:
        encoder: a TimmEncoder. classes: of the classifier, 0 without.
        weights_report: as EncoderStart.report.

    Raises:
        ValueError: unknown backbone; ``none`` or ``auto``, which may be random numbers; a classifier of an architecture
            that is not known here.
        CheckpointError: weights that cannot be had or do not fit, or without the classifier that is wanted.
    """

    def __init__(self, backbone: str, weights: str, classifier: bool = True) -> None:
        super().__init__()
        weights = str(weights)
        if weights in ("none", "auto", ""):
            raise ValueError(
                f"teacher_weights is {weights!r}: a teacher of random numbers teaches nothing; expected 'imagenet', or "
                f"the path of a .safetensors or .pt file of {backbone}"
            )
        self.encoder = TimmEncoder(backbone)
        start = start_encoder(self.encoder, backbone, weights)
        self.normalize = InputNormalization(start.mean, start.std)
        self.classifier = _read_classifier(backbone, weights) if classifier else None
        self.weights_report: dict[str, Any] = start.report
        self.requires_grad_(False)
        self.eval()

    @property
    def classes(self) -> int:
        linear = [] if self.classifier is None else [m for m in self.classifier.modules() if isinstance(m, nn.Linear)]
        return linear[-1].out_features if linear else 0

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Nothing is trained: it stays in evaluation."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """(B, 3, H, W) in 0..1 -> taps from fine to coarse, and logits (B, classes) or None."""
        taps = self.encoder(self.normalize(image).contiguous(memory_format=torch.channels_last))
        return taps, None if self.classifier is None else self.classifier(taps[-1])


def _read_classifier(backbone: str, weights: str) -> nn.Sequential:
    """What follows the last tap in the whole timm model, (B, C, h, w) -> (B, classes), with the file's tensors."""
    state = _whole_state(backbone, weights)
    model = timm.create_model(backbone, pretrained=False)
    name = str(model.default_cfg.get("classifier"))
    parts = next((found for kind, found in BEHIND_THE_TAPS.items() if isinstance(model, kind)), None)
    if parts is None:
        known = ", ".join(kind.__name__ for kind in BEHIND_THE_TAPS)
        raise ValueError(
            f"teacher_backbone {backbone!r} is a {type(model).__name__}, whose classifier cannot be run on its last "
            f"map; expected one of {known}, for example mobilenetv2_100: choose such a teacher, {_WITHOUT}"
        )
    if f"{name}.weight" not in state:
        raise CheckpointError(
            f"{weights} holds no classifier: {name}.weight of {backbone} is expected for matching logits, found for "
            f"example {sorted(state)[:3]}: give a file of the whole timm model as teacher_weights, {_WITHOUT}"
        )
    model.reset_classifier(len(state[f"{name}.weight"]))
    classifier = nn.Sequential(OrderedDict((part, getattr(model, part)) for part in parts))
    own = {key: value for key, value in state.items() if key.split(".")[0] in parts}
    try:
        classifier.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"{weights} has a classifier that is not that of {backbone} ({' '.join(str(error).split())}): give the "
            f"file that belongs to it, {_WITHOUT}"
        ) from None
    return classifier


def _whole_state(backbone: str, weights: str) -> dict[str, Tensor]:
    """All tensors of the file, or of timm's hub, which start_encoder has asked before."""
    if weights != "imagenet":
        return find_state(read_file(weights)[0], weights)[0]
    found = fetch_pretrained(backbone, IMAGENET_TIMEOUT)
    if isinstance(found, str):
        raise CheckpointError(f"the pretrained weights of {backbone} cannot be had ({found})")
    return found
