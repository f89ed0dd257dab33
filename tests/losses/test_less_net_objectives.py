"""LESS-Net's contrast: the corrected form, the released form, and the fault between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.losses.less_net import LessNetObjective
from scripts.losses.less_net_published import LessNetPublishedObjective
from scripts.losses.masked import masked_mse
from scripts.transforms import view

A, B = 0.5, 1.0


def no_change() -> dict[str, nn.Module]:
    return {"weak_view": view(), "strong_view": view()}


def flips() -> dict[str, nn.Module]:
    return {"weak_view": view(horizontal_flip=1.0), "strong_view": view(vertical_flip=1.0)}


def without_colour(published: LessNetPublishedObjective, views: dict[str, nn.Module]) -> LessNetPublishedObjective:
    """The released form with these views and a normalisation that changes nothing in 0..1."""
    published.weak_view, published.strong_view = views["weak_view"], views["strong_view"]
    return published


def answer(student: nn.Module, image: Tensor, space: str) -> Tensor:
    """The map that is compared, computed apart from the objective."""
    if space == "logits":
        return student(image)
    if space == "softmax":
        powers = student(image).exp()
        return powers / powers.sum(1, keepdim=True)
    coarse = student.encode(image)[-1]
    unit = coarse / coarse.square().mean(1, keepdim=True).sqrt()
    return functional.interpolate(unit, size=image.shape[-2:], mode="bilinear", align_corners=False)


def contrast(frame: Tensor, weak: Tensor, strong: Tensor, margin: float) -> float:
    """The formula of methods.md A.2 over three maps that lie over each other."""
    frame_strong = (frame - strong).square().mean().item()
    weak_strong = (weak - strong).square().mean().item()
    hinges = A * max(0.0, margin - frame_strong) + B * max(0.0, margin - weak_strong)
    return (frame - weak).square().mean().item() + hinges


def gradients(module: nn.Module) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def test_masked_mse_by_hand() -> None:
    first = torch.zeros(1, 2, 1, 3)
    second = torch.tensor([[[[1.0, 2.0, 100.0]], [[3.0, 0.0, 100.0]]]])
    # Pixels: (1 + 9) / 2 = 5 and (4 + 0) / 2 = 2; the third does not count.
    assert masked_mse(first, second, torch.tensor([[[[1.0, 1.0, 0.0]]]])).item() == 3.5
    assert masked_mse(first, second, torch.tensor([[[[1.0, 0.0, 0.0]]]])).item() == 5.0


def test_masked_mse_of_nothing_is_zero_with_gradient() -> None:
    first = torch.rand(2, 2, 4, 4, requires_grad=True)
    loss = masked_mse(first, torch.rand(2, 2, 4, 4), torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert loss.item() == 0 and first.grad.eq(0).all()


@pytest.mark.parametrize("space", ["softmax", "logits", "features"])
@pytest.mark.parametrize("margin", [0.02, 1.0])
def test_without_change_only_the_hinges_are_left(
    tiny_student: Callable, frames: Tensor, space: str, margin: float
) -> None:
    student = tiny_student(slope=2.0)
    output = LessNetObjective(A, B, margin, space, **no_change())(student, None, frames)
    assert float(output.terms["consistency"]) == pytest.approx(0.0, abs=1e-8)
    assert output.loss.item() == pytest.approx(A * margin + B * margin, abs=1e-6)
    assert float(output.terms["hinges_open"]) == 1.0 and float(output.confident_share) == 1.0
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(student))


@pytest.mark.parametrize("space", ["softmax", "logits", "features"])
def test_like_a_naive_computation(tiny_student: Callable, frames: Tensor, space: str) -> None:
    """Weak view flipped left to right, strong view darkened and upside down; the slope makes the answers differ."""
    student, margin = tiny_student(slope=0.3), 0.3

    class Darker(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return 0.5 * image

    views = flips()
    views["strong_view"].photometry.append(Darker())
    output = LessNetObjective(A, B, margin, space, **views)(student, None, frames)
    frame = answer(student, frames, space)
    weak = answer(student, frames.flip(3), space).flip(3)
    strong = answer(student, 0.5 * frames.flip(2), space).flip(2)
    if space == "features":
        # The taps are flips of each other; the slope enters after them.
        torch.testing.assert_close(frame, weak, atol=1e-5, rtol=0)
    else:
        assert (frame - weak).square().mean() > 1e-3
    assert output.loss.item() == pytest.approx(contrast(frame, weak, strong, margin), abs=1e-5)
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(student))
    assert sum(float(gradient.abs().sum()) for gradient in gradients(student)) > 0


def test_readings(red_student: Callable) -> None:
    # Red over one half in the left quarter of the frames.
    image = torch.zeros(2, 3, 64, 64)
    image[..., :16] = 0.8
    output = LessNetObjective(**flips())(red_student(4.0), None, image)
    assert float(output.lesion_share) == 0.25
    assert not output.lesion_share.requires_grad and not output.terms["consistency"].requires_grad


def test_flips_are_undone_in_the_corrected_form_only(tiny_student: Callable, frames: Tensor) -> None:
    """The fault of the released code: a student that answers a flip by a flip is right, and must not be punished."""
    student = tiny_student(sharpness=5.0)
    frame, weak, strong = student(frames), student(frames.flip(3)), student(frames.flip(2))
    torch.testing.assert_close(weak, frame.flip(3), atol=1e-4, rtol=0)

    corrected = LessNetObjective(A, B, 1.0, "logits", **flips())(student, None, frames)
    assert float(corrected.terms["consistency"]) == pytest.approx(0.0, abs=1e-6)
    assert corrected.loss.item() == pytest.approx((A + B) * 1.0, abs=1e-4)

    published = without_colour(LessNetPublishedObjective((0.0,) * 3, (1.0,) * 3), flips())(student, None, frames)
    assert float(published.terms["consistency"]) > 0.01
    flipped_apart = (frame - frame.flip(3)).square().mean().item()
    assert float(published.terms["consistency"]) == pytest.approx(flipped_apart, abs=1e-4)
    assert published.loss.item() == pytest.approx(contrast(frame, weak, strong, 1.0), abs=1e-4)


def test_random_geometry_is_undone(red_student: Callable) -> None:
    """Rotation and zoom, too: a student that sees single pixels has no consistency loss on a smooth frame."""
    student = red_student(5.0)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    frames = torch.stack([(rows + columns) / 2, rows, columns]).expand(4, 3, 64, 64)
    turned = {"weak_view": view(rotation=20, scale=(0.9, 1.2)), "strong_view": view(rotation=20)}
    corrected = LessNetObjective(margin=1.0, space="logits", **turned)(student, None, frames)
    published = without_colour(LessNetPublishedObjective((0.0,) * 3, (1.0,) * 3), turned)(student, None, frames)
    assert 0.4 < float(corrected.confident_share) < 1.0
    assert float(corrected.terms["consistency"]) < 1e-5 and float(published.terms["consistency"]) > 0.01
    assert corrected.loss.item() == pytest.approx(A + B, abs=1e-4)


def test_published_formula(tiny_student: Callable, frames: Tensor) -> None:
    """Colours are clamped after normalisation, hence the weak view is not the frame, even without any change."""
    student = tiny_student(slope=0.3)
    published = LessNetPublishedObjective()
    published.weak_view, published.strong_view = flips().values()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    clamped = ((frames - mean) / std).clamp(0, 1) * std + mean
    assert (clamped - frames).abs().max() > 0.3
    weak, strong = student(clamped.flip(3)), student(clamped.flip(2))
    output = published(student, None, frames)
    assert output.loss.item() == pytest.approx(contrast(student(frames), weak, strong, 1.0), abs=1e-5)
    output.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(student))


def test_hinges_of_unbounded_logits_shut_off(tiny_student: Callable, frames: Tensor) -> None:
    """The third fault: once the logits have grown, plain MSE is left; softmax is bounded."""
    student = tiny_student(sharpness=100.0)
    published = without_colour(LessNetPublishedObjective((0.0,) * 3, (1.0,) * 3), flips())(student, None, frames)
    assert published.loss.item() == pytest.approx(float(published.terms["consistency"])) and published.loss.item() > 1
    bounded = LessNetObjective(margin=1.0, **no_change())(student, None, frames)
    assert float(bounded.terms["hinges_open"]) == 1.0


@pytest.mark.parametrize("objective", [LessNetObjective, LessNetPublishedObjective])
def test_default_views_are_random_and_seeded(tiny_student: Callable, frames: Tensor, objective: type) -> None:
    student, built = tiny_student(), objective()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(built(student, None, frames).loss.item())
    assert losses[0] == losses[1] != losses[2]


def test_unknown_space() -> None:
    with pytest.raises(ValueError, match="space 'cosine' is unknown; expected softmax, logits or features"):
        LessNetObjective(space="cosine")
