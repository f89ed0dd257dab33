"""Dice of weighted pixels, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.losses.weighted_dice import weighted_dice_loss


def logits_of(probability: list[float]) -> Tensor:
    """(1, 2, 1, n) logits whose softmax gives these lesion probabilities."""
    lesion = torch.tensor(probability)
    return torch.stack([(1 - lesion).log(), lesion.log()]).view(1, 2, 1, -1)


def test_weighted_dice_by_hand() -> None:
    logits, target = logits_of([0.9, 0.6, 0.2, 0.5]), torch.tensor([[[1, 1, 0, 0]]])
    # All count: 2 * 1.5 / (2.2 + 2).
    assert weighted_dice_loss(logits, target, torch.ones(1, 1, 4)).item() == pytest.approx(1 - 3 / 4.2, abs=1e-4)
    # Second and fourth do not count: 2 * .9 / (1.1 + 1).
    weight = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])
    assert weighted_dice_loss(logits, target, weight).item() == pytest.approx(1 - 1.8 / 2.1, abs=1e-4)
    # Half weights: 2 * (.45 + .6) / (.45 + .6 + .1 + .5 + 1.5).
    weight = torch.tensor([[[0.5, 1.0, 0.5, 1.0]]])
    assert weighted_dice_loss(logits, target, weight).item() == pytest.approx(1 - 2.1 / 3.15, abs=1e-4)


def test_frames_without_kept_lesion_do_not_count() -> None:
    lesion, healthy = logits_of([0.9, 0.6, 0.2, 0.5]), logits_of([0.4, 0.4, 0.4, 0.4])
    logits = torch.cat([lesion, healthy, healthy]).requires_grad_()
    target = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])
    weight = torch.ones(3, 1, 4)
    weight[2, 0, 0] = 0.0  # its only lesion pixel is not trusted
    loss = weighted_dice_loss(logits, target, weight)
    assert loss.item() == pytest.approx(1 - 3 / 4.2, abs=1e-4)
    loss.backward()
    assert logits.grad[0].abs().sum() > 0 and logits.grad[1:].eq(0).all()


def test_no_lesion_anywhere_is_zero_with_gradient() -> None:
    logits = logits_of([0.4, 0.4]).requires_grad_()
    loss = weighted_dice_loss(logits, torch.zeros(1, 1, 2, dtype=torch.long), torch.ones(1, 1, 2))
    loss.backward()
    assert loss.item() == 0.0 and logits.grad.eq(0).all()
