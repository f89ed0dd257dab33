"""Made-up geometry for a folder of DICOM pictures as a command: copies, tables, an exit code."""

from __future__ import annotations

import logging
from pathlib import Path

from scripts.engines.frame_results import EXIT_FAILURES, FAILURE_COLUMNS, FAILURES_FILE
from scripts.io.errors import MediaError
from scripts.io.geometry_copies import add_geometry_folder
from scripts.io.table import Table

logger = logging.getLogger(__name__)

_SPACINGS = (0.001, 1000.0)  # mm; DICOM holds 16 characters of a number


def write_geometry_copies(dataset_dir: str | Path, output_dir: str | Path, spacing_mm: float = 1.0) -> None:
    """Copy the DICOM pictures of a folder with made-up geometry, see scripts.io.geometry_copies.

    Args:
        dataset_dir, output_dir: folders.
        spacing_mm: side of a pixel and distance of frames, mm, 0.001 to 1000.

    Raises:
        MediaError: nothing given, or a spacing that is none.
        SystemExit: exit code 3 when files were left out (failures.csv); the others are written.
    """
    if not dataset_dir:
        raise MediaError("dataset_dir is empty; give a folder of DICOM files: --dataset_dir /path/to/dicom")
    number = isinstance(spacing_mm, (int, float)) and not isinstance(spacing_mm, bool)
    if not number or not _SPACINGS[0] <= spacing_mm <= _SPACINGS[1]:
        raise MediaError(f"spacing_mm is {spacing_mm!r}; expected millimetres, {_SPACINGS[0]:g} to {_SPACINGS[1]:g}")
    copies = add_geometry_folder(dataset_dir, output_dir, spacing_mm=float(spacing_mm))
    if copies.skipped:
        logger.info("%d files have geometry already and were not copied: use them as they are", copies.skipped)
    logger.info(
        "%d copies in %s, %d files left out. Their positions and distances are made up: measure nothing in them",
        copies.copied,
        output_dir,
        len(copies.failed),
    )
    if copies.failed:
        failures = Table(FAILURE_COLUMNS)
        for file, error in copies.failed:
            failures.add(file=file, error=error)
        failures.write(Path(output_dir) / FAILURES_FILE)
        raise SystemExit(EXIT_FAILURES)
