"""The predicted lesion and the time drawn on a video frame, quick enough to keep up with a clip."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scripts.io.overlay import FILL_OPACITY, PREDICTION_COLOUR, RIM_COLOUR, box_around, line_width

_TEXT_SHARE = 0.035  # height of the letters as a share of the frame's
_FILL = np.stack(  # (3, 256): what each grey value becomes under the translucent fill
    [np.round(np.arange(256) * (1 - FILL_OPACITY) + FILL_OPACITY * level) for level in PREDICTION_COLOUR]
).astype(np.uint8)


def draw_video_overlay(frame: np.ndarray, mask: np.ndarray, text: str = "") -> np.ndarray:
    """Draw the lesion (magenta outline, dark rim, translucent fill) and a line of text on a frame.

    The same colours and line width as `overlay.draw_overlay`; the outline grows by octagons instead of by discs, which
    is quicker. Only the box around the mask is worked on. The border of the frame is no outline.

    Args:
        frame: (H, W, 3) uint8 RGB. mask: (H, W) bool. text: e.g. "00:12.4", white on a dark box at the bottom left.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: for another type or for shapes that do not fit.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.shape} {frame.dtype}, expected (H, W, 3) uint8.")
    if mask.shape != frame.shape[:2] or mask.dtype != bool:
        raise ValueError(f"mask is {mask.shape} {mask.dtype}, expected {frame.shape[:2]} bool.")
    drawn = frame.copy()
    if mask.any():
        width = line_width(*frame.shape[:2])
        box = box_around(mask, margin=width + 1)
        _draw_lesion(drawn[box], mask[box], width)
    if text:
        _draw_text(drawn, text)
    return drawn


def _draw_lesion(drawn: np.ndarray, mask: np.ndarray, width: int) -> None:
    """Fill and outline on the part of a frame around the mask, in place."""
    line = _grown(mask, width)
    rim = _grown(line, 1) & ~line
    line &= ~mask
    for channel, colour in enumerate(PREDICTION_COLOUR):
        plane = drawn[..., channel]
        np.copyto(plane, _FILL[channel][plane], where=mask)
        np.copyto(plane, np.uint8(colour), where=line)
        np.copyto(plane, plane // 2 + np.uint8(RIM_COLOUR[channel] // 2), where=rim)


def _grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask grown by an octagon that reaches `steps` pixels along rows and columns; boolean (H, W)."""
    square = steps // 2
    for axis in (0, 1):
        done = 0
        while done < square:  # a shift of what has grown already doubles the reach
            step = min(done + 1, square - done)
            mask = _spread(mask, step, (axis,))
            done += step
    for _ in range(steps - square):
        mask = _spread(mask, 1, (0, 1))
    return mask


def _spread(mask: np.ndarray, step: int, axes: tuple[int, ...]) -> np.ndarray:
    """The mask together with its copies shifted by `step` both ways along each of `axes`; a new array."""
    grown = mask.copy()
    for axis in axes:
        later, earlier = [slice(None)] * 2, [slice(None)] * 2
        later[axis], earlier[axis] = slice(step, None), slice(None, -step)
        grown[tuple(later)] |= mask[tuple(earlier)]
        grown[tuple(earlier)] |= mask[tuple(later)]
    return grown


def _draw_text(drawn: np.ndarray, text: str) -> None:
    """White letters on a dark box at the bottom left, in place."""
    height, width = drawn.shape[:2]
    size = max(12, round(_TEXT_SHARE * height))
    letters = _letters(text, size)[-height:, :width]
    top = height - letters.shape[0]
    drawn[top:, : letters.shape[1]] = letters


@lru_cache(maxsize=64)
def _letters(text: str, size: int) -> np.ndarray:
    """A line of text as (h, w, 3) uint8, with a margin."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    margin = max(2, size // 4)
    _, line_top, _, line_bottom = font.getbbox("0:Ag")  # the same height whatever the letters
    top, bottom = min(top, line_top), max(bottom, line_bottom)
    image = Image.new("RGB", (right - left + 2 * margin, bottom - top + 2 * margin), RIM_COLOUR)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=font, fill=(255, 255, 255))
    pixels = np.asarray(image)
    pixels.flags.writeable = False
    return pixels
