"""Supervised local contrast against a double loop, by hand, and by its properties."""

from __future__ import annotations

import math

import pytest
import torch
from naive_contrast import naive_map_contrast

from scripts.losses import SupervisedLocalContrastiveLoss
from scripts.losses.tiled_contrast import supervised_contrast


def make_maps(
    batch: int = 4, channels: int = 5, height: int = 6, width: int = 7, classes: int = 3, dtype=torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random embeddings that want a gradient, and random labels with a few ignored pixels."""
    generator = torch.Generator().manual_seed(3)
    embedding = torch.randn(batch, channels, height, width, generator=generator, dtype=dtype).requires_grad_()
    label = torch.randint(0, classes, (batch, 1, height, width), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.1] = 255
    return embedding, label


def value_and_gradient(loss: torch.Tensor, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    (gradient,) = torch.autograd.grad(loss, embedding)
    return loss.detach(), gradient


@pytest.mark.parametrize("form", ["supcon", "ratio"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("tile_mib", [1e-4, 8.0], ids=["many tiles", "one tile"])
def test_exact_mode_is_the_double_loop(form, dtype, tolerance, tile_mib):
    embedding, label = make_maps(dtype=dtype)
    loss = SupervisedLocalContrastiveLoss("exact", temperature=0.1, form=form, tile_mib=tile_mib)(embedding, label)
    expected = naive_map_contrast(embedding, label, 0.1, form)
    value, gradient = value_and_gradient(loss, embedding)
    right_value, right_gradient = value_and_gradient(expected, embedding)
    torch.testing.assert_close(value, right_value, rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, right_gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stride_mode_is_the_double_loop_over_its_own_pixels(dtype):
    embedding, label = make_maps(height=9, width=8, dtype=dtype)
    value, gradient = value_and_gradient(
        SupervisedLocalContrastiveLoss("stride", stride=3, temperature=0.2)(embedding, label), embedding
    )
    expected = naive_map_contrast(embedding[..., [0, 3, 6], :][..., [0, 3, 6]], label[..., ::3, ::3], 0.2)
    right_value, right_gradient = value_and_gradient(expected, embedding)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(value, right_value, rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, right_gradient, rtol=0, atol=tolerance)
    assert not gradient[..., 1, :].any()  # a row between


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_block_mode_is_the_mean_of_double_loops_over_blocks_that_hold_foreground(dtype):
    embedding, label = make_maps(height=7, width=6, dtype=dtype)  # blocks of 4 and of 3 rows, of 4 and of 2 columns
    label[..., :4, 4:] = 0  # one block without foreground: it must not pull the mean down
    blocks = [(slice(0, 4), slice(0, 4)), (slice(4, 7), slice(0, 4)), (slice(4, 7), slice(4, 6))]
    expected = torch.stack([naive_map_contrast(embedding[..., y, x], label[..., y, x], 0.1) for y, x in blocks]).mean()
    loss = SupervisedLocalContrastiveLoss("block", block=4, temperature=0.1)(embedding, label)
    value, gradient = value_and_gradient(loss, embedding)
    right_value, right_gradient = value_and_gradient(expected, embedding)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(value, right_value, rtol=0, atol=tolerance)
    torch.testing.assert_close(gradient, right_gradient, rtol=0, atol=tolerance)


def test_gradient_is_that_of_finite_differences():
    embedding, label = make_maps(batch=2, height=3, width=3, channels=3)
    for form in ("supcon", "ratio"):
        loss = SupervisedLocalContrastiveLoss("exact", temperature=0.5, form=form)
        assert torch.autograd.gradcheck(lambda maps, loss=loss: loss(maps, label), (embedding,))


def test_by_hand_two_lesion_pixels_and_one_of_background():
    # Two equal lesion vectors, background at a right angle: each anchor has similarities 1/t and 0.
    embedding = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).reshape(1, 2, 1, 3)
    label = torch.tensor([1, 1, 0]).reshape(1, 1, 1, 3)
    loss = SupervisedLocalContrastiveLoss("exact", temperature=0.5)(embedding, label)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.0)), abs=1e-6)
    ratio = SupervisedLocalContrastiveLoss("exact", temperature=0.5, form="ratio")(embedding, label)
    assert ratio.item() == pytest.approx(-2.0, abs=1e-6)  # below 0 already: not bounded


def test_equal_vectors_cost_the_logarithm_of_the_number_of_others():
    label = torch.tensor([0, 1, 1, 2, 2, 2]).reshape(1, 1, 2, 3)
    loss = SupervisedLocalContrastiveLoss("exact", temperature=0.07)(torch.ones(1, 4, 2, 3), label)
    assert loss.item() == pytest.approx(math.log(5), abs=1e-5)


def test_background_is_no_anchor_but_stands_in_the_denominator():
    embedding, label = make_maps(classes=2)
    loss = SupervisedLocalContrastiveLoss("exact")
    with_background = loss(embedding, label)
    without = loss(embedding, label.masked_fill(label == 0, 255))
    assert without < with_background  # fewer others to be told from
    only_background = loss(embedding, torch.zeros_like(label))
    assert only_background.item() == 0.0


def test_ignored_pixels_have_no_part():
    embedding, label = make_maps()
    changed = torch.where(label == 255, torch.randn_like(embedding), embedding)
    loss = SupervisedLocalContrastiveLoss("block", block=3)
    torch.testing.assert_close(loss(embedding, label), loss(changed, label))
    _, gradient = value_and_gradient(loss(embedding, label), embedding)
    assert not gradient[(label == 255).expand_as(gradient)].any()
    assert gradient[(label == 1).expand_as(gradient)].any()


@pytest.mark.parametrize("mode", ["exact", "stride", "block"])
@pytest.mark.parametrize("pixels", [0, 1], ids=["no lesion", "one pixel of lesion"])
def test_fewer_than_two_anchors_give_a_finite_zero_with_gradient(mode, pixels):
    embedding = torch.randn(2, 3, 8, 8, requires_grad=True)
    label = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    label[0, 0, 0, :pixels] = 1
    loss = SupervisedLocalContrastiveLoss(mode, block=4)(embedding, label)
    loss.backward()
    assert loss.item() == 0.0
    assert embedding.grad is not None and not embedding.grad.any()


def test_all_ignored_gives_a_finite_zero_with_gradient():
    embedding = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = SupervisedLocalContrastiveLoss("exact")(embedding, torch.full((1, 1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0.0 and not embedding.grad.any()


def test_a_class_of_one_pixel_does_not_change_the_mean_of_the_others():
    embedding, label = make_maps(classes=2)
    label[0, 0, 0, 0] = 7  # it is a negative of all others, and no anchor: it has no positive
    expected = naive_map_contrast(embedding, label, 0.1)
    torch.testing.assert_close(SupervisedLocalContrastiveLoss("exact")(embedding, label), expected)


def test_the_cap_draws_that_many_anchors_of_each_class_and_keeps_the_others_as_negatives():
    embedding, label = make_maps(batch=6, height=10, width=10)
    capped = SupervisedLocalContrastiveLoss("exact", anchors_per_class=11)
    chosen = capped._anchors(label.flatten())
    assert sorted(label.flatten()[chosen].tolist()) == [1] * 11 + [2] * 11 + [255] * 11
    assert len(set(chosen.tolist())) == 33
    # Large caps change nothing; small ones estimate the same number.
    full = SupervisedLocalContrastiveLoss("exact")(embedding, label)
    torch.testing.assert_close(SupervisedLocalContrastiveLoss("exact", anchors_per_class=10**6)(embedding, label), full)
    torch.manual_seed(0)
    draws = torch.stack([capped(embedding, label).detach() for _ in range(60)])
    assert draws.std() > 1e-4  # drawn anew each time
    assert abs(draws.mean() - full) < 4 * draws.std() / math.sqrt(60) + 0.02


def test_unit_length_is_made_here():
    embedding, label = make_maps()
    loss = SupervisedLocalContrastiveLoss("exact")
    torch.testing.assert_close(loss(embedding * 37.0, label), loss(embedding, label))


def test_half_precision_is_left_before_the_exponential():
    # 100 pixels of similarity 1 at temperature 0.05: exp(20) * 100 is far beyond half precision's 65504.
    embedding, label = torch.ones(1, 4, 10, 10), torch.ones(1, 1, 10, 10, dtype=torch.long)
    loss = SupervisedLocalContrastiveLoss("exact", temperature=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(embedding.bfloat16().requires_grad_(), label)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(math.log(99), abs=1e-5)
    assert loss(embedding.half(), label).item() == pytest.approx(math.log(99), abs=1e-5)


def test_small_temperatures_do_not_underflow():
    embedding, label = make_maps(dtype=torch.float32)
    expected = naive_map_contrast(embedding.double(), label, 0.005)
    found = SupervisedLocalContrastiveLoss("exact", temperature=0.005)(embedding, label)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_training_on_it_tells_classes_apart():
    torch.manual_seed(0)
    embedding = torch.randn(2, 8, 8, 8, requires_grad=True)
    label = (torch.arange(64).reshape(1, 1, 8, 8) % 3).expand(2, 1, 8, 8)
    loss = SupervisedLocalContrastiveLoss("exact", temperature=0.2)
    optimizer = torch.optim.Adam([embedding], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(embedding, label).backward()
        optimizer.step()
    unit = torch.nn.functional.normalize(embedding.detach(), dim=1).permute(0, 2, 3, 1).reshape(-1, 8)
    classes = label.flatten()
    same, other = unit[classes == 1] @ unit[classes == 1].T, unit[classes == 1] @ unit[classes != 1].T
    assert same.min() > 0.8 > 0.3 > other.max()


def test_memory_holds_tiles_not_the_matrix(monkeypatch):
    # Every matrix that is made in the forward pass must be a tile.
    largest = []
    original = torch.Tensor.__matmul__

    def watched(self, other):
        product = original(self, other)
        largest.append(product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    features = torch.nn.functional.normalize(torch.randn(4000, 8), dim=1).requires_grad_()
    classes = torch.arange(4000) % 2 + 1
    loss, anchors = supervised_contrast(features, classes, torch.arange(4000), 0.1, tile_mib=1)
    loss.backward()
    assert anchors == 4000
    assert 0 < max(largest) <= 2**20 // 4


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mode": "blocks"}, "mode"),
        ({"form": "paper"}, "form"),
        ({"stride": 0}, "stride"),
        ({"block": 1}, "block"),
        ({"temperature": 0.0}, "temperature"),
        ({"tile_mib": 0}, "tile_mib"),
        ({"anchors_per_class": 0}, "anchors_per_class"),
    ],
)
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        SupervisedLocalContrastiveLoss(**options)


@pytest.mark.parametrize("shape", [(2, 1, 8, 4), (2, 8, 8), (1, 1, 8, 8), (2, 2, 8, 8)])
def test_maps_and_labels_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"nearest neighbour"):
        SupervisedLocalContrastiveLoss()(torch.randn(2, 3, 8, 8), torch.ones(shape, dtype=torch.long))
