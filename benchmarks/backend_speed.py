"""Speed of exports on CPU: lite by PyTorch, TorchScript, ONNX Runtime, OpenVINO and INT8, against other networks.

    python benchmarks/backend_speed.py                 # writes benchmarks/results/backend_speed.csv

One frame of 256 x 256 px at a time; everything else as in network_speed.py. Networks are of random numbers, and INT8 is
calibrated on noise: time does not depend on either, masks do (parity.csv of export.json). Needs the extras `export` and
`rivals`.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import segmentation_models_pytorch
import torch
from monai.networks.nets import BasicUNet
from network_speed import Bar, Case, flexible_unet, measure, read_options

from scripts.engines.export_formats import FormatWriter
from scripts.networks import LESSNet
from scripts.networks.backends import FORMATS, SUFFIXES, open_backend

SIDE = 256  # pixels
CALIBRATION = 8  # frames
EAGER = "lite, PyTorch"
TITLES = {
    "torchscript": "lite, TorchScript",
    "onnx": "lite, ONNX Runtime",
    "openvino": "lite, OpenVINO",
    "openvino_int8": "lite, OpenVINO INT8",
}
RIVALS = ("FlexibleUNet-b0", "smp U-Net++ ResNet-34", "U-Net")
BARS = [
    Bar(TITLES["onnx"], EAGER, 1.8),
    Bar(TITLES["openvino"], EAGER, 1.8),
    Bar(TITLES["torchscript"], EAGER, 0.0),
    Bar(TITLES["openvino_int8"], TITLES["openvino"], 1.3),
    *(Bar(EAGER, rival, 1.0) for rival in RIVALS),
]


def build_cases(folder: Path, threads: int) -> dict[str, Case]:
    """Every line of the table; exports are written to a folder."""
    lite = LESSNet("lite", encoder_weights="none").eval()
    writer = FormatWriter(lite, torch.rand(CALIBRATION, 3, SIDE, SIDE), folder)
    cases = {EAGER: Case(lite, SIDE)}
    for name in FORMATS:
        file = folder / f"lite{SUFFIXES[name]}"
        writer.write(name, file)
        cases[TITLES[name]] = Case(open_backend(file, name, threads=threads), SIDE, made_of=lite)
    others = (
        flexible_unet(),
        segmentation_models_pytorch.UnetPlusPlus("resnet34", encoder_weights=None, classes=2),
        BasicUNet(2, 3, 2, features=(64, 128, 256, 512, 1024, 64), norm="batch", upsample="deconv"),
    )
    # In the layout that is quicker on CPUs, as lite has it.
    channels_last = torch.channels_last
    cases |= {
        name: Case(rival.eval().to(memory_format=channels_last), SIDE)
        for name, rival in zip(RIVALS, others, strict=True)
    }
    return cases


if __name__ == "__main__":
    arguments = read_options(__doc__, "backend_speed.csv")
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as scratch:
        raise SystemExit(measure(build_cases(Path(scratch), arguments.threads), BARS, arguments))
