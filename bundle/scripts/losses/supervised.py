"""The loss on labelled frames."""

from __future__ import annotations

from difflib import get_close_matches

from monai.losses import DiceCELoss, DiceFocalLoss
from torch import nn

SUPERVISED_LOSSES = {
    "dice_ce": (DiceCELoss, {}),
    # Focal as in LESS-Net's supervised script: alpha .5, gamma 2.
    "dice_focal": (DiceFocalLoss, {"gamma": 2.0, "alpha": 0.5}),
}


def supervised_loss(name: str = "dice_ce") -> nn.Module:
    """Cross-entropy (or focal loss) plus soft Dice of the lesion, over the batch.

    Dice is pooled over the batch, so that a frame without lesion neither gives 0/0 nor a gradient of its own.
    Input: logits (B, C, H, W); target: class index (B, 1, H, W).

    Args:
        name: "dice_ce" or "dice_focal".

    Raises:
        ValueError: unknown name.
    """
    if name not in SUPERVISED_LOSSES:
        near = get_close_matches(name, SUPERVISED_LOSSES, n=1, cutoff=0)
        raise ValueError(f"supervised_loss '{name}' is unknown; did you mean '{near[0]}'? Known: {list(SUPERVISED_LOSSES)}.")
    factory, options = SUPERVISED_LOSSES[name]
    return factory(include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5, **options)
