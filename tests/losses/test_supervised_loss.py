"""The loss on labelled frames, by hand and against naive numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scripts.losses import supervised_loss


def probabilities(logits: torch.Tensor) -> np.ndarray:
    """Softmax (B, 2, H, W) in float64."""
    powers = np.exp(logits.detach().double().numpy())
    return powers / powers.sum(1, keepdims=True)


def naive(name: str, logits: torch.Tensor, target: torch.Tensor) -> float:
    """Pixel by pixel: cross-entropy or focal loss, plus 1 - Dice of the lesion over the whole batch."""
    softmax, truth = probabilities(logits), target[:, 0].long().numpy()
    pixel_losses, overlap, size = [], 0.0, 0.0
    for (batch, row, column), label in np.ndenumerate(truth):
        right = softmax[batch, label, row, column]
        focal = 0.5 * (1 - right) ** 2
        pixel_losses.append(-(focal if name == "dice_focal" else 1.0) * math.log(right))
        overlap += softmax[batch, 1, row, column] * label
        size += softmax[batch, 1, row, column] + label
    return float(np.mean(pixel_losses)) + 1 - (2 * overlap + 1e-5) / (size + 1e-5)


def test_two_pixels_by_hand() -> None:
    # p(lesion) is 3/4 on the lesion pixel and 1/5 on the other one.
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(3.0), -math.log(4.0)]]]])
    target = torch.tensor([[[[1, 0]]]])
    cross_entropy = -(math.log(3 / 4) + math.log(4 / 5)) / 2
    dice = 2 * 0.75 / (0.75 + 0.2 + 1)
    assert supervised_loss()(logits, target).item() == pytest.approx(cross_entropy + 1 - dice, abs=1e-5)
    focal = -0.5 * (0.25**2 * math.log(3 / 4) + 0.2**2 * math.log(4 / 5)) / 2
    assert supervised_loss("dice_focal")(logits, target).item() == pytest.approx(focal + 1 - dice, abs=1e-5)


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal"])
def test_like_a_naive_loop(name: str) -> None:
    logits, target = 3 * torch.randn(3, 2, 8, 6), torch.randint(0, 2, (3, 1, 8, 6))
    target[1] = 0  # one frame without lesion
    assert supervised_loss(name)(logits, target).item() == pytest.approx(naive(name, logits, target), abs=1e-4)


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal"])
def test_only_the_difference_of_logits_counts(name: str) -> None:
    """Both parts see the softmax, which does not change when the same is added to all classes."""
    logits, target = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 1, 8, 8))
    loss = supervised_loss(name)
    torch.testing.assert_close(loss(logits + 3.0, target), loss(logits, target))


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal"])
def test_batch_without_lesion(name: str) -> None:
    logits = torch.randn(2, 2, 8, 8, requires_grad=True)
    loss = supervised_loss(name)(logits, torch.zeros(2, 1, 8, 8, dtype=torch.long))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()
    # To predict less lesion is a step downhill.
    assert (logits.grad[:, 1] >= 0).all() and (logits.grad[:, 0] <= 0).all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal"])
def test_better_is_less_and_perfect_is_zero(name: str) -> None:
    target = torch.randint(0, 2, (2, 1, 8, 8))
    right = torch.cat([1.0 - target, target.float()], dim=1)
    losses = [supervised_loss(name)(scale * right, target).item() for scale in (-5.0, 0.0, 1.0, 5.0, 50.0)]
    assert losses == sorted(losses, reverse=True) and losses[-1] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", ["dice_ce", "dice_focal"])
def test_saturated_logits_have_a_finite_gradient(name: str) -> None:
    logits = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]]]], requires_grad=True)
    loss = supervised_loss(name)(logits, torch.tensor([[[[1, 1]]]]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="'dice_bce' is unknown; did you mean 'dice_ce'.*dice_focal"):
        supervised_loss("dice_bce")
    with pytest.raises(ValueError, match="did you mean 'dice_focal'"):
        supervised_loss("focal")
