"""One frame's bytes in a DICOM file -> (H, W, 3) uint8 RGB."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGBaseline8Bit, JPEGExtended12Bit

from scripts.io.dicom_header import value_of, whole_number
from scripts.io.dicom_palette import Palette
from scripts.io.errors import MediaError
from scripts.io.pydicom_compat import can_decode
from scripts.io.pydicom_compat import decode_compressed as decode_by_pydicom
from scripts.io.pydicom_compat import decode_native as decode_native_by_pydicom

logger = logging.getLogger(__name__)
# pydicom logs a traceback for each plug-in that fails; what failed and why is raised here.
logging.getLogger("pydicom.pixels.decoders.base").addFilter(lambda record: not record.exc_info)

_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)  # of 8 bits both: PixelFormat.of refuses others
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"
# What to install where pydicom knows a decoder that is missing, and where it knows none.
_PACKAGES = {
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    **dict.fromkeys(
        [f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203)], "pylibjpeg pylibjpeg-openjpeg"
    ),
    **dict.fromkeys(
        [f"1.2.840.10008.1.2.4.{number}" for number in (57, 70)],
        "pylibjpeg pylibjpeg-libjpeg` (GPL licence) or `pip install python-gdcm",
    ),
}


@dataclass(frozen=True)
class PixelFormat:
    """The Image Pixel Module of a file: how its stored values are to be understood."""

    transfer_syntax: UID
    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int

    @classmethod
    def of(cls, dataset: Dataset, transfer_syntax: UID, name: str) -> PixelFormat:
        """Take it from a header. Raises MediaError for what is no 8-bit picture (videos are not checked)."""
        required = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
        missing = [keyword for keyword in required if not value_of(dataset, keyword, name)]
        if missing:
            raise MediaError(
                f"{name}: no {', '.join(missing)} in the header: truncated or no picture; copy it again or remove it"
            )
        samples = whole_number(dataset, "SamplesPerPixel", name, default=1)
        bits = whole_number(dataset, "BitsAllocated", name)
        found = cls(
            transfer_syntax=transfer_syntax,
            rows=whole_number(dataset, "Rows", name),
            columns=whole_number(dataset, "Columns", name),
            samples=samples,
            photometric=str(dataset.PhotometricInterpretation).strip().upper(),
            planar=whole_number(dataset, "PlanarConfiguration", name) if samples > 1 else 0,
            bits_allocated=bits,
            bits_stored=whole_number(dataset, "BitsStored", name, default=bits),
        )
        if not is_video(transfer_syntax):
            found._check(whole_number(dataset, "PixelRepresentation", name), name)
        return found

    def _check(self, signed: int, name: str) -> None:
        photometric, samples = self.photometric, self.samples
        if photometric not in (*GREY, *COLOUR, PALETTE):
            raise MediaError(
                f"{name}: Photometric Interpretation (0028,0004) {photometric[:16]!r} is not supported; expected "
                f"{', '.join((*COLOUR, PALETTE, *GREY))}: convert it, e.g. `dcmconv`, or export it as PNG"
            )
        if samples != (3 if photometric in COLOUR else 1):
            raise MediaError(
                f"{name}: {samples} samples a pixel do not fit Photometric Interpretation {photometric}; the header is "
                "wrong: export the file again from its source"
            )
        if photometric == PALETTE:
            fits = self.bits_allocated in (8, 16)
        else:
            fits = self.bits_stored == 8 and self.bits_allocated in (8, 16)
        if not fits:
            kind = "colour" if photometric in COLOUR else "palette indices" if photometric == PALETTE else "grey"
            raise MediaError(
                f"{name}: {self.bits_stored}-bit {kind} ({self.bits_allocated} bits allocated); expected 8 bits a "
                "sample: scale it to 8 bits first, or export it as 8-bit RGB"
            )
        if photometric in ("YBR_ICT", "YBR_RCT") and self.transfer_syntax not in JPEG2000TransferSyntaxes:
            logger.warning("%s: %s outside JPEG 2000 means nothing; the pixels are taken as RGB", name, photometric)
        if signed:
            raise MediaError(
                f"{name}: signed pixel values (0028,0103); expected unsigned 8-bit ones: export it as 8-bit RGB"
            )

    def options(self, frames: int) -> dict[str, object]:
        """As pydicom's decoders want them."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            "samples_per_pixel": self.samples,
            "photometric_interpretation": self.photometric,
            "planar_configuration": self.planar,
            "bits_allocated": self.bits_allocated,
            "bits_stored": self.bits_stored,
            "pixel_representation": 0,
            "number_of_frames": frames,
            "pixel_keyword": "PixelData",
        }

    @property
    def native_frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        pixels = self.rows * self.columns * (2 if self.photometric == "YBR_FULL_422" else self.samples)
        return pixels * self.bits_allocated // 8


