"""Any common picture file (PNG, JPEG, TIFF, BMP, WebP, ...) -> upright 8-bit RGB."""

from __future__ import annotations

import logging
import struct
import zlib
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from scripts.io.errors import MediaError, refuse_foreign

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp"),
    *(".gif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm"),
)
Image.init()  # registers all decoders: Pillow loads the less common ones only after a first failure
# Pillow is told which decoders it may use: content decides, never the file's name. MPO (a photograph and its preview)
# comes in by JPEG. A Pillow built without a codec lacks its entry.
FORMATS = tuple(
    name for name in ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "JPEG2000", "PPM") if name in Image.OPEN
)
_ORIENTATION = 0x0112  # EXIF tag; 1 = upright
_DAMAGED = (OSError, EOFError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error)


def load_upright(path: str | PathLike[str]) -> Image.Image:
    """Decode one picture completely and turn it upright by its EXIF orientation.

    Returns a Pillow image in its own mode (L, RGB, P, I;16, ...), `.format` kept.
    Raises MediaError: missing, empty, truncated, several frames, or not an image (video and DICOM are named as such).
    """
    path = Path(path)
    refuse_foreign(path)
    if ImageFile.LOAD_TRUNCATED_IMAGES:  # some library's import switched it on: half a picture would pass as a whole
        logger.warning("PIL.ImageFile.LOAD_TRUNCATED_IMAGES was on; switched off, truncated pictures are refused")
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path, formats=FORMATS) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if frames > 1:
                raise MediaError(
                    f"{path}: it holds {frames} frames, one was expected: save each frame as a file of its own"
                )
            image.load()
            upright = image
            if image.getexif().get(_ORIENTATION, 1) != 1:  # after load(): TIFF is turned by Pillow itself there
                upright = ImageOps.exif_transpose(image)
                upright.format = image.format
            return upright
    except MediaError:
        raise
    except UnidentifiedImageError:
        raise MediaError(
            f"{path}: not an image that can be read (expected PNG, JPEG, TIFF, BMP or WebP); "
            "export it again in one of these formats, or remove it"
        ) from None
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path}: {error}; scale the picture down first") from error
    except _DAMAGED as error:
        raise MediaError(
            f"{path}: truncated or damaged ({error}); copy it again from its source or remove it"
        ) from error


def to_rgb8(image: Image.Image, name: str | PathLike[str] = "image") -> np.ndarray:
    """Convert a decoded picture of any mode -> (H, W, 3) uint8 RGB.

    Grey is repeated to three channels, alpha is dropped (not blended), a palette is looked up, CMYK and YCbCr are
    converted without a colour profile. 16-bit grey is scaled by the fixed rule round(v / 257), so that brightness stays
    comparable between frames; when no value is above 255 it is 8-bit data in a 16-bit file and taken as it is.
    Raises MediaError for floating-point pixels and for integers outside 0..65535.
    """
    if image.mode.startswith(("I", "F")):
        return np.repeat(_grey16_to_8(image, name)[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):  # by way of RGBA: transparency given as bytes would warn and is not wanted
        image = image.convert("RGBA")
    elif image.mode in ("LA", "La"):
        image = image.convert("LA").getchannel("L")
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    try:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except ValueError as error:  # Pillow: conversion not supported (LAB)
        raise MediaError(f"{name}: colour mode {image.mode} is not supported; save it as 8-bit RGB") from error


def _grey16_to_8(image: Image.Image, name: str | PathLike[str]) -> np.ndarray:
    """Scale grey of more than 8 bits (H, W) -> uint8."""
    values = np.array(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise MediaError(
            f"{name}: pixel values {values.min()}..{values.max()} ({values.dtype}); "
            "expected 8-bit, or 16-bit within 0..65535: save it as 8-bit PNG"
        )
    top = int(values.max())
    if top <= 255:
        return values.astype(np.uint8)
    if top < 4096:
        logger.warning(
            "%s: 16-bit grey without a value above %d; if it is 10- or 12-bit data, scale it first", name, top
        )
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
