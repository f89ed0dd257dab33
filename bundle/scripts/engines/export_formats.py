"""A network written in each format; what one is made of is made once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.networks.backends import MULTIPLE

OPSET = 18
LARGEST = 2048  # pixels, side of an input of the ONNX file
#: convolutions from the input on that stay in float: 8 bits of the first maps, of which all others are made, cost most
FLOAT_CONVOLUTIONS = 20
#: operations that stay in float: LayerNorm, and the products and the softmax of attention
FLOAT_OPERATIONS = ("MVN", "MatMul", "Softmax", "ScaledDotProductAttention")
#: what each format is made and run with, beyond torch
PACKAGES = {
    "torchscript": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "openvino_int8": ("onnx", "onnxscript", "openvino", "nncf"),
}


def require_packages(formats: Sequence[str]) -> None:
    """Before work starts: what the formats need is there. Raises ImportError: packages are missing; all are named."""
    missing = {kind: [name for name in PACKAGES[kind] if find_spec(name) is None] for kind in formats}
    if names := list(dict.fromkeys(name for one in missing.values() for name in one)):
        kinds = ", ".join(kind for kind in formats if missing[kind])
        raise ImportError(
            f"{', '.join(names)} cannot be imported, expected for {kinds}: pip install {' '.join(names)} (the extra "
            "'export' of pyproject.toml), or leave these formats out."
        )


class FormatWriter:
    """Writes one network in several formats.

    Args:
        network: in eval mode, on the CPU.
        calibration: frames (N, 3, H, W) in 0..1 that INT8 is calibrated on.
        scratch: folder for what is needed on the way.
    """

    def __init__(self, network: nn.Module, calibration: Tensor, scratch: Path) -> None:
        self.network, self.calibration, self.scratch = network, calibration, scratch

    def write(self, kind: str, file: Path) -> None:
        """Write one format."""
        getattr(self, f"_{kind}")(file)

    def _torchscript(self, file: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what the zoo asks for
            torch.jit.save(torch.jit.script(self.network), str(file))

    def _onnx(self, file: Path) -> None:
        file.write_bytes(self._onnx_bytes)

    def _openvino(self, file: Path) -> None:
        import openvino

        openvino.save_model(self._openvino_model, str(file), compress_to_fp16=False)

    def _openvino_int8(self, file: Path) -> None:
        import nncf
        import openvino

        original = self._openvino_model
        kinds = ("Convolution", "GroupConvolution")
        first = [one.get_friendly_name() for one in original.get_ordered_ops() if one.get_type_name() in kinds]
        model = nncf.quantize(
            original,
            nncf.Dataset([frame[None].numpy() for frame in self.calibration]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(self.calibration),
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(
                names=first[:FLOAT_CONVOLUTIONS], types=list(FLOAT_OPERATIONS), validate=False
            ),
        )
        openvino.save_model(model, str(file), compress_to_fp16=False)

    @cached_property
    def _onnx_bytes(self) -> bytes:
        """The ONNX file: any batch, sides in multiples of 32."""
        most = LARGEST // MULTIPLE
        batch, rows, columns = (
            torch.export.Dim(name, min=low, max=most) for name, low in (("batch", 1), ("rows", 2), ("columns", 2))
        )
        path = self.scratch / "network.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.network,
                (torch.rand(2, 3, 2 * MULTIPLE, 3 * MULTIPLE),),  # sizes that differ, and none of them 1
                str(path),
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=OPSET,
                dynamic_shapes=({0: batch, 2: MULTIPLE * rows, 3: MULTIPLE * columns},),
                input_names=["image"],
                output_names=["logits"],
            )
        return path.read_bytes()

    @cached_property
    def _openvino_model(self) -> Any:
        import openvino

        path = self.scratch / "for_openvino.onnx"
        path.write_bytes(self._onnx_bytes)
        return openvino.convert_model(str(path))
