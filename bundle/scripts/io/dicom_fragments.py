"""Where the frames of a DICOM file lie: fragments of encapsulated (compressed) pixel data, PS3.5 annex A.4."""

from __future__ import annotations

import io
import logging
import struct
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import BinaryIO

from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA, _ITEM, _SEQUENCE_END = 0x7FE00010, 0xFFFEE000, 0xFFFEE0DD
_CODESTREAM_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")  # JPEG and JPEG-LS, JPEG 2000, JP2


@dataclass(frozen=True)
class Fragment:
    """`length` bytes at `start` of the file; `item`: where its item header stands, counted from the first one's."""

    start: int
    length: int
    item: int


def read_pixel_header(stream: BinaryIO, little_endian: bool) -> tuple[str, int] | None:
    """Read the Pixel Data element's header where the stream stands -> (VR, length), or None where there is none.

    The stream is left at the first byte of the value; the length is UNDEFINED_LENGTH for encapsulated pixel data.
    """
    order = "<" if little_endian else ">"
    head = stream.read(8)
    if len(head) < 8:
        return None
    group, element = struct.unpack(f"{order}HH", head[:4])
    if group << 16 | element != _PIXEL_DATA:
        return None
    if head[4:] not in (b"OB\0\0", b"OW\0\0", b"UN\0\0"):  # implicit; as lengths these would be odd, which none is
        return "OW", struct.unpack(f"{order}L", head[4:])[0]
    tail = stream.read(4)
    return (head[4:6].decode(), struct.unpack(f"{order}L", tail)[0]) if len(tail) == 4 else None


def read_fragments(stream: BinaryIO, file_bytes: int, name: str) -> tuple[list[Fragment], list[int]]:
    """Walk over the items of encapsulated pixel data -> (fragments, basic offset table; [] where that is empty).

    The stream stands at the basic offset table; only item headers are read. Raises MediaError for a truncated file.
    """
    table: list[int] = []
    fragments: list[Fragment] = []
    first = None
    while len(head := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHL", head)
        tag = group << 16 | element
        start = stream.tell()
        if tag == _SEQUENCE_END:
            return fragments, table
        if tag != _ITEM or length == UNDEFINED_LENGTH:
            raise MediaError(
                f"{name}: damaged: no fragment of pixel data begins at byte {start - 8}; copy the file again from its "
                "source"
            )
        if start + length > file_bytes:
            raise MediaError(
                f"{name}: truncated: a fragment of pixel data needs {start + length} bytes, the file has "
                f"{file_bytes} (complete fragments before it: {len(fragments)}); copy it again from its source"
            )
        if first is None:
            values = stream.read(length - length % 4)
            table = list(struct.unpack(f"<{len(values) // 4}L", values))
            first = start + length
        else:
            fragments.append(Fragment(start, length, start - 8 - first))
        stream.seek(start + length)
    raise MediaError(
        f"{name}: truncated: the pixel data ends after {len(fragments)} fragments without the mark of its end; copy "
        "the file again from its source"
    )


def group_fragments(
    stream: BinaryIO, fragments: list[Fragment], frames: int, offsets: list[int], name: str
) -> list[list[Fragment]]:
    """Say which fragments make up each frame.

    Args:
        stream: the file. fragments: all of them, in order. frames: Number of Frames.
        offsets: where each frame's first item stands after the offset table (basic or extended), or [].

    Raises:
        MediaError: the pixel data hold another number of frames.
    """
    if not fragments:
        raise MediaError(f"{name}: no pixel data: it is encapsulated, but without a single fragment")
    if frames == 1:  # whatever the table says
        starts = [0]
        if len(fragments) > 1 and len(own := _codestream_starts(stream, fragments)) > 1:
            starts = own
    elif len(fragments) == frames:
        starts = list(range(frames))
    else:
        number = {fragment.item: index for index, fragment in enumerate(fragments)}
        starts = [number.get(offset, -1) for offset in offsets]
        if starts[:1] != [0] or any(after <= before for before, after in pairwise(starts)):
            if offsets:
                logger.warning("%s: the offset table of the pixel data is wrong; frames told by content", name)
            starts = _codestream_starts(stream, fragments)
    if len(starts) != frames:
        raise MediaError(
            f"{name}: Number of Frames (0028,0008) is {frames}, the pixel data hold {len(starts)} frames in "
            f"{len(fragments)} fragments; truncated or written wrongly: export it again from its source"
        )
    return [fragments[begin:end] for begin, end in pairwise([*starts, len(fragments)])]


def _codestream_starts(stream: BinaryIO, fragments: list[Fragment]) -> list[int]:
    """Numbers of the fragments that begin a compressed picture; the first always does."""
    starts = []
    for index, fragment in enumerate(fragments):
        stream.seek(fragment.start)
        if index == 0 or stream.read(8).startswith(_CODESTREAM_STARTS):
            starts.append(index)
    return starts


class FragmentStream(io.RawIOBase):
    """Fragments read as one stream: an encapsulated video straight from the DICOM file, without a copy of it."""

    def __init__(self, stream: BinaryIO, fragments: list[Fragment]) -> None:
        self._stream = stream
        self._fragments = fragments
        self._ends = list(accumulate(fragment.length for fragment in fragments))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}: before the stream's first byte")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:
        if self._position >= self._ends[-1]:
            return 0
        number = bisect_right(self._ends, self._position)
        left = self._ends[number] - self._position
        fragment = self._fragments[number]
        self._stream.seek(fragment.start + fragment.length - left)
        chunk = self._stream.read(min(left, len(buffer)))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)
