"""A folder of single-frame DICOM files -> one series in order."""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.io.dicom_header import value_of, whole_number
from scripts.io.dicom_reader import DicomFile
from scripts.io.errors import MediaError
from scripts.io.geometry import read_affine
from scripts.io.media import media_type

logger = logging.getLogger(__name__)


def read_series(folder: str | PathLike[str]) -> tuple[list[tuple[Path, int]], NDArray[np.float64]]:
    """Find the DICOM files of a folder (not below it) -> ([(file, 0), ...], affine (4, 4), see read_affine).

    They are ordered by Instance Number; where numbers are missing or double (logged), also by file name. The third axis
    of the affine is the step from position to position where the files have positions, else 1 mm. Other files and
    hidden ones are left out (logged).

    Raises:
        MediaError: no DICOM file, files of several series, a file of several frames, or one that cannot be read.
    """
    folder = Path(folder)
    visible = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    files = [path for path in visible if media_type(path) == "DICOM"]
    if not files:
        raise MediaError(f"{folder}: expected a folder of DICOM files of one series, found none; give the file itself")
    if len(files) < len(visible):
        logger.warning("%s: %d files are not DICOM and are left out", folder, len(visible) - len(files))
    numbers: dict[Path, int] = {}
    series: dict[str, Path] = {}
    for path in files:
        with DicomFile(path) as opened:
            if len(opened) != 1:
                raise MediaError(
                    f"{path}: {len(opened)} frames, in a folder that was read as a series of single frames; give the "
                    "file itself in place of its folder"
                )
            series.setdefault(str(value_of(opened.dataset, "SeriesInstanceUID", str(path)) or ""), path)
            numbers[path] = whole_number(opened.dataset, "InstanceNumber", str(path))
    if len(series) > 1:
        first, second = list(series.values())[:2]
        raise MediaError(
            f"{folder}: it holds {len(series)} series ({first.name} and {second.name} differ); put each series into a "
            "folder of its own"
        )
    if len(set(numbers.values())) < len(files):
        logger.warning(
            "%s: Instance Numbers are missing or double; those files are in the order of their names", folder
        )
    files.sort(key=lambda path: (numbers[path], path.name))
    affine, last = read_affine(files[0]), read_affine(files[-1])
    step = last[:3, 3] - affine[:3, 3]
    if step.any():
        affine[:3, 2] = step / (len(files) - 1)
    return [(path, 0) for path in files], affine
