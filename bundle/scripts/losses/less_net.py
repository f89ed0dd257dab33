"""LESS-Net's similarity-based contrast with consistency, corrected: views that lie over each other, a bounded space."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.masked import masked_mse
from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.transforms.views import view

PADDING = 32  # pixels; the network pads to a multiple of it


class LessNetObjective(Objective):
    """L = MSE(z0, zw) + a max(0, m - MSE(z0, zs)) + b max(0, m - MSE(zw, zs))   (LESS-Net, Front. Physiol. 2025).

    z0, zw and zs are the network's answers to a frame as it is, weakly and strongly changed. The released code compares
    pixels that do not correspond, since it does not undo flips and rotations; here zw and zs are brought back to the
    frame's own grid and only pixels that all views show are compared. The released code compares unbounded logits, so
    that its hinges shut off early; ``space="softmax"`` is bounded: for two classes the MSE lies in 0..1, hence the
    smaller margin (m = 1 would ask for total disagreement).

    Args:
        dissimilarity_frame: a, weight of the hinge between the frame and its strong view.
        dissimilarity_weak: b, weight of the hinge between weak and strong view.
        margin: m, in squared units of ``space``.
        space: "softmax" (0..1), "logits" (unbounded, as released) or "features" (the coarsest map, MSE = 2 - 2 cos of
            its vectors, 0..4 whatever their length).
        flips: whether the default views mirror frames.
        weak_view, strong_view: random views; by default the published strengths (but little hue: colour is the signal),
            with colours changed in four frames of five.
    """

    def __init__(
        self,
        dissimilarity_frame: float = 0.5,
        dissimilarity_weak: float = 1.0,
        margin: float = 0.02,
        space: Literal["softmax", "logits", "features"] = "softmax",
        weak_view: nn.Module | None = None,
        strong_view: nn.Module | None = None,
        flips: bool = True,
    ) -> None:
        super().__init__()
        if space not in ("softmax", "logits", "features"):
            raise ValueError(f"LessNetObjective: space '{space}' is unknown; expected softmax, logits or features.")
        self.dissimilarity_frame = dissimilarity_frame
        self.dissimilarity_weak = dissimilarity_weak
        self.margin = margin
        self.space = space
        mirror = 0.5 if flips else 0.0
        self.weak_view = weak_view or view(horizontal_flip=mirror, brightness=0.2, contrast=0.2)
        self.strong_view = strong_view or view(
            horizontal_flip=mirror, rotation=20, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05
        )

    def forward(self, student: nn.Module, teacher: nn.Module | None, image: Tensor) -> ObjectiveOutput:
        """See Objective; the teacher is not used."""
        size = (image.shape[-2], image.shape[-1])
        weak, strong = self.weak_view(image), self.strong_view(image)
        # One pass over the three views: BatchNorm sees them together, as it will see frames of any look.
        features = student.encode(torch.cat([image, weak.image, strong.image]))
        logits = student.decode(features, size)
        maps = self._to_space(logits, features[-1], size)
        frame_map, weak_map, strong_map = maps.chunk(3)
        weak_map, weak_valid = weak.undo(weak_map)
        strong_map, strong_valid = strong.undo(strong_map)

        consistency = masked_mse(frame_map, weak_map, weak_valid)
        frame_strong = masked_mse(frame_map, strong_map, strong_valid)
        weak_strong = masked_mse(weak_map, strong_map, weak_valid * strong_valid)
        loss = (
            consistency
            + self.dissimilarity_frame * functional.relu(self.margin - frame_strong)
            + self.dissimilarity_weak * functional.relu(self.margin - weak_strong)
        )
        with torch.no_grad():
            lesion = logits[: len(image)].argmax(1).ne(0).float().mean()
            open_hinges = (frame_strong < self.margin).float() / 2 + (weak_strong < self.margin).float() / 2
        terms = {"consistency": consistency.detach(), "hinges_open": open_hinges}
        return ObjectiveOutput(loss, lesion, weak_valid.mean(), terms)

    def _to_space(self, logits: Tensor, features: Tensor, size: tuple[int, int]) -> Tensor:
        if self.space == "softmax":
            return torch.softmax(logits.float(), dim=1)
        if self.space == "logits":
            return logits.float()
        if size[0] % PADDING or size[1] % PADDING:
            raise ValueError(
                f"LessNetObjective in the space of features needs frames whose sides are multiples of {PADDING}, where "
                f"the network does not pad; found {size[0]}x{size[1]}. Set --image_size to one."
            )
        # By sqrt(C), since the MSE is a mean over channels: unit vectors of 320 could not be further apart than .0125.
        unit = functional.normalize(features.float(), dim=1) * features.shape[1] ** 0.5
        return functional.interpolate(unit, size=size, mode="bilinear", align_corners=False)
