"""Tensors to logits or embeddings: LESS-Net, its presets, and weights in and out of files."""

from .checkpoints import CheckpointError, load_weights
from .contrast import ContrastNetwork
from .distillation import DistillationNetwork, Matched
from .frozen_teacher import FrozenTeacher
from .less_net import LESSNet
from .presets import PRESETS, NetworkPreset
from .severity import PictureEncoder, SeverityClassifier, SeverityEmbedder
from .unet_plus_plus import UNetPlusPlus

__all__ = [
    "PRESETS",
    "CheckpointError",
    "ContrastNetwork",
    "DistillationNetwork",
    "FrozenTeacher",
    "LESSNet",
    "Matched",
    "NetworkPreset",
    "PictureEncoder",
    "SeverityClassifier",
    "SeverityEmbedder",
    "UNetPlusPlus",
    "load_weights",
]
