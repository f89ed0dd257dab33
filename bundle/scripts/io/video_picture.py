"""One decoded video frame -> upright RGB with square pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

_LARGEST_ASPECT = 4  # beyond 4:1 (PAL 16:9 is 1.46) a pixel aspect is a broken header, not a picture


@dataclass(frozen=True)
class Geometry:
    """How the stored picture is stretched and turned.

    Attributes:
        width, height: stretched to square pixels, before turning.
        turn: a, b, c, d of the display matrix: the stored pixel (x, y) is shown at (a x + c y, b x + d y); only the
            signs and the larger pair count, so that turns are multiples of 90 degrees.
        pixel_aspect: width of a stored pixel divided by its height.
    """

    width: int
    height: int
    turn: tuple[int, int, int, int]
    pixel_aspect: float

    @property
    def transposed(self) -> bool:
        """Whether rows become columns."""
        return abs(self.turn[0]) < abs(self.turn[1])

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the stored picture is turned: 0, 90, 180 or 270."""
        a, b = self.turn[:2]
        return round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright picture."""
        return (self.width, self.height) if self.transposed else (self.height, self.width)


def geometry_of(frame: VideoFrame, aspect: Fraction | None) -> Geometry:
    """Read how `frame` is to be shown; `aspect` is the stream's sample aspect ratio, None or 0 when unknown.

    Pixels are made square by stretching the narrower side, never by shrinking, so that nothing is lost.
    """
    ratio = float(aspect) if aspect else 1.0
    if not 1 / _LARGEST_ASPECT <= ratio <= _LARGEST_ASPECT:
        ratio = 1.0
    width, height = frame.width, frame.height
    if ratio > 1:
        width = round(width * ratio)
    elif ratio < 1:
        height = round(height / ratio)
    return Geometry(width, height, _display_matrix(frame), ratio)


def upright_rgb(frame: VideoFrame, geometry: Geometry, reformatter: VideoReformatter) -> np.ndarray:
    """Convert a decoded frame -> (H, W, 3) uint8 RGB of `geometry.shape`, C-contiguous.

    Colour matrix and range are those that the frame names; BT.601, limited range, where it names none (FFmpeg's rule).
    The reformatter is kept between the frames of a clip.
    """
    same = (frame.width, frame.height) == (geometry.width, geometry.height)
    size = {} if same else {"width": geometry.width, "height": geometry.height, "interpolation": "BICUBIC"}
    rgb = reformatter.reformat(frame, format="rgb24", threads=1, **size).to_ndarray()
    a, b, c, d = geometry.turn
    if geometry.transposed:
        rgb = rgb.transpose(1, 0, 2)
        across, down = c, b
    else:
        across, down = a, d
    if across < 0:
        rgb = rgb[:, ::-1]
    if down < 0:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The four numbers of the frame's display matrix that turn and mirror it (16.16 fixed point)."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return (1 << 16, 0, 0, 1 << 16)
    matrix = np.frombuffer(bytes(data), dtype=np.int32)
    return tuple(int(matrix[place]) for place in (0, 1, 3, 4))
