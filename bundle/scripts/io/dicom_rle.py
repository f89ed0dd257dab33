"""Run length encoding of a frame, for DICOM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels import get_encoder
from pydicom.uid import RLELossless


def run_lengths(frame: NDArray[np.uint8]) -> bytes:
    """One frame, (H, W) grey or (H, W, 3) RGB, uint8, as RLE of an even length."""
    samples = 3 if frame.ndim == 3 else 1
    layout = {"planar_configuration": 0} if samples == 3 else {}
    encoded = get_encoder(RLELossless).encode(
        frame,
        encoding_plugin="pydicom",
        rows=frame.shape[0],
        columns=frame.shape[1],
        samples_per_pixel=samples,
        number_of_frames=1,
        pixel_representation=0,
        bits_allocated=8,
        bits_stored=8,
        photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2",
        **layout,
    )
    return encoded + b"\0" * (len(encoded) % 2)
