"""Many frames on one picture, each with its outline and caption."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scripts.io.overlay import draw_overlay
from scripts.io.writers import write_bytes

logger = logging.getLogger(__name__)

COLUMNS = 5
TILE = 256  # pixels, side of the square that a frame is fitted into
CAPTION = 34  # pixels, height of two lines of text below it
GAP = 8  # pixels between tiles
MOST = 200  # frames; a larger sheet is no longer looked at
PAPER, INK = (255, 255, 255), (20, 20, 20)


def draw_contact_sheet(path: str | Path, frames: Iterable[tuple[Image.Image, Image.Image | None, str]]) -> None:
    """Write a PNG of frames in rows of five, in the order given, the predicted lesion outlined.

    Args:
        frames: picture (RGB), lesion probability (mode F, 0..1, any size) or None, caption of up to two lines. They are
            asked for one by one and kept at TILE pixels; those after the first MOST are left out (logged).

    Raises:
        OutputError: the file cannot be written.
    """
    rest = iter(frames)
    tiles = [_tile(*frame) for frame in islice(rest, MOST)]
    if left := sum(1 for _ in rest):
        logger.warning("%s shows the first %d frames; %d more are in the table alone", path, MOST, left)
    columns = max(1, min(COLUMNS, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    width, height = TILE + GAP, TILE + CAPTION + GAP
    sheet = Image.new("RGB", (GAP + columns * width, GAP + rows * height), PAPER)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (GAP + number % columns * width, GAP + number // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())


def _tile(picture: Image.Image, probability: Image.Image | None, caption: str) -> Image.Image:
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.convert("RGB").resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
    if probability is not None:
        lesion = np.asarray(probability.resize(size, Image.Resampling.BILINEAR)) > 0.5
        small = Image.fromarray(draw_overlay(np.asarray(small), lesion))
    tile = Image.new("RGB", (TILE, TILE + CAPTION), PAPER)
    tile.paste(small, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    font = ImageFont.load_default(size=13)
    pen = ImageDraw.Draw(tile)
    for number, line in enumerate(caption.split("\n")[:2]):
        pen.text((2, TILE + 2 + number * (CAPTION // 2)), _fitted(line, pen, font), fill=INK, font=font)
    return tile


def _fitted(line: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The line, its beginning cut off where it is too wide: the end of a file name says more."""
    if pen.textlength(line, font=font) <= TILE - 4:
        return line
    while line and pen.textlength("..." + line, font=font) > TILE - 4:
        line = line[1:]
    return "..." + line
