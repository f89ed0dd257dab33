"""Supervised local contrast: pixels of one class are drawn together, pixels of different classes apart."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.tiled_contrast import TILE_MIB, Form, supervised_contrast

Mode = Literal["exact", "stride", "block"]
BACKGROUND = 0  # class index
IGNORED = 255  # label of pixels that take no part


class SupervisedLocalContrastiveLoss(nn.Module):
    """Supervised contrast over the pixels of a batch of embedding maps (Hu et al., MICCAI 2021, eq. 2 to 4).

    Anchors are the pixels of the foreground; positives are all other pixels of the anchor's class, in any picture of
    the batch and in either view; all pixels, the background too, stand in the denominator (see supervised_contrast).
    Computed in float32 whatever autocast says: exp(1/0.07) overflows half precision.

    Args:
        mode: which pixels meet. "exact": all of them. "stride": every ``stride``-th row and column. "block": those
            within the same ``block`` x ``block`` square, mean over the squares that hold anchors.
        stride: pixels of the map.
        block: pixels of the map, side of a square; squares at the right and lower border may be smaller.
        temperature: of the similarities, > 0 (0.1 in the released configuration).
        anchors_per_class: at most so many anchors of each class, drawn at random for each call (and each block); the
            pixels they are compared with stay. None = all.
        ignore_index: pixels of this label take no part.
        form: "supcon", or "ratio" as the paper prints it, see supervised_contrast.
        tile_mib: MiB of similarities held at a time.

    Raises:
        ValueError: options out of range; maps and labels that do not fit each other.
    """

    def __init__(
        self,
        mode: Mode = "block",
        stride: int = 4,
        block: int = 16,
        temperature: float = 0.1,
        anchors_per_class: int | None = None,
        ignore_index: int = IGNORED,
        form: Form = "supcon",
        tile_mib: float = TILE_MIB,
    ) -> None:
        super().__init__()
        if mode not in ("exact", "stride", "block"):
            raise ValueError(f"mode is {mode!r}; expected 'exact', 'stride' or 'block'.")
        if form not in ("supcon", "ratio"):
            raise ValueError(f"form is {form!r}; expected 'supcon' or 'ratio'.")
        if stride < 1 or block < 2:
            raise ValueError(f"stride is {stride}, block is {block}; expected at least 1 and 2 pixels.")
        if temperature <= 0 or tile_mib <= 0:
            raise ValueError(f"temperature is {temperature}, tile_mib is {tile_mib}; both must be above 0.")
        if anchors_per_class is not None and anchors_per_class < 1:
            raise ValueError(f"anchors_per_class is {anchors_per_class}; expected at least 1, or None for all.")
        self.mode = mode
        self.stride = stride
        self.block = block
        self.temperature = temperature
        self.anchors_per_class = anchors_per_class
        self.ignore_index = ignore_index
        self.form: Form = form
        self.tile_mib = tile_mib

    def forward(self, embedding: Tensor, label: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            embedding: (B, C, H, W), of any length; it is normalised here. Both views of a picture are in the batch.
            label: (B, 1, H, W) class index, 0 = background, at the size of the map.

        Returns:
            scalar; without two foreground pixels of one class a finite 0 with gradient.
        """
        if embedding.ndim != 4 or label.shape != (len(embedding), 1, *embedding.shape[2:]):
            raise ValueError(
                f"embedding is {tuple(embedding.shape)}, label {tuple(label.shape)}; expected (B, C, H, W) and "
                "(B, 1, H, W): bring the label to the size of the map by nearest neighbour."
            )
        with torch.autocast(embedding.device.type, enabled=False):
            if embedding.dtype not in (torch.float32, torch.float64):
                embedding = embedding.float()
            unit = functional.normalize(embedding, dim=1)
            losses = [self._contrast(*part) for part in self._parts(unit, label[:, 0])]
            counted = [loss for loss, anchors in losses if anchors]
            return torch.stack(counted).mean() if counted else unit.sum() * 0.0

    def _parts(self, unit: Tensor, label: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Maps (B, C, h, w) and labels (B, h, w) whose pixels meet; blocks without foreground are left out."""
        if self.mode == "exact":
            return [(unit, label)]
        if self.mode == "stride":
            return [(unit[..., :: self.stride, :: self.stride], label[..., :: self.stride, :: self.stride])]
        height, width = label.shape[1:]
        squares = [
            (slice(top, top + self.block), slice(left, left + self.block))
            for top in range(0, height, self.block)
            for left in range(0, width, self.block)
        ]
        foreground = (label != BACKGROUND) & (label != self.ignore_index)
        return [(unit[..., y, x], label[..., y, x]) for y, x in squares if foreground[..., y, x].any()]

    def _contrast(self, unit: Tensor, label: Tensor) -> tuple[Tensor, int]:
        classes = label.flatten()
        features = unit.permute(0, 2, 3, 1).flatten(0, 2)
        kept = classes != self.ignore_index
        features, classes = features[kept], classes[kept]
        return supervised_contrast(
            features, classes, self._anchors(classes), self.temperature, self.form, self.tile_mib
        )

    def _anchors(self, classes: Tensor) -> Tensor:
        """Indices of the pixels that are anchors."""
        if self.anchors_per_class is None:
            return (classes != BACKGROUND).nonzero()[:, 0]
        chosen = []
        for index in classes.unique().tolist():
            if index == BACKGROUND:
                continue
            own = (classes == index).nonzero()[:, 0]
            if len(own) > self.anchors_per_class:
                own = own[torch.randperm(len(own), device=own.device)[: self.anchors_per_class]]
            chosen.append(own)
        return torch.cat(chosen) if chosen else classes.new_empty(0, dtype=torch.long)
