"""The test volumes of a run: Dice of each, and pictures of the best, median and worst."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from scripts.io.frame_address import split_address
from scripts.io.image_reader import read_rgb
from scripts.io.label_volume import is_volume
from scripts.io.mask_reader import ValueMap, read_mask
from scripts.io.writers import write_bytes
from scripts.reports.overlays import encode
from scripts.reports.run_files import RunFiles

logger = logging.getLogger(__name__)

EACH = 2  # volumes of a kind
PAGE_SIDE = 300  # pixels, longer side of one of the two pictures
FILL_OPACITY = 0.4
LINE = 2  # pixels, of the annotated outline
# Okabe and Ito's colours, in the order of the charts: they tell the structures apart, line and fill truth and guess
COLOURS = ("#2aa0ff", "#f0a000", "#10c890", "#e070b0", "#f0e442", "#d55e00")


@dataclass(frozen=True)
class Volume:
    """Dice of the structures of one test volume."""

    file: str
    slices: int
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over the structures."""
        return sum(self.dice.values()) / len(self.dice)


@dataclass(frozen=True)
class VolumeCase:
    """One shown volume; `picture` is a data URI, None where `problem` says why there is none."""

    kind: str
    volume: Volume
    slice: int | None
    picture: str | None
    problem: str | None

    @property
    def colours(self) -> dict[str, str]:
        """{structure: CSS colour}."""
        return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(self.volume.dice)}


def volumes(run: RunFiles) -> list[Volume]:
    """All test volumes, the worst first."""
    found: dict[str, Volume] = {}
    for row in run.structures:
        volume = found.setdefault(row["file"], Volume(row["file"], int(row["slices"]), {}))
        volume.dice[row["class"]] = row["dice"]
    return sorted(found.values(), key=lambda volume: (volume.mean, volume.file))


def volume_cases(run: RunFiles) -> list[VolumeCase]:
    """Draw the best, the median and the worst volumes; writes figures/volume_<kind>_<n>.png.

    A volume whose image, label or prediction cannot be read is shown as a line that says so.
    """
    labels: dict[str, dict[int | None, Path]] = {}
    for address, path in run.labels("test").items():
        file, index = split_address(address)
        labels.setdefault(file.as_posix(), {})[index] = path
    maps = run.class_maps()
    result = []
    for kind, chosen in choose(volumes(run)).items():
        for place, volume in enumerate(chosen, start=1):
            try:
                image, prediction, truth, index = _read(
                    run.picture(volume.file), maps[volume.file], labels.get(volume.file, {}), _value_map(run)
                )
            except (OSError, ValueError) as error:  # MediaError is a ValueError
                logger.warning("%s: not drawn: %s", volume.file, error)
                result.append(VolumeCase(kind, volume, None, None, str(error)))
                continue
            picture = Image.fromarray(draw_classes(image, prediction, truth))
            encoded = encode(picture, "PNG")
            write_bytes(run.path / "figures" / f"volume_{kind}_{place}.png", encoded)
            uri = "data:image/png;base64," + base64.b64encode(encoded).decode("ascii")
            result.append(VolumeCase(kind, volume, index, uri, None))
    return result


def choose(ranked: Sequence[Volume], each: int = EACH) -> dict[str, list[Volume]]:
    """The best, the median and the worst of volumes that come worst first; none is chosen twice."""
    each = min(each, max(1, len(ranked) // 3))
    best = list(ranked[::-1][:each])
    rest = ranked[: len(ranked) - len(best)]
    worst, rest = list(rest[:each]), rest[each:]
    start = max(0, (len(rest) - each) // 2)
    return {"best": best, "median": list(rest[start : start + each]), "worst": worst}


def draw_classes(image: NDArray[np.uint8], prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray:
    """The picture (H, W, 3), and right of it the same with class indices (H, W): predicted filled, true outlined."""
    scale = PAGE_SIDE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    plain = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    guess, true = (
        np.asarray(Image.fromarray(part).resize(size, Image.Resampling.NEAREST)) for part in (prediction, truth)
    )
    drawn = plain.astype(np.float32)
    for index in range(1, int(max(guess.max(), true.max())) + 1):
        text = COLOURS[(index - 1) % len(COLOURS)]
        colour = np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)], np.float32)
        drawn[guess == index] += FILL_OPACITY * (colour - drawn[guess == index])
        inside = true == index
        drawn[inside & ~binary_erosion(inside, iterations=LINE)] = colour
    gap = np.full((size[1], 4, 3), 255, np.uint8)
    return np.concatenate([plain, gap, drawn.round().astype(np.uint8)], axis=1)


def _read(
    image: Path, prediction: Path, labels: dict[int | None, Path], value_map: ValueMap | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], int | None]:
    """Picture, predicted and true classes of the slice with most annotated pixels, and its index (None: a picture)."""
    if not labels:
        raise ValueError("manifest.json names no mask for it.")
    masks = {index: read_mask(path, value_map) for index, path in labels.items()}
    index, truth = max(masks.items(), key=lambda pair: (np.count_nonzero(pair[1]), -(pair[0] or 0)))
    place = "" if index is None else f"#{index}"
    values = {str(value): value for value in range(256)}  # predictions hold class indices
    found = read_mask(f"{prediction}{place if is_volume(prediction) else ''}", values)
    picture = read_rgb(f"{image}{place}")
    for name, part in ((prediction, found), (labels[index], truth)):
        if part.shape != picture.shape[:2]:
            raise ValueError(f"{name} is {part.shape}, its image {picture.shape[:2]} (height, width).")
    return picture, found, truth, index


def _value_map(run: RunFiles) -> ValueMap | None:
    value_map = run.config.get("value_map")
    return value_map if isinstance(value_map, dict) and value_map else None
