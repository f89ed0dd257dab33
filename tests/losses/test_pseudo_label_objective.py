"""Training on pseudo-labels: against the supervised formulae, and what the weight of a frame does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.io.mask_reader import UNKNOWN
from scripts.losses import build_objective
from scripts.losses.pseudo_labels import PseudoLabelObjective
from scripts.transforms import view

STILL = view()  # the frame as it is


class Given(nn.Module):
    """Logits that are given, moved by one parameter."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits, self.shift = logits, nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        return self.logits + self.shift * torch.tensor([-1.0, 1.0])[:, None, None]


def batch(frames: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    target = torch.zeros(frames, 1, 8, 10, dtype=torch.uint8)
    target[0, 0, 2:5, 3:8] = 1
    target[1, 0, :, :4] = 1  # and the others have no lesion
    return torch.rand(frames, 3, 8, 10), target, torch.randn(frames, 2, 8, 10)


def test_with_full_weight_it_is_cross_entropy_and_the_dice_of_frames_with_a_lesion() -> None:
    image, target, logits = batch()
    found = PseudoLabelObjective(dice=0.25, view=STILL)(Given(logits), None, image, target, torch.ones(3))
    cross_entropy = functional.cross_entropy(logits, target[:, 0].long())
    lesion = logits.softmax(1)[:, 1]
    dice = [1 - 2 * (lesion[k] * target[k, 0]).sum() / (lesion[k].sum() + target[k, 0].sum()) for k in range(2)]
    expected = 0.75 * cross_entropy + 0.25 * sum(dice) / 2
    torch.testing.assert_close(found.loss, expected, atol=1e-5, rtol=0)
    assert found.lesion_share == pytest.approx((15 + 32) / 240) and found.confident_share == 1.0


def test_a_frame_counts_by_its_weight() -> None:
    image, target, logits = batch()
    objective = PseudoLabelObjective(view=STILL)

    def loss(weight: list[float]) -> float:
        return objective(Given(logits), None, image, target, torch.tensor(weight)).loss.item()

    parts = [loss([1.0, 0.0, 0.0]), loss([0.0, 1.0, 0.0]), loss([0.0, 0.0, 1.0])]
    assert loss([1.0, 1.0, 1.0]) == pytest.approx(sum(parts), abs=1e-5)
    assert loss([0.5, 0.2, 0.9]) == pytest.approx(0.5 * parts[0] + 0.2 * parts[1] + 0.9 * parts[2], abs=1e-5)
    assert loss([0.0, 0.0, 0.0]) == 0.0


def test_unknown_pixels_do_not_count() -> None:
    image, target, logits = (part[:1] for part in batch())
    objective, known = PseudoLabelObjective(dice=0.5, view=STILL), target.clone()
    known[0, 0, 4:, 5:] = UNKNOWN  # of the 15 pixels of lesion 3
    found = objective(Given(logits), None, image, known, torch.ones(1))
    counts = known[:, 0] != UNKNOWN
    cross_entropy = functional.cross_entropy(logits, target[:, 0].long(), reduction="none")[counts].mean()
    lesion, truth = logits.softmax(1)[:, 1][counts], target[:, 0][counts]
    dice = 1 - 2 * (lesion * truth).sum() / (lesion.sum() + truth.sum())
    torch.testing.assert_close(found.loss, 0.5 * cross_entropy + 0.5 * dice, atol=1e-5, rtol=0)
    assert found.lesion_share == pytest.approx(12 / 60)
    other = logits.clone()
    other[:, :, 4:, 5:] += 5 * torch.randn(1, 2, 4, 5)
    assert objective(Given(other), None, image, known, torch.ones(1)).loss == found.loss


def test_what_a_rotation_makes_up_does_not_count() -> None:
    """On a frame that is zoomed out to half its side, a quarter of the pixels are the frame."""
    target = torch.ones(1, 1, 32, 32, dtype=torch.uint8)
    objective = PseudoLabelObjective(view=view(scale=(0.5, 0.5)))
    found = objective(Given(torch.zeros(1, 2, 32, 32)), None, torch.rand(1, 3, 32, 32), target, torch.ones(1))
    assert found.lesion_share == pytest.approx(1.0), "of the valid ones"


def test_the_gradient_follows_the_pseudo_label() -> None:
    image, _, logits = (part[:1] for part in batch())
    for value, sign in ((1, -1), (0, 1)):
        network = Given(logits[:1])
        target = torch.full((1, 1, 8, 10), value, dtype=torch.uint8)
        PseudoLabelObjective(view=STILL)(network, None, image, target, torch.ones(1)).loss.backward()
        assert network.shift.grad.sign() == sign


def test_frames_without_pseudo_labels_are_refused() -> None:
    image, target, logits = batch()
    with pytest.raises(ValueError, match=r"needs pseudo_label \(B, 1, H, W\) and weight"):
        build_objective("pseudo_labels")(Given(logits), None, image)
    with pytest.raises(ValueError, match="dice is 2"):
        build_objective("pseudo_labels", {"dice": 2})
