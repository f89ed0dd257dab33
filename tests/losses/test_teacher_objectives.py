"""Mean teacher and weak to strong, against naive computations on students that see one pixel at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scripts.losses.mean_teacher import MeanTeacherObjective
from scripts.losses.weak_to_strong import WeakToStrongObjective, complementary_channel_dropout
from scripts.transforms import view


def plain(**options: object) -> WeakToStrongObjective:
    """Nothing random, unless asked for."""
    defaults = {"complementary_dropout": 0.0, "cutmix": 0.0, "weak_view": view(), "strong_view": view()}
    return WeakToStrongObjective(**{**defaults, **options})


def softmax(logits: Tensor) -> np.ndarray:
    powers = np.exp(logits.detach().double().numpy())
    return powers / powers.sum(1, keepdims=True)


def naive_cross_entropy(student: np.ndarray, label: np.ndarray, kept: np.ndarray) -> float:
    """Over all pixels, whether kept or not."""
    total = 0.0
    for (batch, row, column), winner in np.ndenumerate(label):
        total -= kept[batch, row, column] * math.log(student[batch, winner, row, column])
    return total / label.size


def naive_dice(student: np.ndarray, label: np.ndarray, kept: np.ndarray) -> float:
    """Mean of 1 - Dice over the frames that have a kept lesion pixel."""
    losses = []
    for probability, truth, weight in zip(student[:, 1], label, kept, strict=True):
        if (truth * weight).sum() > 0:
            size = (probability * weight).sum() + (truth * weight).sum()
            losses.append(1 - 2 * (probability * truth * weight).sum() / size)
    return float(np.mean(losses)) if losses else 0.0


def grey(image: Tensor) -> Tensor:
    """Luma in all three channels."""
    return (0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]).expand_as(image)


def total_gradient(module: nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


# Mean teacher


def test_mean_teacher_of_equals_is_zero(tiny_student: Callable, frames: Tensor) -> None:
    student = tiny_student()
    output = MeanTeacherObjective(view(), view())(student, student, frames)
    assert output.loss.item() == 0.0 and output.loss.requires_grad and float(output.confident_share) == 1.0
    # Geometry is shared, so that it costs nothing, however strong.
    turned = MeanTeacherObjective(view(rotation=30, horizontal_flip=0.5), view())
    assert turned(student, student, frames).loss.item() == 0.0


def test_mean_teacher_by_hand(red_student: Callable) -> None:
    # Red 1: the student says sigmoid(1/2 k): k = 0 gives 1/2, k = 2 ln 3 gives 3/4. Both channels differ by 1/4.
    image = torch.ones(2, 3, 64, 64)
    student, teacher = red_student(0.0), red_student(2 * math.log(3))
    output = MeanTeacherObjective(view(), view())(student, teacher, image)
    assert output.loss.item() == pytest.approx(1 / 16, abs=1e-6)
    assert float(output.lesion_share) == 1.0
    output.loss.backward()
    assert student.sharpness.grad < 0 and teacher.sharpness.grad is None, "uphill for the student alone"


def test_mean_teacher_shares_geometry_but_not_colour(tiny_student: Callable, frames: Tensor) -> None:
    student, teacher = tiny_student(slope=1.0), tiny_student(slope=1.0)
    output = MeanTeacherObjective(view(horizontal_flip=1.0), view(grayscale=1.0))(student, teacher, frames)
    flipped = frames.flip(3)
    expected = np.square(softmax(student(grey(flipped))) - softmax(teacher(flipped))).mean()
    assert output.loss.item() == pytest.approx(expected, abs=1e-5) and expected > 1e-4


@pytest.mark.parametrize("objective", [MeanTeacherObjective, WeakToStrongObjective])
def test_without_a_teacher(tiny_student: Callable, frames: Tensor, objective: type) -> None:
    assert objective.needs_teacher
    with pytest.raises(ValueError, match=f"{objective.__name__} needs a teacher"):
        objective()(tiny_student(), None, frames)


# Weak to strong


@pytest.mark.parametrize("strong_views", [1, 2])
@pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
def test_threshold_one_half_keeps_all(tiny_student: Callable, frames: Tensor, strong_views: int, dice: float) -> None:
    student, teacher = tiny_student(), tiny_student(sharpness=8.0)
    output = plain(threshold=0.5, strong_views=strong_views, dice=dice)(student, teacher, frames)
    answers, label = softmax(student(frames)), softmax(teacher(frames)).argmax(1)
    assert 0 < label.mean() < 1
    kept = np.ones_like(label)
    cross_entropy, overlap = naive_cross_entropy(answers, label, kept), naive_dice(answers, label, kept)
    assert output.loss.item() == pytest.approx((1 - dice) * cross_entropy + dice * overlap, abs=1e-5)
    assert float(output.terms["pseudo_ce"]) == pytest.approx(cross_entropy, abs=1e-5)
    assert float(output.terms["pseudo_dice"]) == pytest.approx(overlap, abs=1e-5)
    assert float(output.confident_share) == 1.0 and float(output.lesion_share) == pytest.approx(label.mean())


def test_cross_entropy_is_divided_by_all_pixels(tiny_student: Callable, frames: Tensor) -> None:
    student, teacher = tiny_student(), tiny_student(sharpness=8.0)
    probability = softmax(teacher(frames))
    threshold = float(np.quantile(probability.max(1), 0.7))
    output = plain(threshold=threshold)(student, teacher, frames)
    answers, label = softmax(student(frames)), probability.argmax(1)
    kept = (probability.max(1) >= threshold).astype(float)
    expected = naive_cross_entropy(answers, label, kept)
    assert float(output.terms["pseudo_ce"]) == pytest.approx(expected, abs=1e-4)
    assert float(output.terms["pseudo_dice"]) == pytest.approx(naive_dice(answers, label, kept), abs=1e-4)
    assert float(output.confident_share) == pytest.approx(0.3, abs=0.01)
    assert float(output.terms["pseudo_ce"]) < 0.5 * expected / kept.mean(), "not by the 30 % that are kept"


def test_nothing_confident_is_zero_with_gradient(tiny_student: Callable, frames: Tensor) -> None:
    student = tiny_student()
    output = plain(threshold=0.9999)(student, tiny_student(), frames)
    assert output.loss.item() == 0.0 and float(output.confident_share) == 0.0 and output.loss.requires_grad
    output.loss.backward()
    assert all(p.grad is not None and p.grad.eq(0).all() for p in student.parameters())


def test_flip_averaging_is_the_mean_of_both_answers(tiny_student: Callable) -> None:
    """A teacher that is sure of the left half only: .9 there and .5 elsewhere, so that the mean is .7 everywhere."""

    class LeftHalf(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            logits = torch.zeros(len(image), 2, *image.shape[-2:])
            logits[:, 1, :, : image.shape[-1] // 2] = math.log(9)
            return logits

    frames = torch.rand(2, 3, 8, 8)
    for threshold, plain_share, averaged_share in ((0.65, 0.5, 1.0), (0.75, 0.5, 0.0)):
        once = plain(threshold=threshold)(tiny_student(), LeftHalf(), frames)
        twice = plain(threshold=threshold, flip_averaging=True)(tiny_student(), LeftHalf(), frames)
        assert float(once.confident_share) == plain_share and float(twice.confident_share) == averaged_share
    assert float(once.lesion_share) == 0.5 and float(twice.lesion_share) == 1.0


def test_teacher_is_not_trained(tiny_student: Callable, frames: Tensor) -> None:
    student, teacher = tiny_student(), tiny_student(sharpness=8.0)
    WeakToStrongObjective(threshold=0.5)(student, teacher, frames).loss.backward()
    assert all(p.requires_grad and p.grad is None for p in teacher.parameters())
    assert total_gradient(student) > 0 and math.isfinite(total_gradient(student))


def test_cutmix_moves_picture_and_pseudo_label_together(red_student: Callable) -> None:
    """A student that is right for each pixel stays right when pixels move, if their labels and weights move along."""
    image = torch.zeros(2, 3, 64, 64)
    image[0, 0] = (torch.rand(64, 64) > 0.5).float()
    image[1, 0] = (torch.rand(64, 64) > 0.2).float()
    student = red_student(100.0)
    for _ in range(5):
        output = plain(cutmix=1.0)(student, student, image)
        assert output.loss.item() == pytest.approx(0.0, abs=1e-5)


def test_cutmix_moves_the_confidence_along(red_student: Callable) -> None:
    # The second frame is unsure (red .5), the first sure and right: wherever the unsure pixels go, they cost nothing,
    # although an unsure pixel costs ln 2 if it counts.
    image = torch.zeros(2, 3, 64, 64)
    image[0, 0], image[1, 0] = 1.0, 0.5
    student = red_student(100.0)
    for _ in range(5):
        output = plain(cutmix=1.0, dice=0.0)(student, student, image)
        assert output.loss.item() == pytest.approx(0.0, abs=1e-6) and float(output.confident_share) == 0.5
    everything = plain(cutmix=1.0, dice=0.0, threshold=0.5)(student, student, image)
    assert everything.loss.item() > 0.1


def test_cutmix_really_mixes(tiny_student: Callable, frames: Tensor) -> None:
    seen: list[Tensor] = []
    student = tiny_student()
    student.fine.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0] + 0.5))
    plain(cutmix=1.0)(student, tiny_student(), frames)
    assert seen[0].shape == (4, 3, 64, 64), "both strong views in one pass"
    for strong, own, other in zip(seen[0], frames.repeat(2, 1, 1, 1), frames.flip(0).repeat(2, 1, 1, 1), strict=True):
        from_other = (strong - other).abs().amax(0) < 1e-5
        torch.testing.assert_close(strong[:, ~from_other], own[:, ~from_other])
        assert 0.01 < from_other.float().mean() < 0.41
    assert not torch.equal(seen[0][:2], seen[0][2:]), "the two strong views have boxes of their own"


def test_strong_changes_are_the_students(tiny_student: Callable, frames: Tensor) -> None:
    seen: dict[str, Tensor] = {}
    student, teacher = tiny_student(), tiny_student()
    student.fine.register_forward_pre_hook(lambda module, inputs: seen.update(student=inputs[0] + 0.5))
    teacher.fine.register_forward_pre_hook(lambda module, inputs: seen.update(teacher=inputs[0] + 0.5))
    plain(weak_view=view(horizontal_flip=1.0), strong_view=view(grayscale=1.0))(student, teacher, frames)
    torch.testing.assert_close(seen["teacher"], frames.flip(3))
    grey = 0.299 * frames[:, :1] + 0.587 * frames[:, 1:2] + 0.114 * frames[:, 2:]
    torch.testing.assert_close(
        seen["student"], grey.flip(3).expand(-1, 3, -1, -1).repeat(2, 1, 1, 1), atol=1e-3, rtol=0
    )


def test_softmatch_counts_every_pixel(tiny_student: Callable, frames: Tensor) -> None:
    objective = plain(weighting="softmatch")
    before = objective.weighting.mean.clone()
    output = objective.train()(tiny_student(), tiny_student(sharpness=8.0), frames)
    assert 0.5 < float(output.confident_share) <= 1.0 and output.loss.item() > 0
    assert not torch.equal(objective.weighting.mean, before)
    assert "weighting.mean" in objective.state_dict(), "kept for an exact resume"


def test_number_of_strong_views() -> None:
    with pytest.raises(ValueError, match="strong_views is 3; expected 1 or 2"):
        WeakToStrongObjective(strong_views=3)
    assert WeakToStrongObjective(strong_views=1, complementary_dropout=0.5).complementary_dropout == 0.0


def test_default_objective_is_seeded(tiny_student: Callable, frames: Tensor) -> None:
    student, teacher, objective = tiny_student(), tiny_student(sharpness=8.0), WeakToStrongObjective(threshold=0.6)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(objective(student, teacher, frames).loss.item())
    assert losses[0] == losses[1] != losses[2]


# Complementary channel dropout


def test_dropout_masks_are_complements() -> None:
    features = [torch.ones(8, 16, 8, 8), torch.ones(8, 24, 4, 4)]
    result = complementary_channel_dropout(features, share=1.0)
    for before, after in zip(features, result, strict=True):
        assert before.eq(1).all() and after.shape == before.shape
        assert set(after.unique().tolist()) == {0.0, 2.0}
        assert (after[:4] + after[4:]).eq(2).all()
        assert torch.equal(after, after[..., :1, :1].expand_as(after)), "whole channels"
    assert not torch.equal(result[0][0], result[0][1]), "each frame has a mask of its own"


def test_dropout_multiplies_the_values() -> None:
    features = [torch.rand(4, 16, 8, 8)]
    after = complementary_channel_dropout(features, share=1.0)[0]
    factor = after / features[0]
    torch.testing.assert_close(factor[:2] + factor[2:], torch.full((2, 16, 8, 8), 2.0))


def test_dropout_shares() -> None:
    features = [torch.ones(800, 16, 2, 2), torch.ones(800, 32, 1, 1)]
    assert all(after.eq(1).all() for after in complementary_channel_dropout(features, share=0.0))
    fine, coarse = complementary_channel_dropout(features, share=0.3)
    untouched = fine.eq(1).flatten(1).all(1)
    assert torch.equal(untouched, coarse.eq(1).flatten(1).all(1)), "a frame is changed on all maps or on none"
    assert torch.equal(untouched[:400], untouched[400:])
    # 400 frames: 0.3 +- 3.5 standard deviations; half of their 16 channels.
    assert 0.22 < 1 - untouched[:400].float().mean() < 0.38
    changed = fine[~untouched]
    assert not changed.eq(1).any() and 0.45 < changed.eq(0).float().mean() < 0.55


def test_dropout_keeps_the_type() -> None:
    assert complementary_channel_dropout([torch.ones(2, 4, 2, 2, dtype=torch.bfloat16)], 1.0)[0].dtype == torch.bfloat16
