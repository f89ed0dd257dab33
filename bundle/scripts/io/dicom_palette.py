"""Palette Color lookup tables of a DICOM header (PS3.3 C.7.6.3.1.5 and C.7.9.2) -> 8-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from scripts.io.dicom_header import value_of
from scripts.io.errors import MediaError
from scripts.io.pydicom_compat import apply_color_lut

_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Palette:
    """Colours of the stored values from `first` on; values beyond either end take the colour of that end.

    Attributes:
        first: stored value of the first colour.
        colours: (N, 3) uint8 RGB.
    """

    first: int
    colours: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, little_endian: bool, name: str) -> Palette:
        """Read the tables of a header. 16-bit colours are taken by their upper byte.

        Raises MediaError: tables missing, of different lengths, or shorter than their descriptor says.
        """
        descriptor = value_of(dataset, "RedPaletteColorLookupTableDescriptor", name)
        if not isinstance(descriptor, Sequence) or len(descriptor) != 3:
            raise MediaError(f"{name}: Photometric Interpretation is PALETTE COLOR, but the header holds no palette")
        entries, first, bits = int(descriptor[0]) or 2**16, int(descriptor[1]), int(descriptor[2])
        if "RedPaletteColorLookupTableData" in dataset:
            channels = [_channel(dataset, colour, entries, bits, little_endian, name) for colour in _COLOURS]
            return cls(first, np.stack(channels, axis=1))
        try:  # segmented tables: pydicom expands them; the values that it is given are all that the table knows
            table = apply_color_lut(np.arange(first, first + entries), dataset)[:, :3]
        except (ValueError, AttributeError, IndexError) as error:
            raise MediaError(f"{name}: the palette in the header cannot be read ({error}); export it as RGB") from error
        return cls(first, (table >> 8).astype(np.uint8) if table.dtype == np.uint16 else table)


def _channel(dataset: Dataset, colour: str, entries: int, bits: int, little_endian: bool, name: str) -> np.ndarray:
    """One colour's table -> (N,) uint8."""
    data = value_of(dataset, f"{colour}PaletteColorLookupTableData", name) or b""
    if not isinstance(data, bytes):  # VR US: numbers, read by pydicom
        data = np.atleast_1d(data).astype("<u2" if little_endian else ">u2").tobytes()
    if len(data) < entries:
        raise MediaError(
            f"{name}: the palette's {colour.lower()} table has {len(data)} bytes for {entries} colours; the header is "
            "damaged: export the file again as RGB"
        )
    if len(data) < 2 * entries:  # 8-bit colours, two in a word; an odd number of them is padded
        if not little_endian:
            data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
        return np.frombuffer(data, np.uint8, entries)
    values = np.frombuffer(data, "<u2" if little_endian else ">u2", entries)
    # 8-bit colours may stand in 16-bit words each, whatever the descriptor says
    return (values if bits == 8 or values.max() <= 255 else values >> 8).astype(np.uint8)
