"""The overlay video of a clip, drawn and encoded beside the inference."""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.io.errors import MediaError
from scripts.io.image_reader import read_rgb
from scripts.io.media import close_media
from scripts.io.video_overlay import draw_video_overlay
from scripts.io.video_writer import OverlayVideo

logger = logging.getLogger(__name__)

_TICK_S = 1e-3  # what frames of one time are shown apart
_WAITING = 8  # masks that may wait to be drawn


class OverlayClip:
    """Reads the frames of a clip a second time, draws masks on them and encodes them, in a thread of its own.

    A second decoding costs less than to pass full frames through the loader for those who want no overlay.

    Args:
        path: target .mp4; appears whole, or not at all.
        fps: of the overlay video, frames/s.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self._fps = fps
        self._todo: queue.Queue[tuple[str, NDArray[np.bool_], str, float] | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._cancelled = False
        self._last_s = -_TICK_S
        self._thread = threading.Thread(target=self._work, name="overlay clip", daemon=True)
        self._thread.start()

    def add(self, address: str, mask: NDArray[np.bool_], text: str, time_s: float) -> None:
        """Queue one frame. Raises what went wrong with an earlier one (OutputError, ValueError).

        A frame of the same time as the one before, or an earlier one, as some files have them, is shown a tick later.
        """
        time_s = self._last_s = max(time_s, self._last_s + _TICK_S)
        while True:
            if self._error is not None:
                raise self._error
            try:
                return self._todo.put((address, mask, text, time_s), timeout=0.1)
            except queue.Full:
                continue

    def close(self) -> None:
        """Wait for all frames and give the file its name. Raises what went wrong."""
        self._end()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Leave no file."""
        self._cancelled = True
        self._end()

    def _end(self) -> None:
        while self._thread.is_alive():
            try:
                self._todo.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()

    def _work(self) -> None:
        video: OverlayVideo | None = None
        try:
            while (task := self._todo.get()) is not None and not self._cancelled:
                address, mask, text, time_s = task
                try:
                    frame = read_rgb(address)
                except MediaError as error:  # read before, or there were no mask: damage that one decoder passed
                    logger.warning("a frame is left out of the overlay clip: %s", error)
                    continue
                drawn = draw_video_overlay(frame, mask, text)
                if video is None:
                    video = OverlayVideo(self.path, drawn.shape[1], drawn.shape[0], self._fps)
                video.add(drawn, time_s)
            if video is not None and not self._cancelled:
                video.close()
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the caller
            self._error = error
        finally:
            if video is not None and (self._cancelled or self._error is not None):
                video.abort()
            close_media()
