"""Which number format a training computes in, and what stays float32 on CPUs."""

from __future__ import annotations

import copy
import logging
import platform
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.engines import precision as number_format
from scripts.engines.precision import autocast, computes_in_bf16, resolve_precision

CPU = torch.device("cpu")


def test_precision_on_a_cpu() -> None:
    assert resolve_precision("auto", CPU) == resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"
    with pytest.raises(ValueError, match="precision 'fp16' is not for cpu; expected auto or fp32 or bf16"):
        resolve_precision("fp16", CPU)
    with pytest.raises(ValueError, match="precision 'bf32' is unknown; expected auto, fp32, bf16 or fp16"):
        resolve_precision("bf32", CPU)


@pytest.mark.parametrize(("asked", "able", "warned"), [("bf16", False, 1), ("bf16", True, 0), ("fp32", False, 0)])
def test_bf16_is_warned_of_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: str, able: bool, warned: int
) -> None:
    monkeypatch.setattr(number_format, "computes_in_bf16", lambda: able)
    with caplog.at_level(logging.WARNING):
        assert resolve_precision(asked, CPU) == asked
    assert len(caplog.messages) == warned
    assert all("Give --precision fp32" in message for message in caplog.messages)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").is_file(), reason="reads the flags of an x86 on Linux"
)
def test_whether_a_cpu_has_bf16_kernels_is_what_its_flags_say() -> None:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    assert computes_in_bf16() == ({"avx512bw", "avx512vl", "avx512dq"} <= set(flags))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_depthwise_convolutions_and_attention_stay_float32_on_cpus(precision: str) -> None:
    x, half = torch.rand(2, 8, 6, 6), torch.bfloat16 if precision == "bf16" else torch.float32
    with autocast(precision, CPU):
        assert nn.Conv2d(8, 8, 3)(x).dtype == half
        assert nn.Conv2d(8, 8, 3, groups=8)(x.to(half)).dtype == torch.float32
        assert functional.conv2d(x, torch.rand(8, 1, 3, 3), groups=8).dtype == torch.float32
        assert functional.linear(x, torch.rand(3, 6)).dtype == half
        seen = functional.scaled_dot_product_attention(x.to(half), x.to(half), x.to(half), attn_mask=None)
        assert seen.dtype == torch.float32
    assert nn.Conv2d(8, 8, 3)(x).dtype == torch.float32  # ends with the context


def test_what_stays_float32_is_computed_in_float32() -> None:
    convolution, x = nn.Conv2d(8, 8, 3, groups=8), torch.rand(2, 8, 6, 6)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    with autocast("bf16", CPU):
        depthwise = convolution(x)
        attention = functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
    assert torch.equal(depthwise, convolution(x))
    assert torch.equal(attention, functional.scaled_dot_product_attention(x, x, x, attn_mask=mask))


def test_gradients_reach_weights_and_input() -> None:
    body = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    exact, x = copy.deepcopy(body), torch.rand(2, 3, 9, 9)

    def gradients(network: nn.Module, precision: str) -> list[Tensor]:
        with autocast(precision, CPU):
            loss = network(x).float().square().mean()
        loss.backward()
        return [value.grad for value in network.parameters() if value.grad is not None]

    for half, full in zip(gradients(body, "bf16"), gradients(exact, "fp32"), strict=True):
        assert torch.allclose(half, full, rtol=0.05, atol=0.01 * full.abs().max().item())
