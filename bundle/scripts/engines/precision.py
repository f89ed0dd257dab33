"""The number format of a training: what the device can do, and the context in which it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" -> what the device does best: bf16 on a GPU that has it (Ampere on), else fp16; fp32 without a GPU.

    bf16 runs on CPUs too; those with instructions for it (avx512_bf16, amx) train U-Nets up to three times as fast,
    those without AVX-512 many times slower than in fp32, which is logged.

    Raises:
        ValueError: unknown name, or one that the device cannot do.
    """
    if precision not in (*PRECISIONS, "auto"):
        raise ValueError(f"precision '{precision}' is unknown; expected auto, fp32, bf16 or fp16.")
    if device.type != "cuda":
        possible = {"auto": "fp32", "fp32": "fp32"} | ({"bf16": "bf16"} if device.type == "cpu" else {})
        if precision not in possible:
            raise ValueError(f"precision '{precision}' is not for {device.type}; expected {' or '.join(possible)}.")
        if precision == "bf16" and not computes_in_bf16():
            logger.warning(
                "precision is bf16 and this processor (%s) is not made for it: a step takes many times as long as in "
                "fp32. Give --precision fp32.",
                torch.backends.cpu.get_cpu_capability(),
            )
        return possible[precision]
    if precision == "auto":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return precision


def computes_in_bf16() -> bool:
    """Whether oneDNN has bf16 kernels for this CPU: on x86 with AVX-512, the fast ones with avx512_bf16 or amx."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision of ``resolve_precision`` on its device; on CPUs see ``SlowInHalfOnCPU``."""
    dtype = PRECISIONS[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        if dtype is None or device.type != "cpu":
            yield
        else:
            with SlowInHalfOnCPU():
                yield


class SlowInHalfOnCPU(TorchFunctionMode):
    """Depthwise convolutions and attention stay float32: on CPUs their bf16 gradients take two to ten times as long.

    Without it a bf16 step of a MobileNetV2 or MobileViT is slower than a float32 one; with it, faster.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``func``; the two slow ones on float32 copies of their tensors, outside autocast."""
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention and not _is_grouped_convolution(func, args, kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_float32, args), **{name: _float32(value) for name, value in kwargs.items()})


def _is_grouped_convolution(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call is conv2d with more than one group, its seventh argument."""
    return func is torch.conv2d and (args[6] if len(args) > 6 else kwargs.get("groups", 1)) > 1


def _float32(value: Any) -> Any:
    """Half precision as float32; all else, such as a mask of booleans, as it is."""
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
