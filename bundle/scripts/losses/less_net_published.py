"""LESS-Net's objective as the released code computes it, faults included, for comparison only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.transforms.views import view


class LessNetPublishedObjective(Objective):
    """L = MSE(z0, zw) + 0.5 max(0, 1 - MSE(z0, zs)) + 1.0 max(0, 1 - MSE(zw, zs)) over raw logits, as released.

    Faults that are kept on purpose: (1) flips and rotations are not undone, so the pixels compared do not correspond;
    (2) colours are changed after normalisation and clamped to 0..1, which destroys most of the picture; (3) logits are
    unbounded, so both hinges shut off once the logits have grown and plain MSE is left; (4) hue is drawn over the whole
    colour circle. Not kept, because they belong to the loop: the two different normalisations of labelled and
    unlabelled frames, and the epoch that ends with the shorter loader. ``LessNetObjective`` is the corrected form.

    Args:
        mean, std: the normalisation that the release applies before its colour changes (ImageNet's).
    """

    takes_network_apart = False

    def __init__(
        self,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.weak_view = view(horizontal_flip=0.5, brightness=0.2, contrast=0.2, jitter_probability=1.0)
        self.strong_view = view(
            horizontal_flip=0.5,
            rotation=20,
            brightness=0.5,
            contrast=0.5,
            saturation=0.5,
            hue=0.5,
            jitter_probability=1.0,
        )
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, student: nn.Module, teacher: nn.Module | None, image: Tensor) -> ObjectiveOutput:
        """See Objective; the teacher is not used."""
        frame = student(image).float()
        weak = student(self._view(self.weak_view, image)).float()
        strong = student(self._view(self.strong_view, image)).float()
        consistency = functional.mse_loss(frame, weak)
        loss = (
            consistency
            + 0.5 * functional.relu(1.0 - functional.mse_loss(frame, strong))
            + functional.relu(1.0 - functional.mse_loss(weak, strong))
        )
        lesion = frame.detach().argmax(1).ne(0).float().mean()
        return ObjectiveOutput(loss, lesion, torch.ones_like(lesion), {"consistency": consistency.detach()})

    def _view(self, random_view: nn.Module, image: Tensor) -> Tensor:
        normalised = ((image - self.mean) / self.std).clamp(0.0, 1.0)
        # Back to 0..1 of the picture: normalisation lives inside the network.
        return random_view(normalised).image * self.std + self.mean
