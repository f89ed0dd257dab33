"""NT-Xent against MONAI's own, a loop, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import ContrastiveLoss

from scripts.losses import GlobalContrastiveLoss, SupervisedContrastiveLoss


def make_views(batch: int, channels: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    first = torch.randn(batch, channels, generator=generator)
    return first, first + 0.5 * torch.randn(batch, channels, generator=generator)


@pytest.mark.parametrize("batch", [2, 7, 120])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_it_is_monais_number_and_gradient(batch, temperature):
    first, second = make_views(batch)
    first.requires_grad_()
    ours = GlobalContrastiveLoss(temperature)(first, second)
    (gradient,) = torch.autograd.grad(ours, first)
    theirs = ContrastiveLoss(temperature=temperature)(first, second)
    (right,) = torch.autograd.grad(theirs, first)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-6)


def test_by_hand_two_pictures_at_right_angles():
    # Each view's positive is itself (similarity 1), its two negatives are at 0: log(1 + 2 exp(-1/t)).
    first = torch.eye(2)
    assert GlobalContrastiveLoss(0.5)(first, first).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), abs=1e-6)


def test_it_is_the_loop():
    first, second = make_views(5)
    both = torch.nn.functional.normalize(torch.cat([first.double(), second.double()]), dim=1)
    total = 0.0
    for i in range(10):
        similarity = {k: float(both[i] @ both[k]) / 0.3 for k in range(10) if k != i}
        total -= similarity[(i + 5) % 10] - math.log(sum(math.exp(value) for value in similarity.values()))
    found = GlobalContrastiveLoss(0.3)(first.double(), second.double())
    assert found.item() == pytest.approx(total / 10, abs=1e-10)


def test_order_and_swapped_views_do_not_matter():
    first, second = make_views(9)
    order = torch.randperm(9)
    loss = GlobalContrastiveLoss()
    torch.testing.assert_close(loss(first, second), loss(second[order], first[order]))


def test_a_batch_of_a_gpu_runs():
    first, second = make_views(2048, 128)
    first.requires_grad_()
    loss = GlobalContrastiveLoss(0.5)(first, second)
    loss.backward()
    assert torch.isfinite(loss) and first.grad.abs().sum() > 0


def test_half_precision_is_left():
    first, second = make_views(64)
    found = GlobalContrastiveLoss(0.05)(first.half(), second.half())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(GlobalContrastiveLoss(0.05)(first, second).item(), rel=2e-2)


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (torch.randn(1, 4), torch.randn(1, 4), "at least 2"),
        (torch.randn(3, 4), torch.randn(2, 4), r"\(B, C\) twice"),
        (torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), r"\(B, C\) twice"),
    ],
)
def test_what_does_not_fit_is_refused(first, second, named):
    with pytest.raises(ValueError, match=named):
        GlobalContrastiveLoss()(first, second)


def test_options_out_of_range_are_named():
    with pytest.raises(ValueError, match="temperature"):
        GlobalContrastiveLoss(temperature=-1)


def test_a_picture_that_is_drawn_twice_is_not_drawn_apart_from_itself():
    # All four views are one picture's and equal: of three others each is a positive with a share of 1/3.
    same = torch.ones(2, 3)
    assert GlobalContrastiveLoss()(same, same, torch.tensor([5, 5])).item() == pytest.approx(math.log(3), abs=1e-6)
    first, second = make_views(6)
    picture = torch.tensor([0, 1, 2, 0, 3, 2])
    found = GlobalContrastiveLoss(0.3)(first, second, picture)
    torch.testing.assert_close(found, SupervisedContrastiveLoss(0.3)(first, second, picture.float()))
    torch.testing.assert_close(
        GlobalContrastiveLoss()(first, second, torch.arange(6)), GlobalContrastiveLoss()(first, second)
    )
    assert abs(found - GlobalContrastiveLoss(0.3)(first, second)) > 0.01
    ungraded = torch.full((6,), math.nan)
    torch.testing.assert_close(SupervisedContrastiveLoss(0.3)(first, second, ungraded, picture), found)
