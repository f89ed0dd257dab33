"""Distribution alignment: by hand, its fixed point, and what it does to the pseudo-labels of weak_to_strong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scripts.losses import build_objective
from scripts.losses.alignment import DistributionAlignment
from scripts.losses.weak_to_strong import WeakToStrongObjective
from scripts.transforms import view


def answer(lesion: list[float]) -> Tensor:
    """(1, 2, 1, W) of these lesion probabilities."""
    row = torch.tensor(lesion)
    return torch.stack([1 - row, row])[None, :, None]


def test_by_hand() -> None:
    alignment = DistributionAlignment([0.8, 0.2], momentum=0.5)
    probability, valid = answer([0.9, 0.3, 1.0]), torch.tensor([[[1.0, 1.0, 0.0]]])
    # The mean of the two valid pixels is .6, half way from .2 to it .4; so lesion counts .2 / .4, background .8 / .6.
    expected = answer([0.45 / (0.45 + 0.4 / 3), 0.15 / (0.15 + 2.8 / 3), 1.0])
    torch.testing.assert_close(alignment(probability, valid), expected)
    torch.testing.assert_close(alignment.mean, torch.tensor([0.6, 0.4]))


def test_nothing_changes_where_the_shares_are_right() -> None:
    alignment = DistributionAlignment([0.7, 0.3])
    probability = answer([0.1, 0.5, 0.3])
    for _ in range(3):
        torch.testing.assert_close(alignment(probability, torch.ones(1, 1, 3)), probability)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_shares_come_nearer_to_those_of_the_masks(classes: int) -> None:
    torch.manual_seed(0)
    target = torch.linspace(1, 2, classes) / torch.linspace(1, 2, classes).sum()
    alignment = DistributionAlignment(target.tolist(), momentum=0.0)
    probability = torch.softmax(torch.randn(2, classes, 16, 16) + torch.arange(classes).flip(0)[:, None, None], dim=1)
    aligned = alignment(probability, torch.ones(2, 16, 16))
    torch.testing.assert_close(aligned.sum(dim=1), torch.ones(2, 16, 16))
    before, after = (each.mean(dim=(0, 2, 3)) - target for each in (probability, aligned))
    assert after.abs().sum() < before.abs().sum() / 2


def test_it_moves_in_training_mode_only_and_keeps_its_state() -> None:
    first, second = DistributionAlignment([0.9, 0.1]), DistributionAlignment([0.9, 0.1])
    first.eval()(answer([0.9]), torch.ones(1, 1, 1))
    assert torch.equal(first.mean, second.mean)
    first.train()(answer([0.9]), torch.ones(1, 1, 1))
    assert not torch.equal(first.mean, second.mean)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.mean, second.mean)


def test_a_class_that_is_never_seen_stays_finite() -> None:
    alignment = DistributionAlignment([0.5, 0.5], momentum=0.0)
    assert alignment(answer([0.0, 0.0]), torch.ones(1, 1, 2)).isfinite().all()


@pytest.mark.parametrize("shares", [[1.0, 0.0], [0.5, 0.6], [1.0], [1.2, -0.2], [float("nan"), 0.5]])
def test_shares_that_are_none(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="expected a share above 0 for each class.*@train#class_shares"):
        DistributionAlignment(shares)


def test_one_share_for_each_class() -> None:
    with pytest.raises(ValueError, match="class_shares has 3 numbers; expected one for each of 2 classes"):
        build_objective("weak_to_strong", {"class_shares": [0.5, 0.3, 0.2]}, classes=2)


def test_fewer_lesions_are_taught_where_masks_have_few(tiny_student: Callable, frames: Tensor) -> None:
    student, teacher = tiny_student(), tiny_student(sharpness=2.0)
    still = {"complementary_dropout": 0.0, "cutmix": 0.0, "weak_view": view(), "strong_view": view()}
    as_ever = WeakToStrongObjective(**still)(student, teacher, frames)
    objective = WeakToStrongObjective(**still, class_shares=[0.95, 0.05])
    objective.alignment.momentum = 0.0
    output = objective(student, teacher, frames)
    assert 0.05 < float(as_ever.lesion_share) and float(output.lesion_share) < float(as_ever.lesion_share) / 2
