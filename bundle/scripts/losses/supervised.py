"""The loss on labelled frames."""

from __future__ import annotations

from difflib import get_close_matches

from monai.losses import DiceCELoss, DiceLoss, FocalLoss
from torch import Tensor, nn

# Soft Dice of the lesion, pooled over the batch.
DICE = {
    "include_background": False,
    "to_onehot_y": True,
    "softmax": True,
    "batch": True,
    "smooth_nr": 1e-5,
    "smooth_dr": 1e-5,
}


class DiceFocal(nn.Module):
    """Soft Dice of the lesion plus mean of -alpha (1 - p)^gamma log p, p = softmax at the true class (Lin et al. 2017).

    Not MONAI's DiceFocalLoss: its focal part is a sigmoid of each channel alone, even with ``softmax=True``, so that
    with the background excluded it would train the lesion's logit as if there were no other.

    Args:
        gamma: how fast the weight of a pixel falls with its probability.
        alpha: weight of the lesion; the background has 1 - alpha.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.5) -> None:
        super().__init__()
        self.dice = DiceLoss(**DICE)
        self.focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=gamma, alpha=alpha, reduction="none")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, C, H, W), class index (B, 1, H, W) -> scalar."""
        # Over channels a sum, since all but the true class are 0: the mean is one over pixels.
        return self.dice(logits, target) + self.focal(logits, target).sum(dim=1).mean()


SUPERVISED_LOSSES = {
    "dice_ce": (DiceCELoss, DICE),
    # Focal as in LESS-Net's supervised script: alpha .5, gamma 2.
    "dice_focal": (DiceFocal, {"gamma": 2.0, "alpha": 0.5}),
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
        known = ", ".join(SUPERVISED_LOSSES)
        raise ValueError(f"supervised_loss '{name}' is unknown; did you mean '{near[0]}'? Known: {known}.")
    factory, options = SUPERVISED_LOSSES[name]
    return factory(**options)
