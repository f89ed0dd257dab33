"""Weak to strong: hard pseudo-labels of an EMA teacher on the weak view teach the student on two strong views."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.alignment import DistributionAlignment
from scripts.losses.confidence import confidence_weighting
from scripts.losses.masked import masked_mean
from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.losses.statistics import untracked_statistics
from scripts.losses.weighted_dice import weighted_dice_loss
from scripts.transforms.mixing import CutMix
from scripts.transforms.views import view


class WeakToStrongObjective(Objective):
    """L = mean over strong views s of (1 - d) CE_w(f_S(s(x)), y) + d Dice_w(f_S(s(x)), y), y = argmax f_T(w(x)).

    FixMatch with an EMA teacher, CutMix and, after UniMatch V2 (Yang et al. 2025), two strong views whose feature
    channels are dropped in complement: f1 * m and f2 * (2 - m), m ~ 2 Bernoulli(1/2) per channel. CE is divided by all
    valid pixels, not by the kept ones, so that few confident pixels give a small step; the border that a rotation or a
    zoom makes up is not valid: the teacher is sure of it, and it teaches nothing. Dice counts only frames with a kept
    lesion pixel: on a frame taken as healthy it would punish the smallest doubt.

    Args:
        weighting: "fixed" (threshold) or "softmatch".
        threshold: confidence from which a pixel counts, for "fixed".
        strong_views: 1 or 2.
        complementary_dropout: share of frames whose channels are dropped (0 = off; needs two strong views).
        cutmix: share of frames into which another one's box is pasted.
        dice: d, share of the Dice term, 0..1.
        class_shares: share of each class in the labelled pixels, to which the teacher's probabilities are aligned
            before they are judged (DistributionAlignment); None = not.
        flip_averaging: whether the teacher's probabilities are the mean over the frame and the mirrored frame.
        strong_statistics: whether the strong views count in BatchNorm's running statistics.
        classes: number of classes.
        flips: whether the default weak view mirrors frames.
        weak_view: geometry, shared by all; strong_view: colour only, on top of the weak view.
    """

    needs_teacher = True

    def __init__(
        self,
        weighting: str = "fixed",
        threshold: float = 0.85,
        strong_views: int = 2,
        complementary_dropout: float = 0.5,
        cutmix: float = 0.5,
        dice: float = 0.5,
        class_shares: Sequence[float] | None = None,
        flip_averaging: bool = False,
        strong_statistics: bool = True,
        classes: int = 2,
        weak_view: nn.Module | None = None,
        strong_view: nn.Module | None = None,
        flips: bool = True,
    ) -> None:
        super().__init__()
        if strong_views not in (1, 2):
            raise ValueError(f"strong_views is {strong_views}; expected 1 or 2.")
        if class_shares is not None and len(class_shares) != classes:
            raise ValueError(
                f"class_shares has {len(class_shares)} numbers; expected one for each of {classes} classes."
            )
        self.weighting = confidence_weighting(weighting, threshold, classes)
        self.alignment = None if class_shares is None else DistributionAlignment(class_shares)
        self.strong_views = strong_views
        self.complementary_dropout = complementary_dropout if strong_views == 2 else 0.0
        self.cutmix = CutMix(cutmix)
        self.dice = dice
        self.flip_averaging = flip_averaging
        self.strong_statistics = strong_statistics
        mirror = 0.5 if flips else 0.0
        self.weak_view = weak_view or view(
            horizontal_flip=mirror, vertical_flip=mirror, rotation=30, scale=(0.7, 1.5), translation=0.1
        )
        # Hue .05 and hardly any grey: for blood and mucosa the colour is the signal.
        self.strong_view = strong_view or view(
            brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05, grayscale=0.05, blur_probability=0.5
        )

    def forward(self, student: nn.Module, teacher: nn.Module | None, image: Tensor) -> ObjectiveOutput:
        """See Objective."""
        if teacher is None:
            raise ValueError("WeakToStrongObjective needs a teacher: give the trainer an EMATeacher.")
        seen = self.weak_view(image)
        weak, valid = seen.image, seen.valid()[:, 0]
        with torch.no_grad():
            probability = self._probabilities(teacher, weak)
            if self.alignment is not None:
                probability = self.alignment(probability, valid)
            confidence, pseudo_label = probability.max(dim=1)
            weight = self.weighting(confidence, pseudo_label, valid) * valid

        views, labels, weights, valids = [], [], [], []
        for _ in range(self.strong_views):
            boxes = self.cutmix.draw(weak)
            views.append(CutMix.mix(self.strong_view(weak).image, boxes))
            labels.append(CutMix.mix(pseudo_label[:, None], boxes)[:, 0])
            weights.append(CutMix.mix(weight[:, None], boxes)[:, 0])
            valids.append(CutMix.mix(valid[:, None], boxes)[:, 0])
        with nullcontext() if self.strong_statistics else untracked_statistics(student):
            features = student.encode(torch.cat(views))
            if self.complementary_dropout > 0:
                features = complementary_channel_dropout(features, self.complementary_dropout)
            logits = student.decode(features, (image.shape[-2], image.shape[-1])).float()

        target, kept = torch.cat(labels), torch.cat(weights)
        cross_entropy = masked_mean(
            kept * functional.cross_entropy(logits, target, reduction="none"), torch.cat(valids)
        )
        dice = weighted_dice_loss(logits, target, kept)
        loss = (1 - self.dice) * cross_entropy + self.dice * dice
        terms = {"pseudo_ce": cross_entropy.detach(), "pseudo_dice": dice.detach()}
        lesion = masked_mean(pseudo_label.ne(0).float(), valid)
        return ObjectiveOutput(loss, lesion, masked_mean(weight, valid), terms)

    def _probabilities(self, teacher: nn.Module, weak: Tensor) -> Tensor:
        """The teacher's answer (B, C, H, W), 0..1."""
        answer = torch.softmax(teacher(weak).float(), dim=1)
        if self.flip_averaging:
            answer = (answer + torch.softmax(teacher(weak.flip(-1)).float(), dim=1).flip(-1)) / 2
        return answer


def complementary_channel_dropout(features: Sequence[Tensor], share: float) -> list[Tensor]:
    """Multiply the channels of two halves of a batch by m and 2 - m, m ~ 2 Bernoulli(1/2) (UniMatch V2, eq. 5).

    Args:
        features: maps (2B, C_i, H_i, W_i); the first B rows are view one, the last B view two of the same frames.
        share: share of the B frames that are changed; the others keep all channels in both views.
    """
    changed = torch.rand(len(features[0]) // 2, 1, 1, 1, device=features[0].device) < share
    result = []
    for feature in features:
        keep = 2.0 * torch.randint(0, 2, (len(feature) // 2, feature.shape[1], 1, 1), device=feature.device)
        keep = torch.where(changed, keep, torch.ones_like(keep)).to(feature.dtype)
        result.append(feature * torch.cat([keep, 2.0 - keep]))
    return result
