"""What a JPEG or JPEG-LS stream holds beside its pixels: cameras write who, when and where into it."""

from __future__ import annotations

_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_RESTARTS = range(0xD0, 0xD8)
_ADOBE, _HP = (0xEE, b"Adobe"), (0xE8, b"mrfx")  # how colours are to be understood
_JFIF, _JFIF_BYTES = (0xE0, b"JFIF\0"), 12  # of its content, before the size of a thumbnail


def without_metadata(stream: bytes) -> bytes:
    """A stream without EXIF, XMP, colour profiles, comments, thumbnails, and what follows its end; pixels are the same.

    Of the application segments JFIF, Adobe's and JPEG-LS's colour transform stay, which a decoder needs.

    Raises:
        ValueError: no such stream, or a damaged one; the message quotes nothing of it.
    """
    if stream[:2] != bytes((0xFF, _START)):
        raise ValueError("no JPEG stream")
    kept, place = [stream[:2]], 2
    while True:
        while stream[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        if place + 2 > len(stream) or stream[place] != 0xFF:
            raise ValueError("a JPEG stream without an end")
        marker = stream[place + 1]
        if marker == _END:
            return b"".join([*kept, stream[place : place + 2]])
        after = place + 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
        if after < place + 4 or after > len(stream):
            raise ValueError("a JPEG segment that does not end")
        if marker == _SCAN:
            after = _scan_end(stream, after)
            kept.append(stream[place:after])
        else:
            kept.append(_segment(marker, stream[place:after]))
        place = after


def _segment(marker: int, segment: bytes) -> bytes:
    """A segment with its marker and length, or what is left of it."""
    content = segment[4:]
    if marker == _JFIF[0] and content.startswith(_JFIF[1]):
        plain = content[:_JFIF_BYTES] + b"\0\0"
        return segment[:2] + (len(plain) + 2).to_bytes(2, "big") + plain
    if marker == _COMMENT or marker in _APPLICATION:
        needed = any(marker == known and content.startswith(name) for known, name in (_ADOBE, _HP))
        return segment if needed else b""
    return segment


def _scan_end(stream: bytes, place: int) -> int:
    """Where the coded pixels end: at a marker that is none of a restart. Bytes after FF are below 80 within a scan."""
    while (place := stream.find(b"\xff", place)) >= 0 and place + 1 < len(stream):
        following = stream[place + 1]
        if following >= 0x80 and following not in _RESTARTS and following != 0xFF:
            return place
        place += 1
    raise ValueError("a JPEG scan that does not end")
