"""What inference says of one frame, and who may write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: kinds of files whose frames follow each other in time
MOVING = ("video", "DICOM video")
#: kinds of files that a DICOM segmentation can refer to
DICOM = ("DICOM", "DICOM video")


@dataclass(frozen=True)
class FrameResult:
    """One frame: where it comes from, its mask, and its figures (see frame_quality)."""

    file: str  # address relative to the input folder, clip.mp4#12
    source: str  # the file alone, clip.mp4
    kind: str  # "picture", "volume", "DICOM", "video" or "DICOM video"
    frame: int  # 0-based
    time_s: float  # since the first frame of a video; nan elsewhere
    path: str  # where the frame is read from
    probability: NDArray[np.float32]  # (H, W), of the lesion, 0..1
    mask: NDArray[np.bool_]  # (H, W)
    figures: Mapping[str, Any]
    grid_masks: NDArray[np.bool_] | None = None  # (2, h, w), without and with smoothing; None where none was asked for
    scene_change: bool = False

    @property
    def source_path(self) -> str:
        """Path of the file that the frame is in."""
        return self.path.removesuffix(self.file.removeprefix(self.source))


class ResultWriter(Protocol):
    """Writes the frames of some kinds of files. Frames of one source come one after the other, in order."""

    def start(self, output_dir: Path) -> None:
        """Begin a new run into an existing folder."""

    def takes(self, kind: str) -> bool:
        """Whether it writes the frames of such files."""

    def add(self, result: FrameResult) -> None:
        """Write or keep one frame. Raises MediaError or ValueError: this frame fails alone."""

    def failed(self, item: Mapping[str, Any], error: str) -> None:
        """A frame that could not be read: {"file", "source", "kind", "frame", "time_s"}, and why."""

    def finish_source(self) -> None:
        """All frames of the source have come. Raises MediaError or ValueError: the source's outputs fail alone."""

    def finish(self) -> None:
        """All frames have come."""
