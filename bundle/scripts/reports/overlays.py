"""Which test frames are shown, and their pictures: the frame, and the same frame with both outlines."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.io.image_reader import read_rgb
from scripts.io.mask_reader import ValueMap, read_mask
from scripts.io.overlay import draw_overlay
from scripts.io.writers import write_bytes
from scripts.reports.run_files import RunFiles

logger = logging.getLogger(__name__)

EACH = 3  # frames of a kind
PAGE_WIDTH = 520  # pixels, of a frame in the page; figures/*.png has the original size
KINDS = {
    "best": "Best",
    "median": "Median",
    "worst": "Worst",
    "false_alarm": "False alarms on lesion-free frames",
}


@dataclass(frozen=True)
class Case:
    """One shown frame; `picture` is a data URI, None where `problem` says why there is none."""

    kind: str
    row: dict[str, Any]
    picture: str | None
    problem: str | None

    @property
    def lesion_share(self) -> float:
        """Annotated lesion, share of the frame."""
        return self.row["lesion_px"] / max(1.0, self.row["height"] * self.row["width"])

    @property
    def predicted_share(self) -> float:
        """Predicted lesion, share of the frame."""
        return self.row["predicted_px"] / max(1.0, self.row["height"] * self.row["width"])


def choose(images: Sequence[dict[str, Any]], each: int = EACH) -> dict[str, list[dict[str, Any]]]:
    """The best, the median and the worst frames with a lesion by Dice, and the largest false alarms without one.

    No frame is chosen twice. Lesion-free frames stand apart: their Dice is 1 or 0 whatever the outline.
    """
    ranked = sorted(
        (row for row in images if row.get("lesion_px", 0) > 0), key=lambda row: (-row.get("dice", 0.0), row["file"])
    )
    each = min(each, max(1, len(ranked) // 3))
    best, rest = ranked[:each], ranked[each:]
    worst = rest[max(0, len(rest) - each) :][::-1]
    rest = rest[: len(rest) - len(worst)]
    # The middle of all frames, not of those left over; without enough frames there is no middle to show.
    start = max(0, min(len(ranked) // 2 - each - each // 2, len(rest) - each))
    alarms = [row for row in images if row.get("lesion_px", 0) == 0 and row.get("predicted_px", 0) > 0]
    alarms.sort(key=lambda row: (-row["predicted_px"], row["file"]))
    return {"best": best, "median": rest[start : start + each], "worst": worst, "false_alarm": alarms[:EACH]}


def cases(run: RunFiles) -> list[Case]:
    """Draw the chosen frames; writes figures/overlay_<kind>_<n>.png.

    A frame whose image, mask or prediction cannot be read is shown as a line that says so.
    """
    labels, predictions, value_map = run.labels("test"), run.predictions(), run.config.get("value_map") or None
    result = []
    for kind, rows in choose(run.images).items():
        for place, row in enumerate(rows, start=1):
            file = row["file"]
            try:
                frame = read_frame(run.picture(file), predictions[file], labels.get(file), value_map)
            except (OSError, ValueError) as error:  # MediaError is a ValueError
                logger.warning("%s: not drawn: %s", file, error)
                result.append(Case(kind, row, None, str(error)))
                continue
            picture = Image.fromarray(draw_pair(*frame, axis=1))
            write_bytes(run.path / "figures" / f"overlay_{kind}_{place}.png", encode(picture, "PNG"))
            result.append(Case(kind, row, page_picture(*frame), None))
    return result


def read_frame(
    image_path: Path, prediction_path: Path, label_path: Path | None, value_map: ValueMap | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8, predicted and true mask, both bool (H, W).

    Args:
        value_map: {pixel value: class} of the true mask, see read_mask.

    Raises:
        OSError, ValueError: when a file cannot be read or the sizes differ.
    """
    if label_path is None:
        raise ValueError("manifest.json names no mask for this frame.")
    image, prediction = read_rgb(image_path), read_mask(prediction_path) > 0
    truth = read_mask(label_path, value_map) > 0
    for path, mask in ((prediction_path, prediction), (label_path, truth)):
        if mask.shape != image.shape[:2]:
            raise ValueError(f"{path} is {mask.shape}, its image {image.shape[:2]} (height, width).")
    return image, prediction, truth


def draw_pair(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray, axis: int) -> np.ndarray:
    """The frame and the same frame with outlines, below (axis 0) or right (axis 1) of it; (H, W, 3) uint8."""
    gap_shape = list(image.shape)
    gap_shape[axis] = max(2, image.shape[axis] // 100)
    gap = np.full(gap_shape, 255, dtype=np.uint8)
    return np.concatenate([image, gap, draw_overlay(image, prediction, truth)], axis=axis)


def page_picture(image: np.ndarray, prediction: np.ndarray, truth: np.ndarray) -> str:
    """The pair as a data URI, resized before drawing, so that its lines are neither thinned nor coarse."""
    size = (PAGE_WIDTH, max(1, round(PAGE_WIDTH * image.shape[0] / image.shape[1])))
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    masks = [np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in (prediction, truth)]
    picture = Image.fromarray(draw_pair(resized, *masks, axis=0))
    return "data:image/jpeg;base64," + base64.b64encode(encode(picture, "JPEG")).decode("ascii")


def labelled_lesion_share(run: RunFiles, limit: int = 200) -> float | None:
    """Mean lesion share of the labelled training masks (the first `limit`), 0..1; None if one cannot be read."""
    paths = list(run.labels("training").values())[:limit]
    value_map = run.config.get("value_map") or None
    try:
        shares = [float((read_mask(path, value_map) > 0).mean()) for path in paths]
    except (OSError, ValueError) as error:
        logger.warning("The labelled lesion share is not shown: %s", error)
        return None
    return float(np.mean(shares)) if shares else None


def encode(picture: Image.Image, kind: str) -> bytes:
    """A picture as the bytes of a PNG or JPEG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **({"quality": 84, "optimize": True} if kind == "JPEG" else {}))
    return buffer.getvalue()
