"""Exported networks in the place of a PyTorch one: the same call, another engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoints import CheckpointError

#: suffix of the file of each backend, beside the checkpoint that it was exported from
SUFFIXES = {
    "torch": ".pt",
    "torchscript": ".ts",
    "onnx": ".onnx",
    "openvino": "_openvino.xml",
    "openvino_int8": "_openvino_int8.xml",
    "tensorrt": "_trt.ts",
}
#: those that export.json writes; TensorRT is compiled on the GPU that will run it, by MONAI's own command
FORMATS = ("torchscript", "onnx", "openvino", "openvino_int8")
MOST_SHAPES = 4  # sizes that OpenVINO compiles apart; after them it compiles once for any
MULTIPLE = 32  # pixels; exported networks take sides that are multiples of it
_NEEDS = {"onnx": "onnxruntime", "openvino": "openvino", "openvino_int8": "openvino", "tensorrt": "torch_tensorrt"}


def backend_file(checkpoint: str | Path, backend: str) -> Path:
    """The file that a backend runs: the checkpoint itself, or what export.json wrote beside it.

    Raises:
        ValueError: unknown backend.
        CheckpointError: there is no such file.
    """
    if backend not in SUFFIXES:
        raise ValueError(f"backend '{backend}' is unknown; expected one of {', '.join(SUFFIXES)}.")
    checkpoint = Path(checkpoint).expanduser()
    file = checkpoint if backend == "torch" else checkpoint.with_name(checkpoint.stem + SUFFIXES[backend])
    if backend != "torch" and not file.is_file():
        command = f"--config_file \"['configs/inference.json','configs/export.json']\" --formats \"['{backend}']\""
        if backend not in FORMATS:
            command = f"python -m monai.bundle trt_export network_def --filepath {file}, see docs/export.md"
        raise CheckpointError(f"{file} does not exist; export {checkpoint.name} first: {command}")
    return file


def weights_in(file: str | Path) -> Path:
    """The file that holds a backend's weights: OpenVINO's .xml is the network's shape alone, they are in the .bin."""
    file = Path(file)
    return file.with_suffix(".bin") if file.suffix == ".xml" else file


def open_backend(file: str | Path, backend: str, device: str | torch.device = "cpu", threads: int = 0) -> nn.Module:
    """An exported network, to be called as the network that it was made of.

    Args:
        file: what export.json wrote, or trt_export.
        backend: "torchscript", "onnx", "openvino", "openvino_int8" or "tensorrt".
        device: where TorchScript and, with its GPU package, ONNX Runtime compute; OpenVINO computes on the CPU,
            TensorRT on a GPU.
        threads: of ONNX Runtime and OpenVINO; 0 = as many as torch has.

    Raises:
        CheckpointError: the file is missing, broken, or no exported segmentation network.
        ImportError: the backend's package is not installed.
        ValueError: TensorRT without a GPU.
    """
    if backend == "tensorrt" and torch.device(device).type != "cuda":
        raise ValueError(f"backend 'tensorrt' needs an NVIDIA GPU and the device is {device}; take onnx or openvino.")
    if not Path(file).is_file():
        raise CheckpointError(f"{file} does not exist; export it by configs/export.json.")
    opened = {
        "torchscript": _torchscript,
        "onnx": _onnx,
        "openvino": _openvino,
        "openvino_int8": _openvino,
        "tensorrt": _tensorrt,
    }[backend]
    try:
        run = opened(Path(file), torch.device(device), threads or torch.get_num_threads())
    except ImportError as error:
        package = _NEEDS[backend]
        raise ImportError(f"backend '{backend}' needs {package}: pip install {package}") from error
    except Exception as error:  # each engine has errors of its own, with no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{file}: not a network that {backend} can open ({reason}); export it again by configs/export.json."
        ) from error
    return ExportedNetwork(run, backend)


class ExportedNetwork(nn.Module):
    """A network without parameters that hands its input to another engine; not for training.

    Shape:
        input (B, 3, H, W) in 0..1, H and W multiples of 32; output logits (B, C, H, W) on the input's device.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], backend: str) -> None:
        super().__init__()
        self.backend = backend
        self._run = run

    def forward(self, image: Tensor) -> Tensor:
        """See the class. Raises ValueError: sides that are no multiples of 32."""
        height, width = image.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(
                f"the input is {height}x{width} pixels and {self.backend} takes multiples of {MULTIPLE}; give an "
                "--image_size that is one, or --backend torch."
            )
        return self._run(image.float())


def _torchscript(file: Path, device: torch.device, threads: int) -> Callable[[Tensor], Tensor]:
    return torch.jit.load(str(file), map_location=device).eval()


def _tensorrt(file: Path, device: torch.device, threads: int) -> Callable[[Tensor], Tensor]:
    import torch_tensorrt  # noqa: F401  # registers the engines that the file holds

    return _torchscript(file, device, threads)


def _onnx(file: Path, device: torch.device, threads: int) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    there = onnxruntime.get_available_providers()
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in there]
    session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    name = session.get_inputs()[0].name

    def run(image: Tensor) -> Tensor:
        (logits,) = session.run(None, {name: _array(image)})
        return torch.from_numpy(logits).to(image.device)

    return run


def _openvino(file: Path, device: torch.device, threads: int) -> Callable[[Tensor], Tensor]:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    # Without the hint, machines with bf16 compute in it: other masks than on the next machine.
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    model = core.read_model(str(file))
    compiled: dict[tuple[int, ...], Any] = {}

    def run(image: Tensor) -> Tensor:
        # Compiled for one size it is a tenth quicker than for any; a folder has few: a full batch and the last one.
        shape = tuple(image.shape) if len(compiled) < MOST_SHAPES or tuple(image.shape) in compiled else ()
        if shape not in compiled:
            sized = model.clone()
            if shape:
                sized.reshape(list(shape))
            compiled[shape] = core.compile_model(sized, "CPU", settings)
        return torch.from_numpy(np.array(compiled[shape](_array(image))[0])).to(image.device)

    return run


def _array(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.detach().as_subclass(Tensor).cpu().numpy())
