"""A watchable clip out of RGB frames: H.264 in MP4, encoded in a thread of its own."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from queue import Empty, Full, Queue
from types import TracebackType

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from scripts.io.atomic import replacing
from scripts.io.writers import OutputError

_QUEUED = 8  # frames that wait for the encoder; at 1280x720 22 MB
_CODEC = "libx264"
_OPTIONS = {"preset": "veryfast", "crf": "20"}
_TICKS = 90_000  # time stamps a second, the usual clock of video
_BT709, _LIMITED = 1, 1  # colour matrix and range as H.264 numbers them (ITU-T H.273)
_END = None


class OverlayVideo:
    """Writes frames to an H.264 MP4 that any player shows; it appears under its name when it is whole.

    Use it as a context manager: left by an exception, it leaves nothing behind. Frames wait in a short queue for the
    encoder's thread, so that encoding goes on beside inference. An odd width or height, which H.264 cannot store in
    yuv420p, is made even by repeating the last column or row.
    """

    def __init__(self, path: str | Path, width: int, height: int, fps: float) -> None:
        """Begin to write `path`: frames of `width` x `height` pixels, `fps` frames/s.

        Raises:
            ValueError: a size below 2 x 2, or a frame rate that is not above 0.
            OutputError: the folder cannot be written.
        """
        if width < 2 or height < 2 or not 0 < fps < 1000:
            raise ValueError(f"{path}: {width}x{height} at {fps} frames/s; expected at least 2x2 and 0 < fps < 1000.")
        self._path, self._shape, self._fps = Path(path), (height, width, 3), fps
        self._last_tick = -1
        self._count = 0
        self._error: BaseException | None = None
        self._aborted = threading.Event()
        self._queue: Queue[tuple[np.ndarray, int] | None] = Queue(_QUEUED)
        self._stack = ExitStack()
        try:
            self._partial = self._stack.enter_context(replacing(self._path))
        except OSError as error:
            raise self._failure(error) from error
        self._thread = threading.Thread(target=self._encode, name="overlay encoder", daemon=True)
        self._thread.start()
        self._open = True

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def add(self, rgb: np.ndarray, time_s: float | None = None) -> None:
        """Append a frame (H, W, 3) uint8 RGB; it is copied.

        time_s: when it is shown, seconds from the clip's start, above that of the frame before; None: 1 / fps later.

        Raises:
            ValueError: another shape or type, a time that does not grow, or a closed file.
            OutputError: the encoder failed, e.g. the disk is full; nothing is left behind.
        """
        if not self._open:
            raise ValueError(f"{self._path}: the overlay video is closed; no frame can be added.")
        if rgb.shape != self._shape or rgb.dtype != np.uint8:
            raise ValueError(f"{self._path}: frame of {rgb.shape} {rgb.dtype}, expected {self._shape} uint8.")
        step = max(1, round(_TICKS / self._fps))
        if time_s is None:
            tick = self._last_tick + step if self._count else 0
        else:
            tick = round(time_s * _TICKS)
        if tick <= self._last_tick:
            raise ValueError(
                f"{self._path}: frame {self._count} at {tick / _TICKS:.3f} s, not after the one before "
                f"({self._last_tick / _TICKS:.3f} s)."
            )
        self._last_tick, self._count = tick, self._count + 1
        self._put((_even(rgb), tick))

    def close(self) -> None:
        """Finish the clip and give it its name; a second call does nothing.

        Raises OutputError: it cannot be finished, or no frame was added; nothing is left behind.
        """
        if not self._open:
            return
        self._put(_END)
        self._thread.join()
        self._open = False
        if self._error is None and not self._count:
            self._error = ValueError("no frame was added")
        if self._error is not None:
            self._discard()
            raise self._failure(self._error) from self._error
        try:
            self._stack.close()
        except OSError as error:
            raise self._failure(error) from error

    def abort(self) -> None:
        """Stop and leave nothing behind; after close or abort it does nothing."""
        if not self._open:
            return
        self._open = False
        self._aborted.set()
        self._drain()
        self._thread.join()
        self._discard()

    def _put(self, item: tuple[np.ndarray, int] | None) -> None:
        """Queue an item; the encoder's failure is raised here."""
        while True:
            if self._error is not None:
                self._open = False
                self._thread.join()
                self._discard()
                raise self._failure(self._error) from self._error
            try:
                return self._queue.put(item, timeout=0.2)
            except Full:
                continue

    def _drain(self) -> None:
        with suppress(Empty):  # the encoder takes frames meanwhile
            while True:
                self._queue.get_nowait()
        self._queue.put(_END)

    def _discard(self) -> None:
        """Remove the temporary file: `replacing` does so when it is left by an exception."""
        error = self._error or InterruptedError("aborted")
        self._stack.__exit__(type(error), error, None)

    def _failure(self, error: BaseException) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return OutputError(
            f"{self._path}: the overlay video cannot be written ({reason}); make the folder writable and check that "
            "the disk is not full, or give another output_dir."
        )

    def _encode(self) -> None:
        """The thread: take frames from the queue until the end, or until something fails."""
        reformatter = VideoReformatter()
        try:
            with av.open(str(self._partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream(_CODEC, rate=Fraction(self._fps).limit_denominator(1001))
                stream.height, stream.width = (size + size % 2 for size in self._shape[:2])
                stream.pix_fmt, stream.options = "yuv420p", dict(_OPTIONS)
                context = stream.codec_context
                context.colorspace, context.color_range = _BT709, _LIMITED  # said, so that no player has to guess
                context.color_primaries = context.color_trc = _BT709
                context.time_base = Fraction(1, _TICKS)
                context.gop_size = max(1, round(2 * self._fps))  # a key frame every 2 s, so that one can jump in it
                while (item := self._queue.get()) is not _END and not self._aborted.is_set():
                    rgb, tick = item
                    frame = VideoFrame.from_ndarray(rgb, format="rgb24")
                    frame = reformatter.reformat(
                        frame, format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED, threads=1
                    )
                    frame.pts, frame.time_base = tick, Fraction(1, _TICKS)
                    container.mux(stream.encode(frame))
                if not self._aborted.is_set() and self._count:
                    container.mux(stream.encode())
        except BaseException as error:  # reaches the caller by add() or close()
            self._error = error


def _even(rgb: np.ndarray) -> np.ndarray:
    """Copy (H, W, 3), made even in both directions by repeating the last row or column."""
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.array(rgb, order="C")
