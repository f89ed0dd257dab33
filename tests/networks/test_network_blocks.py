"""Coordinate attention, aggregation and fusion against naive loops; the context block starts as an identity."""

from __future__ import annotations

import math

import pytest
import torch
from timm.layers import Conv2dSame

from scripts.networks.context import ContextBlock
from scripts.networks.coordinate_attention import CoordinateAttention
from scripts.networks.exportable import EvenSameConv2d
from scripts.networks.fusion import AdditiveFusion, Aggregation
from scripts.networks.normalization import InputNormalization


def _naive_attention(block: CoordinateAttention, x: torch.Tensor) -> torch.Tensor:
    """Equations 4-9 of the paper, one number at a time, for one image and batch norm in eval mode."""
    _, channels, height, width = x.shape
    squeeze = block.squeeze.weight[:, :, 0, 0]

    def shared(pooled: list[float]) -> list[float]:
        out = []
        for r in range(squeeze.shape[0]):
            value = sum(float(squeeze[r, c]) * pooled[c] for c in range(channels))
            norm = block.norm
            scaled = (value - float(norm.running_mean[r])) / math.sqrt(float(norm.running_var[r]) + norm.eps)
            out.append(max(0.0, scaled * float(norm.weight[r]) + float(norm.bias[r])))
        return out

    def gate(weight: torch.Tensor, hidden: list[float], c: int) -> float:
        return 1 / (1 + math.exp(-sum(float(weight[c, r, 0, 0]) * hidden[r] for r in range(len(hidden)))))

    rows = [
        shared([sum(float(x[0, c, i, j]) for j in range(width)) / width for c in range(channels)])
        for i in range(height)
    ]
    columns = [
        shared([sum(float(x[0, c, i, j]) for i in range(height)) / height for c in range(channels)])
        for j in range(width)
    ]
    y = torch.zeros_like(x)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                gates = gate(block.gate_height.weight, rows[i], c) * gate(block.gate_width.weight, columns[j], c)
                y[0, c, i, j] = x[0, c, i, j] * gates
    return y


def test_coordinate_attention_equals_the_naive_loop():
    torch.manual_seed(0)
    block = CoordinateAttention(8, reduction=2).eval()
    with torch.no_grad():
        block.norm.running_mean.uniform_(-1, 1)
        block.norm.running_var.uniform_(0.5, 2)
        block.norm.weight.uniform_(0.5, 2)
        block.norm.bias.uniform_(-1, 1)
        x = torch.randn(1, 8, 3, 5)
        expected = _naive_attention(block, x)
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-6)
        channels_last = x.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(block(channels_last), expected, rtol=1e-5, atol=1e-6)


def test_coordinate_attention_turns_with_the_map():
    """Transposing the map and exchanging the two gates transposes the output."""
    torch.manual_seed(0)
    block = CoordinateAttention(8, reduction=2).eval()
    x = torch.randn(2, 8, 4, 6)
    y = block(x)
    block.gate_height, block.gate_width = block.gate_width, block.gate_height
    torch.testing.assert_close(block(x.transpose(2, 3)).transpose(2, 3), y)


def test_coordinate_attention_with_closed_and_open_gates():
    """Gates without weights are sigmoid(0) = 1/2 each: the map comes out at a quarter."""
    block = CoordinateAttention(4, reduction=1).eval()
    torch.nn.init.zeros_(block.gate_height.weight)
    torch.nn.init.zeros_(block.gate_width.weight)
    x = torch.randn(1, 4, 5, 7)
    torch.testing.assert_close(block(x), x / 4)


def test_aggregation_takes_means_of_finer_and_interpolates_coarser_levels():
    block = Aggregation([1, 1, 1], out_channels=3, level=1, reduction=1).eval()
    torch.nn.init.zeros_(block.attention.gate_height.weight)
    torch.nn.init.zeros_(block.attention.gate_width.weight)
    with torch.no_grad():
        block.project.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    fine = torch.tensor([[[[0.0, 4, 8, 8], [4, 8, 8, 8], [1, 1, 2, 2], [1, 1, 2, 2]]]])
    middle = torch.full((1, 1, 2, 2), 12.0)
    coarse = torch.full((1, 1, 1, 1), 20.0)
    y = block([fine, middle, coarse])
    expected = torch.tensor([[[[4.0, 8], [1, 2]], [[12, 12], [12, 12]], [[20, 20], [20, 20]]]]) / 4
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_aggregation_equals_resize_concatenate_convolve():
    """The order in the paper, with the published form's level 0; batch norm and attention are shared."""
    torch.manual_seed(0)
    channels, sizes = [2, 3, 4], [(12, 16), (6, 8), (3, 4)]
    block = Aggregation(channels, 8, level=0, reduction=2).eval()
    features = [torch.randn(2, c, *size) for c, size in zip(channels, sizes, strict=True)]
    resized = [torch.nn.functional.interpolate(f, sizes[0], mode="bilinear", align_corners=False) for f in features]
    expected = block.act(block.norm(block.attention(block.project(torch.cat(resized, dim=1)))))
    torch.testing.assert_close(block(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_fusion_adds_the_projected_map_in_either_order(level):
    """conv1x1(resize(G)) at every level, although the block convolves at the smaller size."""
    torch.manual_seed(0)
    channels, sizes = [2, 3, 4], [(12, 16), (6, 8), (3, 4)]
    block = AdditiveFusion(channels, 5, level)
    features = [torch.randn(1, c, *size) for c, size in zip(channels, sizes, strict=True)]
    global_map = torch.randn(1, 5, *sizes[level])
    for index, fused in enumerate(block(features, global_map)):
        resized = torch.nn.functional.interpolate(global_map, sizes[index], mode="bilinear", align_corners=False)
        torch.testing.assert_close(fused, features[index] + block.project[index](resized), rtol=1e-4, atol=1e-5)


def test_context_block_starts_as_identity_and_sees_the_whole_map():
    torch.manual_seed(0)
    block = ContextBlock(16, layers=1).eval()
    x = torch.randn(1, 16, 6, 6)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    torch.nn.init.ones_(block.gamma)
    changed = x.clone()
    changed[..., 0, 0] += 5.0
    assert (block(changed) - block(x))[..., 5, 5].abs().max() > 1e-6  # a 3x3 convolution alone would not reach


def test_context_block_refuses_channels_that_the_heads_do_not_divide():
    with pytest.raises(ValueError, match=r"divisible by 4, found 30: set decoder_widths\[0\] to 32"):
        ContextBlock(30, layers=1)


@pytest.mark.parametrize("kernel", [3, 5])
def test_even_same_convolution_equals_timms(kernel):
    torch.manual_seed(0)
    same = Conv2dSame(6, 6, kernel, stride=2, groups=3, bias=True)
    x = torch.randn(2, 6, 8, 10)
    torch.testing.assert_close(EvenSameConv2d(same)(x), same(x))


def test_normalization_by_hand():
    """(0.75 - 0.5) / 0.5 = 0.5 and (0.1 - 0.1) / 0.2 = 0; both numbers are in the state dict."""
    block = InputNormalization([0.5, 0.1], [0.5, 0.2])
    x = torch.tensor([0.75, 0.1]).view(1, 2, 1, 1)
    torch.testing.assert_close(block(x).flatten(), torch.tensor([0.5, 0.0]))
    assert sorted(block.state_dict()) == ["mean", "std"]


@pytest.mark.parametrize("mean, std", [([0.5], [0.5, 0.5]), ([0.5], [0.0]), ([], [])])
def test_normalization_refuses(mean, std):
    with pytest.raises(ValueError, match="one number for each channel"):
        InputNormalization(mean, std)
