"""timm layers that an exporter cannot keep, replaced by ones with the same tensors and results."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.models.mobilevit import LinearSelfAttention
from torch import Tensor, nn


class EvenSameConv2d(nn.Conv2d):
    """TensorFlow's SAME convolution at stride 2 for even sides, without a padded copy of the input.

    SAME pads an even side by one pixel less before than after. A kernel with one row and column of zeros in front, of
    even size, needs the same padding on both sides and reads the same pixels, so only the small kernel is padded.
    timm's Conv2dSame pads the input by an amount that it works out at every call: slower, and torch.export cannot
    follow it for symbolic sizes. The network pads its input to a multiple of 32, so stride-2 layers meet even sides.

    Args:
        same: the layer it replaces, square odd kernel, stride 2, dilation 1; its parameters are taken over.

    Shape:
        input (B, C, H, W) with even H and W, output (B, out_channels, H / 2, W / 2).
    """

    def __init__(self, same: Conv2dSame) -> None:
        size, margin = same.kernel_size, same.kernel_size[0] // 2
        groups, bias = same.groups, same.bias is not None
        super().__init__(same.in_channels, same.out_channels, size, 2, margin, 1, groups, bias, device="meta")
        self.weight, self.bias = same.weight, same.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / 2, W / 2)."""
        kernel = F.pad(self.weight, (1, 0, 1, 0))
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding, self.dilation, self.groups)


class SelfAttentionOnly(LinearSelfAttention):
    """MobileViTv2's attention without its cross-attention branch, which timm marks as Python only.

    With the branch TorchScript compiles and then refuses to save; no backbone passes ``x_prev``.
    """

    def forward(self, x: Tensor, x_prev: Tensor | None = None) -> Tensor:
        """(B, C, P, N) -> (B, C, P, N); P pixels in a patch, N patches."""
        return self._forward_self_attn(x)


def make_exportable(body: nn.Module) -> None:
    """Replace the layers above inside a backbone; parameter names, values and outputs stay."""
    for name, module in list(body.named_modules()):
        if isinstance(module, Conv2dSame) and module.stride == (2, 2) and module.dilation == (1, 1):
            parent, _, leaf = name.rpartition(".")
            setattr(body.get_submodule(parent), leaf, EvenSameConv2d(module))
        elif type(module) is LinearSelfAttention:
            module.__class__ = SelfAttentionOnly
