"""Colour DICOM, single-frame, multi-frame or encapsulated video -> its frames as 8-bit RGB."""

from __future__ import annotations

import io
import logging
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from scripts.io.dicom_fragments import (
    UNDEFINED_LENGTH,
    FragmentStream,
    group_fragments,
    read_fragments,
    read_pixel_header,
)
from scripts.io.dicom_header import display_rate, frame_times, number_of_frames, open_dicom, read_header, value_of
from scripts.io.dicom_palette import Palette
from scripts.io.dicom_pixels import (
    PALETTE,
    PixelFormat,
    decode_compressed,
    decode_native,
    is_video,
    require_decoder,
    to_rgb,
)
from scripts.io.errors import MediaError
from scripts.io.pydicom_compat import is_encapsulated

if TYPE_CHECKING:
    from scripts.io.video_reader import VideoFile

logger = logging.getLogger(__name__)

# Of an encapsulated video: recorders count the frames of a stream before its end is written.
_FRAMES_TOLERATED = 2
_SHARE_TOLERATED = 0.01


class DicomFile:
    """The frames of a DICOM file, decoded one at a time.

    VL Endoscopic, VL Photographic, their video classes, Secondary Capture, Ultrasound and any other class whose pixels
    are 8-bit RGB, YBR, palette or grey. Values are taken as pydicom converts them; no ICC profile, window or pixel
    aspect ratio is applied, so that a frame has Rows x Columns pixels, as a DICOM SEG of it must.

    Attributes:
        path: the file. dataset: header, without the pixel data.
        height, width: Rows and Columns, pixels.
        sop_class_uid, transfer_syntax: UIDs; photometric: Photometric Interpretation.
        fps: frames per second of time(), the mean; None where the header does not say.
        display_fps: frames per second at which a viewer should show them, None where the header does not say, or where
            a video does.
        is_video: one MPEG-2, H.264 or HEVC stream holds all frames.

    Raises:
        MediaError: missing, empty, not DICOM, truncated, without pixel data, not an 8-bit picture, a number of frames
            that does not fit the data, or a transfer syntax without a decoder.

    Not for several threads at once.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._video: VideoFile | None = None
        self._stream: BinaryIO = open_dicom(self.path)
        try:
            self._read_header()
            if self.is_video:
                self._open_video()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._frames

    def __enter__(self) -> DicomFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._video is not None:
            self._video.close()
        self._stream.close()

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` (0-based) -> (H, W, 3) uint8 RGB. Raises MediaError when it does not decode."""
        if not 0 <= index < self._frames:
            raise MediaError(f"{self.path}: frame {index} was asked for; the file has frames 0..{self._frames - 1}")
        if self._video is not None:
            return self._video_frame(self._video, index)
        try:
            return to_rgb(self._decode(index), self._format, self._palette)
        except MediaError:
            raise
        except Exception as error:  # decoders of many makers, each with errors of its own
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise MediaError(
                f"{self.path}: frame {index} does not decode (transfer syntax {self.transfer_syntax}, "
                f"{self.transfer_syntax.name}): {reason}; copy the file again from its source or remove it"
            ) from error

    def encoded(self, index: int) -> bytes:
        """Frame `index` (0-based) of a compressed file, as it is stored."""
        parts = []
        for fragment in self._fragments[index]:
            self._stream.seek(fragment.start)
            parts.append(self._stream.read(fragment.length))
        return b"".join(parts)

    def time(self, index: int) -> float | None:
        """Seconds from the first frame to frame `index`; None where the header does not say, see frame_times."""
        if self._video is not None:
            return self._video.time(index)
        return None if self._times is None else float(self._times[index])

    def _read_header(self) -> None:
        name = str(self.path)
        self.dataset, self.transfer_syntax = read_header(self._stream, name)
        self.sop_class_uid = UID(str(self.dataset.get("SOPClassUID") or ""))
        self._format = PixelFormat.of(self.dataset, self.transfer_syntax, name)
        self.height, self.width = self._format.rows, self._format.columns
        self.photometric = self._format.photometric
        self.is_video = is_video(self.transfer_syntax)
        self._frames = number_of_frames(self.dataset, name)
        self._times = frame_times(self.dataset, self._frames, name)
        self.fps = None if self._times is None or self._frames < 2 else (self._frames - 1) / float(self._times[-1])
        self.display_fps = display_rate(self.dataset, name)
        require_decoder(self.transfer_syntax, name)
        self._palette = None
        if self.photometric == PALETTE:
            self._palette = Palette.of(self.dataset, self.transfer_syntax != ExplicitVRBigEndian, name)
        self._find_frames()

    def _find_frames(self) -> None:
        """Find where the frames lie, and that the file holds as many as it says."""
        name, syntax = str(self.path), self.transfer_syntax
        if syntax == DeflatedExplicitVRLittleEndian:
            pixels = value_of(self.dataset, "PixelData", name)
            header = None if not pixels else (self.dataset["PixelData"].VR, len(pixels))
            self.dataset.pop("PixelData", None)
            self._stream.close()
            self._stream = io.BytesIO(pixels or b"")
        else:
            header = read_pixel_header(self._stream, syntax != ExplicitVRBigEndian)
        if header is None or header[1] == 0:
            raise MediaError(
                f"{name}: no pixel data (storage class {self.sop_class_uid.name}); the file is truncated or holds no "
                "picture: copy it again from its source, or take it out of the input"
            )
        self._vr, length = header
        self._start = self._stream.tell()
        file_bytes = self._stream.seek(0, io.SEEK_END)
        self._stream.seek(self._start)
        if is_encapsulated(syntax) != (length == UNDEFINED_LENGTH):
            kind = "compressed" if length == UNDEFINED_LENGTH else "uncompressed"
            raise MediaError(
                f"{name}: the pixel data are {kind}, transfer syntax {syntax} ({syntax.name}) says otherwise; the "
                "header is wrong: export the file again from its source"
            )
        if is_encapsulated(syntax):
            fragments, offsets = read_fragments(self._stream, file_bytes, name)
            if self.is_video:
                self._fragments = [fragments]
            else:
                offsets = _extended_offsets(self.dataset, name) or offsets
                self._fragments = group_fragments(self._stream, fragments, self._frames, offsets, name)
            return
        expected = self._format.native_frame_bytes * self._frames
        if self._start + length > file_bytes:
            raise MediaError(
                f"{name}: truncated: {length} bytes of pixel data announced, {file_bytes - self._start} there; copy "
                "the file again from its source"
            )
        if length < expected or length >= expected + self._format.native_frame_bytes:
            raise MediaError(
                f"{name}: Number of Frames (0028,0008) {self._frames} of {self.height} x {self.width} pixels need "
                f"{expected} bytes of pixel data, found {length}; the header is wrong: export the file again from its "
                "source"
            )

    def _decode(self, index: int) -> np.ndarray:
        if not is_encapsulated(self.transfer_syntax):
            self._stream.seek(self._start)
            return decode_native(self._format, self._stream, self._vr, index, self._frames)
        return decode_compressed(self._format, self.encoded(index))

    def _open_video(self) -> None:
        from scripts.io.video_reader import VideoFile

        stream = io.BufferedReader(FragmentStream(self._stream, self._fragments[0]), 1 << 16)
        self._video = video = VideoFile(stream, name=str(self.path))
        if abs(len(video) - self._frames) > max(_FRAMES_TOLERATED, _SHARE_TOLERATED * self._frames):
            raise MediaError(
                f"{self.path}: Number of Frames (0028,0008) is {self._frames}, the video in it has {len(video)}; "
                "truncated or written wrongly: export it again from its source"
            )
        if len(video) != self._frames:
            logger.warning("%s: Number of Frames is %d, the video has %d", self.path, self._frames, len(video))
            self._frames = min(self._frames, len(video))
        self.fps, self.display_fps = video.info.fps, None

    def _video_frame(self, video: VideoFile, index: int) -> np.ndarray:
        frame = video.frame(index)
        if frame.shape[:2] == (self.height, self.width):
            return frame
        if video.info.pixel_aspect == 1:
            raise MediaError(
                f"{self.path}: the video's frames are {frame.shape[0]} x {frame.shape[1]} pixels, Rows x Columns "
                f"{self.height} x {self.width}; the header is wrong: export the file again from its source"
            )
        # The video reader made its pixels square; DICOM counts the stored ones.
        resized = Image.fromarray(frame).resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.array(resized)


def _extended_offsets(dataset: Dataset, name: str) -> list[int]:
    table = value_of(dataset, "ExtendedOffsetTable", name)
    return np.frombuffer(table, "<u8").tolist() if isinstance(table, bytes) and len(table) % 8 == 0 else []
