"""A trained network as TorchScript, ONNX and OpenVINO, each compared with the original on the same frames."""

from __future__ import annotations

import copy
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from scripts.data.fingerprints import file_sha256
from scripts.engines.export_formats import FormatWriter, require_packages
from scripts.engines.export_record import COLUMNS, PARITY_FILE, kept_rows
from scripts.engines.frame_quality import pairwise_agreement
from scripts.io.atomic import PARTIAL
from scripts.io.table import Table
from scripts.io.writers import ensure_writable
from scripts.networks.backends import FORMATS, MULTIPLE, SUFFIXES, open_backend, weights_in
from scripts.networks.taps import segmentation_head
from scripts.transforms.resizing import lesion_probability

logger = logging.getLogger(__name__)
#: least mean Dice of the masks with those of the original
LEAST_DICE = {"openvino_int8": 0.99}


class ExportError(RuntimeError):
    """A network cannot be exported, or the export does not do the same; the message says which and the cure."""


@dataclass(frozen=True)
class Parity:
    """How far the masks of an export are from those of the original.

    Attributes:
        frames: compared. dice: mean over frames, both empty = 1. lowest_dice: of a frame.
        probability_difference: largest absolute difference of a pixel's lesion probability.
    """

    frames: int
    dice: float
    lowest_dice: float
    probability_difference: float

    @classmethod
    def of(cls, original: Tensor, exported: Tensor, threshold: float) -> Parity:
        """Of lesion probabilities (N, H, W) of the same frames."""
        masks = zip((original > threshold).numpy(), (exported > threshold).numpy(), strict=True)
        dices = [pairwise_agreement([first, second]) for first, second in masks]
        return cls(len(dices), sum(dices) / len(dices), min(dices), float((original - exported).abs().max()))


def export_network(
    network: nn.Module,
    frames: Iterable[dict[str, Any]],
    output_dir: str | Path,
    name: str = "model",
    formats: Sequence[str] = ("torchscript", "onnx"),
    temperature: float = 1.0,
    threshold: float = 0.5,
    calibration_frames: int = 200,
    checkpoint: str | Path = "",
) -> Path:
    """Write the exports and ``parity.csv``; an export that does not give the same masks is not kept, nor an older one.

    Rows of formats that were exported before stay in the table.

    Args:
        network: with its weights, in eval mode, on the CPU.
        frames: batches {"image": (B, 3, H, W) uint8, "error": texts}, H and W multiples of 32.
        output_dir: gets <name>.ts, <name>.onnx, <name>_openvino.xml and .bin, <name>_openvino_int8.xml and .bin.
        formats: some of FORMATS.
        temperature: folded into the segmentation head: the exports' logits are the network's divided by it.
        threshold: lesion is where the probability is above it.
        checkpoint: where the weights are from; its SHA-256 is recorded, so that exports of older weights are found out.
        calibration_frames: at most. INT8 is calibrated on every second frame, and all are compared on the others.

    Returns:
        ``output_dir``.

    Raises:
        ValueError: unknown format, temperature not above 0, sides that are no multiples of 32.
        ImportError: packages of the formats are missing; they are named before a frame is read.
        ExportError: no frame to compare on, one alone for INT8, or an export with other masks.
    """
    for kind in formats:
        if kind not in FORMATS:
            raise ValueError(f"format '{kind}' is unknown; expected some of {', '.join(FORMATS)}.")
    if not formats:
        raise ValueError(f"formats is empty; expected some of {', '.join(FORMATS)}.")
    require_packages(formats)
    folder = ensure_writable(output_dir)
    network = fold_temperature(network, temperature)
    batches = [batch["image"][[not error for error in batch["error"]]].float() / 255 for batch in frames]
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        raise ExportError("no frame to compare the exports on; give --dataset_dir with pictures that can be read.")
    compared, calibration = torch.cat(batches), torch.empty(0)
    if "openvino_int8" in formats:
        calibration, compared = calibration_apart(compared, calibration_frames)
    height, width = compared.shape[-2:]
    if height % MULTIPLE or width % MULTIPLE:
        raise ValueError(f"image_size is {height}x{width}; exports take multiples of {MULTIPLE}.")
    parts = compared.split(len(batches[0]))
    original = probabilities(network, parts, "original")
    made_of = {"checkpoint_sha256": file_sha256(str(checkpoint)) if checkpoint else "", "temperature": temperature}
    table, bad = Table(COLUMNS), []
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as scratch:
        writer = FormatWriter(network, calibration, Path(scratch))
        for kind in (one for one in FORMATS if one in formats):
            logger.info("exporting %s", kind)
            made = Path(scratch) / kind / f"{name}{SUFFIXES[kind]}"
            made.parent.mkdir()
            writer.write(kind, made)
            parity = Parity.of(original, probabilities(open_backend(made, kind), parts, kind), threshold)
            least = LEAST_DICE.get(kind, 0.999)
            if parity.dice < least:
                bad.append(f"{kind}: mean Dice {parity.dice:.4f} with the original, expected {least} or more")
                _note(table, kind, made, parity, {**made_of, "checkpoint_sha256": "", "sha256": ""})
                for part in made.parent.iterdir():  # of an earlier export: its weights would pass for these
                    (folder / part.name).unlink(missing_ok=True)
                continue
            _note(table, kind, made, parity, {**made_of, "sha256": file_sha256(str(weights_in(made)))})
            for part in sorted(made.parent.iterdir()):  # .bin before the .xml that needs it
                os.replace(part, folder / part.name)
    for row in kept_rows(folder, formats):
        table.add(**row)
    table.write(folder / PARITY_FILE)
    if bad:
        raise ExportError(f"not kept: {'; '.join(bad)}. Their rows are in {folder / PARITY_FILE}.")
    return folder