def is_video(transfer_syntax: UID) -> bool:
    """MPEG-2, MPEG-4 (H.264) or HEVC: one stream for all frames, 1.2.840.10008.1.2.4.100 to .108 and their variants."""
    arcs = transfer_syntax.split(".")
    return arcs[:7] == "1.2.840.10008.1.2.4".split(".") and len(arcs) > 7 and arcs[7] in map(str, range(100, 109))


def require_decoder(transfer_syntax: UID, name: str) -> None:
    """Raise MediaError, naming the transfer syntax and the package to install, where nothing here can decode it."""
    if is_video(transfer_syntax) or transfer_syntax in _JPEG:
        return  # PyAV and Pillow are required packages
    if can_decode(transfer_syntax):
        return
    known = transfer_syntax.name if transfer_syntax.name != transfer_syntax else "unknown to pydicom"
    package = _PACKAGES.get(transfer_syntax)
    cure = (
        f"needs a decoder that is not installed: `pip install {package}`"
        if package
        else "has no decoder among the packages pydicom can use: convert the file to an uncompressed or JPEG 2000 one, "
        "e.g. with dcm4che's `dcm2dcm`"
    )
    raise MediaError(f"{name}: transfer syntax {transfer_syntax} ({known}) {cure}")


def decode_native(layout: PixelFormat, stream: BinaryIO, vr: str, index: int, frames: int) -> np.ndarray:
    """Frame `index` of uncompressed pixel data -> (H, W) or (H, W, 3), colour as RGB; the stream is at the value."""
    options = layout.options(frames)
    return decode_native_by_pydicom(layout.transfer_syntax, stream, vr, index, layout.native_frame_bytes, options)


def decode_compressed(layout: PixelFormat, encoded: bytes) -> np.ndarray:
    """One compressed frame -> (H, W) or (H, W, 3), colour as RGB. Raises whatever its decoder does."""
    if layout.transfer_syntax in _JPEG:
        return _decode_jpeg(layout, encoded)
    return decode_by_pydicom(layout.transfer_syntax, encoded, layout.options(1))


def _decode_jpeg(layout: PixelFormat, encoded: bytes) -> np.ndarray:
    """8-bit JPEG by Pillow, the colour space told by its markers first and then by the header.

    pydicom 3.0 converts twice, to false colours, where an Adobe marker announces YCbCr, and cannot read a frame whose
    component ids are R, G, B. Elsewhere the two agree.
    """
    with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:
        if image.size != (layout.columns, layout.rows):
            width, height = image.size
            raise ValueError(f"the JPEG is {height} x {width}, the header says {layout.rows} x {layout.columns}")
        if image.mode == "L" or layout.samples == 1:
            if image.mode != "L" or layout.samples != 1:
                raise ValueError(f"the JPEG's mode is {image.mode}, the header says {layout.samples} samples a pixel")
            return np.array(image)
        identifiers = bytes(layer[0] for layer in image.layer)
        adobe, jfif = image.info.get("adobe_transform"), "jfif" in image.info
        if adobe == 1:
            stored = "YCbCr"
        elif identifiers in (b"RGB", b"rgb"):
            stored = "RGB"
        else:
            stored = "YCbCr" if jfif or layout.photometric != "RGB" else "RGB"
        # What libjpeg takes it for, and converts by itself
        assumed = "YCbCr" if jfif or adobe == 1 else "RGB" if adobe == 0 or identifiers == b"RGB" else "YCbCr"
        if stored == "RGB" and assumed == "YCbCr":
            image.draft("YCbCr", image.size)  # no conversion
            image = Image.frombytes("RGB", image.size, image.tobytes())
        elif stored == "YCbCr" and assumed == "RGB":
            image = Image.frombytes("YCbCr", image.size, image.tobytes())
        return np.array(image.convert("RGB"))


def to_rgb(values: np.ndarray, layout: PixelFormat, palette: Palette | None) -> np.ndarray:
    """Stored grey or palette values (H, W), or RGB (H, W, 3) -> (H, W, 3) uint8 RGB.

    Raises ValueError for values above 255 although the header says 8 bits.
    """
    if palette is not None:
        last = len(palette.colours) - 1
        return palette.colours[np.clip(values.astype(np.int32) - palette.first, 0, last)]
    if values.dtype != np.uint8:
        if values.max(initial=0) > 255:
            raise ValueError(f"pixel values up to {values.max()}, expected 0..255")
        values = values.astype(np.uint8)
    if layout.photometric == "MONOCHROME1":
        values = 255 - values
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else np.ascontiguousarray(values)
