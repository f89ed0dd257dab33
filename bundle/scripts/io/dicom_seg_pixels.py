"""Masks -> the Pixel Data of a DICOM Segmentation: bits or run lengths, one frame after another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from scripts.io.dicom_rle import run_lengths

KINDS = ("BINARY", "FRACTIONAL")
MAX_FRACTIONAL = 255  # stands for probability 1
_LARGEST_PIXEL_DATA = 2**32 - 2  # bytes that an uncompressed element can hold


def pack_masks(
    path: str | Path, masks: Mapping[int, NDArray], kind: str, shape: tuple[int, int], frames: int
) -> tuple[list[int], NDArray[np.uint8], bytes]:
    """Check and pack the masks; those without lesion are left out, except the first where all are.

    Args:
        path: named in errors.
        masks: frame number, from 0 -> (H, W), bool for BINARY, probability 0..1 for FRACTIONAL.
        kind: "BINARY" or "FRACTIONAL".
        shape: (H, W) that every mask must have.
        frames: number of frames that the source has.

    Returns:
        numbers of the frames kept (rising), stored values of the first of them ((H, W) uint8, 0/1 or 0..255), Pixel
        Data of all (bits; or RLE fragments, encapsulated).

    Raises:
        ValueError: no mask, or one that does not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"{path}: kind {kind!r}, expected one of {', '.join(KINDS)}")
    if not masks:
        raise ValueError(f"{path}: no mask; expected at least that of one frame")
    kept: list[int] = []
    first = None
    packer = _Bits() if kind == "BINARY" else _Runs()
    for index in sorted(masks):
        if not 0 <= index < frames:
            raise ValueError(f"{path}: mask of frame {index}, but the source has frames 0 to {frames - 1}")
        stored = _stored_values(path, index, masks[index], shape, kind)
        if stored.any():
            first = stored if not kept else first
            kept.append(index)
            packer.add(stored)
    if first is None:
        kept, first = [min(masks)], np.zeros(shape, np.uint8)
        packer.add(first)
    return kept, first, packer.pixel_data(path)


def _stored_values(path: str | Path, index: int, mask: NDArray, shape: tuple[int, int], kind: str) -> NDArray[np.uint8]:
    """(H, W) bool -> 0/1, or probability -> 0..255. Raises ValueError for anything else."""
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(
            f"{path}: mask of frame {index} is {mask.shape}, the source {shape} (rows, columns); "
            "bring the mask to the size of the frame first"
        )
    if kind == "BINARY":
        if mask.dtype != bool:
            raise ValueError(f"{path}: mask of frame {index} is {mask.dtype}, expected bool for BINARY")
        return mask.astype(np.uint8)
    if mask.dtype.kind != "f" or not ((mask >= 0) & (mask <= 1)).all():  # NaN fails both
        raise ValueError(
            f"{path}: mask of frame {index} is {mask.dtype}, {mask.min()}..{mask.max()}; "
            "expected probabilities, 0 to 1, for FRACTIONAL"
        )
    return np.round(mask * MAX_FRACTIONAL).astype(np.uint8)


class _Bits:
    """Frames of 0/1 as bits that run on from frame to frame without a gap (PS3.5 section 8.1.1 and annex D)."""

    def __init__(self) -> None:
        self._bytes: list[bytes] = []
        self._rest = np.zeros(0, np.uint8)

    def add(self, stored: NDArray[np.uint8]) -> None:
        bits = np.concatenate([self._rest, stored.ravel()])
        whole = bits.size - bits.size % 8
        self._bytes.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._rest = bits[whole:]

    def pixel_data(self, path: str | Path) -> bytes:
        data = b"".join([*self._bytes, np.packbits(self._rest, bitorder="little").tobytes()])
        if len(data) > _LARGEST_PIXEL_DATA:
            raise ValueError(f"{path}: {len(data)} bytes of masks, a DICOM object holds 4 GiB; write fewer frames")
        return data + b"\0" * (len(data) % 2)


class _Runs:
    """Frames of 0..255 as RLE, each in a fragment of its own."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []

    def add(self, stored: NDArray[np.uint8]) -> None:
        self._frames.append(run_lengths(stored))

    def pixel_data(self, path: str | Path) -> bytes:
        return encapsulate(self._frames, has_bot=False)