def calibration_apart(frames: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Every second frame, at most so many, to calibrate INT8 on; and the others, as those would flatter it.

    Args:
        frames: (N, 3, H, W).
        most: for calibration.

    Raises:
        ExportError: fewer than two frames.
    """
    if len(frames) < 2:
        raise ExportError("one frame alone: INT8 is calibrated on one frame and compared on another; give two or more.")
    return frames[::2][:most], frames[1::2]


def _note(table: Table, kind: str, file: Path, parity: Parity, made_of: Mapping[str, Any]) -> None:
    """The row of an export, also in the log."""
    size = sum(part.stat().st_size for part in file.parent.iterdir()) / 2**20
    table.add(
        format=kind,
        file=file.name,
        megabytes=size,
        frames=parity.frames,
        dice=parity.dice,
        lowest_dice=parity.lowest_dice,
        probability_difference=parity.probability_difference,
        **made_of,
    )
    logger.info(
        "%s: %.1f MiB, Dice with the original %.5f (lowest %.5f), probabilities differ by up to %.2g",
        *(file.name, size, parity.dice, parity.lowest_dice, parity.probability_difference),
    )


def fold_temperature(network: nn.Module, temperature: float) -> nn.Module:
    """A copy of a network whose logits are divided by a temperature, at no cost: its last layer is divided by it.

    Raises:
        ValueError: a temperature that is not above 0.
        TypeError: a network whose segmentation head is not known, or more than one convolution.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a number above 0, 1 = as trained.")
    network = copy.deepcopy(network).eval()
    if temperature != 1:
        head = segmentation_head(network)
        layers = [part for part in head.modules() if not list(part.children())]
        if len(layers) != 1 or not isinstance(layers[0], nn.Conv2d | nn.ConvTranspose2d):
            raise TypeError(
                f"a temperature cannot be folded into this {type(network).__name__}: its head is more than one "
                "convolution, and what is divided before a norm comes out undivided. Export with --temperature 1, and "
                "give the temperature to inference.json."
            )
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.div_(temperature)
    return network


@torch.no_grad()
def probabilities(network: nn.Module, batches: Sequence[Tensor], name: str) -> Tensor:
    """Lesion probabilities (N, H, W) of batches (B, 3, H, W) in 0..1; the progress bar shows the name."""
    return torch.cat([lesion_probability(network(one)) for one in tqdm(batches, desc=name, delay=2, leave=False)])
