"""Clips that the tests make themselves with PyAV: every frame carries its own number as black and white squares."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

BITS = 8  # squares in the upper half of a frame, most significant first


def numbered_frame(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frame (H, W, 3) uint8: upper half the number as eight squares, lower half a ramp; the left edge is reddish."""
    frame = np.empty((height, width, 3), dtype=np.uint8)
    frame[:] = np.linspace(60, 190, width, dtype=np.uint8)[None, :, None]
    columns = np.minimum(np.arange(width) * BITS // width, BITS - 1)
    bits = (number >> (BITS - 1 - columns)) & 1
    frame[: height // 2] = (30 + 200 * bits)[None, :, None]
    frame[height // 2 :, : width // 8] = (200, 60, 60)
    return frame


def read_number(frame: np.ndarray) -> int:
    """Read back the number of an upright numbered frame, whatever its size."""
    height, width = frame.shape[:2]
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    bits = frame[height // 8 : 3 * height // 8, centres].mean(axis=(0, 2)) > 128
    return int(sum(int(bit) << (BITS - 1 - place) for place, bit in enumerate(bits)))


def make_clip(
    path: Path,
    frames: int = 20,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 96),
    fps: int = 25,
    times_ms: Sequence[int] | None = None,
    b_frames: int = 2,
    gop: int = 8,
    pix_fmt: str = "yuv420p",
    pixel_aspect: Fraction | None = None,
    clockwise: int = 0,
    audio: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    format: str | None = None,
    colour: dict[str, int] | None = None,
) -> Path:
    """Write a clip of numbered frames, or of `pictures`, (H, W, 3) uint8 RGB.

    size: height and width as stored, before the rotation. times_ms: presentation time of each frame for a variable
    frame rate. clockwise: the display matrix asks players for this turn. colour: attributes of the encoder's context
    (colorspace, color_range), said in the file. A picture (H * 3 / 2, W) holds planes of yuv420p, stored as they are.
    """
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.gop_size = gop
        context.thread_count = 1
        if codec != "libvpx-vp9":
            context.max_b_frames = b_frames
        if pixel_aspect:
            context.sample_aspect_ratio = pixel_aspect
        if times_ms is not None:
            context.time_base = Fraction(1, 1000)
        if clockwise:
            stream.set_display_rotation(-clockwise)
        for name, value in (colour or {}).items():
            setattr(context, name, value)
        if audio:
            sound = container.add_stream("aac", rate=16000)
        for number in range(frames):
            picture = numbered_frame(number, *size) if pictures is None else pictures[number]
            if picture.ndim == 2:  # planes of yuv420p below each other, stored as they are
                frame = VideoFrame.from_ndarray(picture, format="yuv420p")
            else:
                frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio:
            _add_silence(container, sound, frames / fps)
    return path


def make_audio_only(path: Path, seconds: float = 0.5) -> Path:
    """Write a file with a sound track and no picture."""
    with av.open(str(path), "w") as container:
        _add_silence(container, container.add_stream("aac", rate=16000), seconds)
    return path


def decode_all(path: Path) -> list[np.ndarray]:
    """Every frame as plain sequential PyAV decoding gives it: the reference. Neither rotation nor pixel aspect."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _add_silence(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    for _ in range(max(1, round(seconds * 16000 / 1024))):
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
    container.mux(stream.encode())
