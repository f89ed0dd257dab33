"""Class indices -> files: one picture as PNG, the slices of a volume as NIfTI that lies over its source."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.io.geometry import read_affine
from scripts.io.media import open_media
from scripts.io.volume_file import is_nrrd
from scripts.io.writers import write_bytes

_SCANNER = 1  # NIfTI's code of an affine in scanner space
_ENDINGS = (".nii.gz", ".nii", ".nrrd")


def class_volume_names(files: Iterable[str]) -> dict[str, str]:
    """Where the predictions for volumes go: `a/mr.nii` -> `a/mr.nii.gz`.

    Where several files of one folder differ only in their ending (or in letter case), it becomes part of the name:
    `a/mr_nrrd.nii.gz`.
    """
    parts = {file: _split_ending(file) for file in sorted(set(files))}
    of_stem = Counter(stem.lower() for stem, _ in parts.values())
    names: dict[str, str] = {}
    for file, (stem, ending) in parts.items():
        name = stem if of_stem[stem.lower()] == 1 else f"{stem}_{ending[1:]}"
        while f"{name}.nii.gz".lower() in {taken.lower() for taken in names.values()}:
            name += "_2"
        names[file] = f"{name}.nii.gz"
    return names


def _split_ending(file: str) -> tuple[str, str]:
    ending = next((ending for ending in _ENDINGS if file.lower().endswith(ending)), "")
    return file[: len(file) - len(ending)], ending


def write_class_png(path: str | Path, classes: NDArray[np.uint8]) -> None:
    """Write class indices (H, W) uint8 as an 8-bit grey PNG whose values are the indices. Raises OutputError."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(classes, np.uint8)).save(buffer, format="PNG", compress_level=4)
    write_bytes(path, buffer.getvalue())


def write_class_volume(path: str | Path, slices: Mapping[int, NDArray[np.uint8]], source: str | Path) -> None:
    """Write class indices as .nii.gz with the shape and the affine of the volume they were predicted on.

    Nothing else of the source's header is copied: its free text may name a person.

    Args:
        path: target, .nii.gz. slices: {index: (H, W) class indices}; slices that are not there are 0.
        source: the volume, NIfTI or NRRD.

    Raises:
        ValueError: slices of another size, or beyond the volume. MediaError: the source cannot be read.
        OutputError: it cannot be written.
    """
    media, source = open_media(source), Path(source)
    height, width = media.frame(0).shape[:2]
    values = np.zeros((width, height, len(media)), np.uint8)
    for index, classes in slices.items():
        if classes.shape != (height, width) or not 0 <= index < len(media):
            raise ValueError(
                f"{path}: slice {index} is {classes.shape}, expected {(height, width)} (height, width) and an index "
                f"below {len(media)}, as in {source}"
            )
        values[:, :, index] = classes.T
    if is_nrrd(source):
        image = nib.Nifti1Image(values, None)
        image.set_sform(read_affine(source), _SCANNER)
        image.set_qform(read_affine(source), _SCANNER)
    else:
        image = _like(nib.load(source), values)
    write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _like(source: nib.Nifti1Image, values: NDArray[np.uint8]) -> nib.Nifti1Image:
    """With the source's shape and geometry, its affines and their codes as they are (0 = readers assume one)."""
    if np.prod(source.shape) == values.size:  # (W, H) or with more axes of length 1
        values = values.reshape(source.shape)
    image = nib.Nifti1Image(values, None)
    zooms = source.header.get_zooms()
    image.header.set_zooms((*zooms, *(1.0,) * values.ndim)[: values.ndim])
    image.header.set_xyzt_units(*source.header.get_xyzt_units())
    for kind in ("qform", "sform"):
        code = int(source.header[f"{kind}_code"])
        if code:
            getattr(image, f"set_{kind}")(getattr(source, f"get_{kind}")(), code)
    return image
