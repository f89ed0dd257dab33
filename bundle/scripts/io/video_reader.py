"""Any frame of a clip by its number: PyAV (FFmpeg) decodes, memory stays constant."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from av.video.reformatter import VideoReformatter

from scripts.io.errors import MediaError
from scripts.io.video_decoder import FrameDecoder
from scripts.io.video_picture import Geometry, geometry_of, upright_rgb

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """What a clip is.

    Attributes:
        name: the file's name as errors say it.
        width, height: of the upright frames with square pixels.
        frames: number of frames shown. fps: frames/s, mean over the clip. duration_s: frames / fps.
        codec: FFmpeg's name of the codec.
        rotation: degrees clockwise (0, 90, 180, 270) by which stored frames are turned. pixel_aspect: width / height of
            a stored pixel. Both are already applied to what `VideoFile.frame` returns.
        declared_frames: the header's number of frames, None when it says none.
        warnings: what is wrong with the clip as a whole, as sentences.
    """

    name: str
    width: int
    height: int
    frames: int
    fps: float
    duration_s: float
    codec: str
    rotation: int
    pixel_aspect: float
    declared_frames: int | None
    warnings: tuple[str, ...]


class VideoFile:
    """Frames of one clip by their number in the order of showing; made for one thread of one process.

    Reading in ascending order costs one decoding a frame; other orders start at the key frame before. A frame that does
    not decode raises, and so do those up to the next key frame, whose pixels FFmpeg would make up. Memory is constant.
    """

    def __init__(self, source: str | Path | BinaryIO, name: str | None = None) -> None:
        """Open a file, or a seekable binary stream (`name` is what errors call it), and count its frames.

        Raises MediaError: missing, empty, not a video, sound only, without its header (cut off), without a frame that
        decodes, or a codec that this FFmpeg cannot decode. A clip that breaks off is opened: see `info.warnings`.
        """
        self._name = str(name or (source if isinstance(source, str | Path) else "video stream"))
        self._reformatter = VideoReformatter()
        self._decoder = FrameDecoder(source, self._name)
        self._index = self._decoder.index
        try:
            self._geometry = self._first_geometry()
        except BaseException:
            self.close()
            raise
        self.info = self._describe()
        for warning in self.info.warnings:
            logger.warning("%s: %s", self._name, warning)

    def __len__(self) -> int:
        return len(self._index)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def time(self, index: int) -> float:
        """Seconds from the showing of the first frame to that of frame `index`. Raises IndexError."""
        return self._index.time(index)

    def frame(self, index: int) -> np.ndarray:
        """Decode frame `index` (0 is the first shown) -> (H, W, 3) uint8 RGB, upright, square pixels.

        Raises:
            IndexError: outside 0..len-1.
            MediaError: this frame is damaged, or one that it refers to; from the next key frame on all can be read.
            ValueError: the file is closed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self._name}: frame {index}; the clip has {len(self)} frames, counted from 0.")
        if self._decoder.closed:
            raise ValueError(f"{self._name}: the video is closed.")
        frame = self._decoder.fetch(index)
        if frame is None:
            raise MediaError(
                f"{self._name}: frame {index} (at {self.time(index):.2f} s) does not decode ({self._decoder.why}): "
                "copy the clip again from its source, or leave this frame out"
            )
        return upright_rgb(frame, self._geometry, self._reformatter)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._decoder.close()

    def _first_geometry(self) -> Geometry:
        """How frames are shown, by the first one that decodes. Raises MediaError when none does."""
        for index in range(len(self)):
            frame = self._decoder.fetch(index)
            if frame is not None:
                return geometry_of(frame, self._decoder.stream.sample_aspect_ratio)
        raise MediaError(
            f"{self._name}: none of its {len(self)} frames decodes ({self._decoder.why}); copy it again from its source"
        )

    def _describe(self) -> VideoInfo:
        height, width = self._geometry.shape
        return VideoInfo(
            name=self._name,
            width=width,
            height=height,
            frames=len(self),
            fps=self._index.rate,
            duration_s=len(self) / self._index.rate,
            codec=self._decoder.stream.codec_context.name,
            rotation=self._geometry.rotation,
            pixel_aspect=self._geometry.pixel_aspect,
            declared_frames=self._index.declared_frames,
            warnings=self._index.warnings,
        )
