"""What reading needs and pydicom 2.4 (which MONAI Label 0.8.5 asks for) and pydicom 3 do differently.

Writing DICOM (SEG, de-identified copies) is for pydicom 3 alone.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

PYDICOM_3 = int(pydicom.__version__.split(".")[0]) >= 3
if PYDICOM_3:
    from pydicom.encaps import encapsulate
    from pydicom.pixels import apply_color_lut, get_decoder
else:
    from pydicom.pixel_data_handlers.util import apply_color_lut

    from scripts.io import pydicom2_pixels

__all__ = ["apply_color_lut", "can_decode", "decode_compressed", "decode_native", "encoding_of", "is_encapsulated"]

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def is_encapsulated(transfer_syntax: UID) -> bool:
    """Whether pixel data come in fragments. pydicom 2.4 does not know the newest transfer syntaxes, and raises."""
    return transfer_syntax not in NATIVE


def encoding_of(dataset: Dataset) -> tuple[bool, bool]:
    """How a dataset that was read is encoded: (implicit VR, little endian)."""
    if PYDICOM_3:
        return dataset.original_encoding
    return dataset.is_implicit_VR, dataset.is_little_endian


def can_decode(transfer_syntax: UID) -> bool:
    """Whether a decoder is installed for uncompressed or compressed pictures of this transfer syntax."""
    if not PYDICOM_3:
        return transfer_syntax in NATIVE or pydicom2_pixels.can_decode(transfer_syntax)
    try:
        return get_decoder(transfer_syntax).is_available
    except NotImplementedError:
        return False


def decode_native(
    transfer_syntax: UID, stream: BinaryIO, vr: str, index: int, frame_bytes: int, options: dict[str, object]
) -> np.ndarray:
    """Frame `index` of uncompressed pixel data -> (H, W) or (H, W, 3), colour as RGB; the stream is at the value."""
    if not PYDICOM_3:
        big_endian = transfer_syntax == ExplicitVRBigEndian
        return pydicom2_pixels.decode_native(stream, index, frame_bytes, big_endian, vr == "OW", **options)
    return get_decoder(transfer_syntax).as_array(stream, index=index, **options, pixel_vr=vr)[0]


def decode_compressed(transfer_syntax: UID, encoded: bytes, options: dict[str, object]) -> np.ndarray:
    """One compressed frame -> (H, W) or (H, W, 3), colour as RGB. Raises whatever its decoder does."""
    if not PYDICOM_3:
        return pydicom2_pixels.decode_compressed(transfer_syntax, encoded, **options)
    wrapped = encapsulate([encoded], has_bot=False)
    return get_decoder(transfer_syntax).as_array(wrapped, index=0, validate=False, **options)[0]
