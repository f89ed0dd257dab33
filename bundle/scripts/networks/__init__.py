"""Tensors to logits or embeddings: LESS-Net, its presets, and weights in and out of files."""

from .checkpoints import CheckpointError, load_weights
from .contrast import ContrastNetwork
from .less_net import LESSNet
from .presets import PRESETS, NetworkPreset
from .severity import SeverityClassifier, SeverityEmbedder
from .unet_plus_plus import UNetPlusPlus

__all__ = [
    "PRESETS",
    "CheckpointError",
    "ContrastNetwork",
    "LESSNet",
    "NetworkPreset",
    "SeverityClassifier",
    "SeverityEmbedder",
    "UNetPlusPlus",
    "load_weights",
]
