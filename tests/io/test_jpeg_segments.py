"""JPEG streams without what is no pixel: by hand, by another library, and damaged ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from scripts.io.jpeg_segments import without_metadata

START, END = b"\xff\xd8", b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


TABLE = segment(0xDB, b"a table")
SCAN = segment(0xDA, b"header") + b"\x01\xff\x00\x02\xff\xd0\x03"  # an FF of the pixels, and a restart


def test_by_hand() -> None:
    noise = (
        segment(0xE1, b"Exif\0\0who")
        + segment(0xFE, b"note")
        + segment(0xE2, b"ICC_PROFILE\0")
        + segment(0xE0, b"JFXX\0t")
    )
    needed = segment(0xEE, b"Adobe\0") + segment(0xE8, b"mrfx\1")
    again = segment(0xFE, b"between scans")
    stream = START + noise + needed + b"\xff\xff" + TABLE + SCAN + again + SCAN + END + b"after the end"
    assert without_metadata(stream) == START + needed + TABLE + SCAN + SCAN + END


def test_a_thumbnail_of_jfif_goes() -> None:
    jfif = b"JFIF\0\1\2\0\0\1\0\1"
    stream = START + segment(0xE0, jfif + b"\2\1" + b"RGBRGB") + SCAN + END
    assert without_metadata(stream) == START + segment(0xE0, jfif + b"\0\0") + SCAN + END


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0, "keep_rgb": True}, {"restart_marker_rows": 1}]
)
def test_pixels_are_the_same(options: dict) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    exif = Image.Exif()
    exif[0x013B] = "Oberarzt Otto"
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif, comment=b"note", **options)
    plain = without_metadata(stream.getvalue())
    assert b"Otto" in stream.getvalue() and b"Otto" not in plain and b"note" not in plain
    assert without_metadata(plain) == plain
    first, second = (np.asarray(Image.open(io.BytesIO(data))) for data in (plain, stream.getvalue()))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "stream", [b"", b"no", START, START + TABLE, START + TABLE[:-1], START + SCAN, START + b"\x00" + TABLE + SCAN + END]
)
def test_damaged_streams_are_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match="JPEG"):
        without_metadata(stream)
