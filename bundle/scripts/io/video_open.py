"""A clip's container and its video stream, or an error that says what the file is instead."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from scripts.io.errors import MediaError

# Film formats only: FFmpeg would also show a text file as a film of its letters, and follow play lists to other files
# and to the network.
CONTAINERS = (
    *("mov", "matroska", "avi", "asf", "flv", "mpeg", "mpegts", "mpegvideo", "m4v", "h264", "hevc", "ogg", "mxf"),
    *("dv", "ivf", "nut", "rm", "wtv", "mjpeg", "obu", "av1", "vc1"),
)
_OPTIONS = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file,pipe"}
_SEARCHED = 1 << 20  # bytes at either end of a file
# Sample description of MP4 and MOV, stream header of AVI, CodecID of Matroska.
_CODEC_TAG = re.compile(rb"stsd.{12}([ -~]{4})|vids([ -~]{4})|(V_[A-Z0-9_/]{2,30})", re.DOTALL)
_COVER = Disposition.attached_pic


def open_container(source: str | Path | BinaryIO, name: str) -> InputContainer:
    """Open a film file, or a seekable binary stream from its beginning.

    Raises MediaError: missing, a folder, empty, cut off before its header, or not a film.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise MediaError(f"{name}: no such file; check the path, or take its row out of the datalist")
        if path.is_dir():
            raise MediaError(f"{name}: expected a video file, found a folder")
        empty, handle = path.stat().st_size == 0, str(path.absolute())
    else:
        empty, handle = source.seek(0, 2) == 0, source
        source.seek(0)
    if empty:
        raise MediaError(f"{name}: the file is empty (0 bytes); copy it again from its source or remove it")
    try:
        return av.open(handle, options=_OPTIONS)
    except PermissionError as error:
        raise MediaError(f"{name}: no permission to read it; change its permissions") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{name}: not a video that can be read, or cut off before its header was written "
            f"({reason_of(error)}); expected MP4, MOV, AVI, MKV or the like: copy it again "
            "from its source, or record it again"
        ) from error


def video_stream(container: InputContainer, source: str | Path | BinaryIO, name: str) -> VideoStream:
    """The first stream of moving pictures, with its decoder; the others are not read.

    Raises MediaError: sound only, or no decoder for the codec.
    """
    films = [stream for stream in container.streams.video if not stream.disposition & _COVER]
    if not films:
        found = "sound only" if container.streams.audio else "no video stream"
        raise MediaError(f"{name}: {found}, moving pictures were expected; choose the file that holds the video")
    stream = films[0]
    if stream.codec_context is None:
        raise MediaError(
            f"{name}: no decoder for its codec {_codec_tags(source)}; convert it where it plays, e.g. "
            "`ffmpeg -i INPUT -c:v libx264 -crf 12 OUTPUT.mp4`, or install a PyAV (av) that is built on an FFmpeg "
            "with this decoder"
        )
    for other in container.streams:
        if other is not stream:
            other.discard = Discard.all
    return stream


def reason_of(error: Exception) -> str:
    """What FFmpeg or the system says went wrong, without a path."""
    return getattr(error, "strerror", None) or type(error).__name__


def _codec_tags(source: str | Path | BinaryIO) -> str:
    """The codec's name as the container spells it; PyAV tells nothing about a stream that it cannot decode."""
    with open(source, "rb") if isinstance(source, str | Path) else nullcontext(source) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        data = stream.read(_SEARCHED)
        if size > _SEARCHED:  # MP4 may hold its header at the end
            stream.seek(max(_SEARCHED, size - _SEARCHED))
            data += stream.read(_SEARCHED)
    tags = [next(tag for tag in found if tag) for found in _CODEC_TAG.findall(data)]
    return ", ".join(dict.fromkeys(tag.decode("latin-1").strip() for tag in tags)) or "of an unknown name"
