"""Frames of DICOM files decoded with pydicom 2.4, pixel for pixel as pydicom 3 does it.

pydicom 2.4 decodes whole data sets only, knows neither high-throughput JPEG 2000 nor pyjpegls, and leaves YBR as it is.
So its parts are called one by one; the decoders themselves (OpenJPEG, CharLS) are those that pydicom 3 chooses.
"""

from __future__ import annotations

import importlib.util
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.pixel_data_handlers.rle_handler import _rle_decode_frame
from pydicom.pixel_data_handlers.util import convert_color_space
from pydicom.uid import UID, JPEGLSLossless, JPEGLSNearLossless, RLELossless

_JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))


def can_decode(transfer_syntax: UID) -> bool:
    """Whether decode_compressed knows the transfer syntax, and its decoder is installed."""
    module = "openjpeg" if transfer_syntax in _JPEG_2000 else "jpeg_ls" if transfer_syntax in _JPEG_LS else None
    return transfer_syntax == RLELossless or (module is not None and importlib.util.find_spec(module) is not None)


def decode_native(
    stream: BinaryIO, index: int, frame_bytes: int, big_endian: bool, words: bool, **options: object
) -> NDArray:
    """Frame `index` of uncompressed pixel data -> (H, W) or (H, W, 3), colour as RGB; the stream is at the value.

    Args:
        frame_bytes: of one frame. big_endian: byte order of the file. words: 8-bit pixels come in 16-bit words (OW).
        options: as PixelFormat.options gives them.
    """
    start, first = stream.tell(), index * frame_bytes
    swapped = big_endian and words and options["bits_allocated"] == 8
    before = first % 2 if swapped else 0  # a frame may begin and end inside a word
    stream.seek(start + first - before)
    data = stream.read(frame_bytes + before + (frame_bytes + before) % 2 * swapped)
    if swapped:
        data = np.frombuffer(data, np.uint16).byteswap().tobytes()[before:][:frame_bytes]
    values = np.frombuffer(data, ">u2" if big_endian and options["bits_allocated"] == 16 else _type(options))
    if options["photometric_interpretation"] == "YBR_FULL_422":  # Y1 Y2 Cb Cr of each two pixels of a row
        quads = values.reshape(-1, 4)
        values = quads[:, [0, 2, 3, 1, 2, 3]].ravel()
    return _finish(values, int(options["planar_configuration"]), options)  # type: ignore[call-overload]


def decode_compressed(transfer_syntax: UID, encoded: bytes, **options: object) -> NDArray:
    """One compressed frame -> (H, W) or (H, W, 3), colour as RGB. Raises whatever its decoder does."""
    planar = 0
    if transfer_syntax == RLELossless:
        size = [options[name] for name in ("rows", "columns", "samples_per_pixel", "bits_allocated")]
        data, planar = _rle_decode_frame(encoded, *size), 1
    elif transfer_syntax in _JPEG_LS:
        import jpeg_ls

        data, info = jpeg_ls.decode_pixel_data(encoded)
        planar = int(info["components"] > 1 and info["interleave_mode"] == 0)
    else:
        import openjpeg

        data = openjpeg.decode_pixel_data(encoded, version=2)
    pixels = int(options["rows"]) * int(options["columns"]) * int(options["samples_per_pixel"])  # type: ignore
    if len(data) not in (pixels, 2 * pixels):
        raise ValueError(f"{len(data)} bytes for {pixels} values")
    return _finish(np.frombuffer(data, np.uint8 if len(data) == pixels else "<u2"), planar, options)


def _type(options: dict[str, object]) -> str:
    return "u1" if options["bits_allocated"] == 8 else "<u2"


def _finish(values: NDArray, planar: int, options: dict[str, object]) -> NDArray:
    """Values in the file's order -> (H, W) or (H, W, 3), of the type that the header says, colour as RGB."""
    rows, columns, samples = (options[name] for name in ("rows", "columns", "samples_per_pixel"))
    shape = (rows, columns) if samples == 1 else (samples, rows, columns) if planar else (rows, columns, samples)
    values = values.reshape(shape).astype(_type(options))
    if samples != 1 and planar:
        values = values.transpose(1, 2, 0)
    if int(options["bits_stored"]) < int(options["bits_allocated"]):  # type: ignore[call-overload]
        values &= (1 << int(options["bits_stored"])) - 1  # type: ignore[call-overload]
    if options["photometric_interpretation"] in ("YBR_FULL", "YBR_FULL_422"):
        values = convert_color_space(values, "YBR_FULL", "RGB")
    return values
