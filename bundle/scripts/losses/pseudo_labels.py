"""Masks that a machine drew, taken as labels: each frame counts as much as its mask can be trusted."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from scripts.io.mask_reader import UNKNOWN
from scripts.losses.masked import masked_mean
from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.losses.weighted_dice import dice_per_frame
from scripts.transforms import views


class PseudoLabelObjective(Objective):
    """L = mean over frames of w [(1 - d) CE(f(v(x)), v(y)) + d Dice(f(v(x)), v(y))], y a pseudo-label, w its weight.

    The third step of knowledge mining (Mao et al. 2025): fine-tuning on labels and on masks mined from a promptable
    model. Pixels of class UNKNOWN, and those that a rotation or a zoom makes up, do not count. Means are over frames,
    not over their weights, so that doubtful frames give a small step. Dice is over the frames with a lesion.

    Args:
        dice: d, share of the Dice term, 0..1.
        view: random view of frame and pseudo-label; None = both as they are.
    """

    needs_pseudo_labels = True
    takes_network_apart = False

    def __init__(self, dice: float = 0.5, view: nn.Module | None = None) -> None:
        super().__init__()
        if not 0 <= dice <= 1:
            raise ValueError(f"dice is {dice}; expected a share in 0..1.")
        self.dice = dice
        self.view = views.view() if view is None else view

    def forward(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        image: Tensor,
        pseudo_label: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> ObjectiveOutput:
        """See Objective."""
        if pseudo_label is None or weight is None:
            raise ValueError("PseudoLabelObjective needs pseudo_label (B, 1, H, W) and weight (B,) of every frame.")
        seen = self.view(image, pseudo_label)
        target, valid = seen.label[:, 0].long(), seen.valid()[:, 0]
        unknown = target == UNKNOWN
        target, valid = target.masked_fill(unknown, 0), valid.masked_fill(unknown, 0.0)
        weight = weight.to(valid)
        logits = student(seen.image).float()
        of_pixels = functional.cross_entropy(logits, target, reduction="none")
        cross_entropy = masked_mean(weight[:, None, None] * of_pixels, valid)
        # Inside of a frame's Dice its weight would cancel.
        of_frames, has_lesion = dice_per_frame(logits, target, valid)
        dice = (weight * of_frames * has_lesion).sum() / has_lesion.sum().clamp(min=1.0)
        return ObjectiveOutput(
            (1 - self.dice) * cross_entropy + self.dice * dice,
            masked_mean(target.ne(0).float(), valid),
            masked_mean(weight[:, None, None].expand_as(valid), valid),
            {"pseudo_ce": cross_entropy.detach(), "pseudo_dice": dice.detach()},
        )
