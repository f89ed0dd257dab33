"""The contrastive losses as a person would write them down: a loop over anchors, a loop over the others."""

from __future__ import annotations

import torch
from torch import Tensor


def naive_contrast(features: Tensor, classes: Tensor, temperature: float, form: str = "supcon") -> Tensor | None:
    """Mean over foreground anchors that count, of (M, C) vectors and (M,) classes; None where no anchor counts."""
    unit = features / features.norm(dim=1, keepdim=True)
    losses = []
    for i in range(len(unit)):
        if classes[i] == 0:
            continue
        positive, negative = [], []
        for k in range(len(unit)):
            if k != i:
                similarity = (unit[i] * unit[k]).sum() / temperature
                (positive if classes[k] == classes[i] else negative).append(similarity)
        if not positive or (form == "ratio" and not negative):
            continue
        near = torch.stack(positive)
        if form == "ratio":
            loss = -(near.logsumexp(0) - torch.stack(negative).logsumexp(0)) / len(positive)
        else:
            loss = -(near - torch.stack(positive + negative).logsumexp(0)).sum() / len(positive)
        losses.append(loss)
    return torch.stack(losses).mean() if losses else None


def naive_map_contrast(embedding: Tensor, label: Tensor, temperature: float, form: str = "supcon") -> Tensor | None:
    """The same over all pixels of maps (B, C, H, W) with labels (B, 1, H, W); label 255 is left out."""
    pixels = [
        (embedding[b, :, y, x], label[b, 0, y, x])
        for b in range(len(embedding))
        for y in range(embedding.shape[2])
        for x in range(embedding.shape[3])
        if label[b, 0, y, x] != 255
    ]
    if not pixels:
        return None
    return naive_contrast(
        torch.stack([one for one, _ in pixels]), torch.stack([one for _, one in pixels]), temperature, form
    )
