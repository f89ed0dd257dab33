"""timm layers that an exporter cannot keep, replaced by ones with the same tensors and results."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.models.mobilevit import LinearSelfAttention
from torch import Tensor, nn


class EvenSameConv2d(nn.Conv2d):
    """TensorFlow's SAME convolution at stride 2 for even sides: the padding is a constant, more of it right and below.

    timm's Conv2dSame works the padding out from the input's size at every call, which torch.export cannot follow for
    symbolic sizes. The network pads its input to a multiple of 32, so every stride-2 layer meets even sides.

    Args:
        same: the layer it replaces, square kernel, stride 2, dilation 1; its parameters are taken over.

    Shape:
        input (B, C, H, W) with even H and W, output (B, out_channels, H / 2, W / 2).
    """

    def __init__(self, same: Conv2dSame) -> None:
        super().__init__(
            same.in_channels, same.out_channels, same.kernel_size, same.stride, 0, same.dilation, same.groups,
            bias=same.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = same.weight, same.bias
        total = same.kernel_size[0] - 2  # rows that the last window needs beyond an even side
        self.before, self.after = total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / 2, W / 2)."""
        x = F.pad(x, (self.before, self.after, self.before, self.after))
        return F.conv2d(x, self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


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
