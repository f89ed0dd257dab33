"""De-identification of a folder as a command: copies, a table, an exit code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from scripts.engines.frame_results import EXIT_FAILURES
from scripts.io.deidentify import deidentify_folder
from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)
_SECRET_BYTES = 16  # at least: whoever guesses the secret can tell which pseudonym is whose


def deidentify(
    dataset_dir: str | Path,
    output_dir: str | Path,
    blackout: Sequence[Sequence[int]] = (),
    pixels_checked: bool = False,
    secret_file: str | Path = "",
) -> None:
    """Copy the DICOM files of a folder without identifying tags, see scripts.io.deidentify.

    Args:
        dataset_dir, output_dir: folders.
        blackout: rectangles [x, y, width, height], pixels.
        pixels_checked: a person has looked at every picture and found no burnt-in identity.
        secret_file: file of 16 bytes or more, whose content makes pseudonyms and UIDs the same in a later call;
            "" = new ones.

    Raises:
        MediaError: nothing given, a rectangle that is none, or a secret that is missing or too short.
        SystemExit: exit code 3 when files were left out; the others are written.
    """
    if not dataset_dir:
        raise MediaError("dataset_dir is empty; give a folder of DICOM files: --dataset_dir /path/to/dicom")
    for rectangle in blackout:
        if len(rectangle) != 4:
            raise MediaError(f"blackout has {list(rectangle)}; expected rectangles [x, y, width, height] in pixels")
    copies = deidentify_folder(
        dataset_dir,
        output_dir,
        blackout=[tuple(int(value) for value in rectangle) for rectangle in blackout],
        secret=_secret(Path(secret_file)) if secret_file else None,
        pixels_checked=pixels_checked,
    )
    logger.info("%d copies in %s, %d files left out", len(copies.written), output_dir, len(copies.failed))
    if copies.failed:
        raise SystemExit(EXIT_FAILURES)


def _secret(path: Path) -> bytes:
    if not path.is_file():
        raise MediaError(f"secret_file {path} does not exist; make one: head -c 32 /dev/urandom > {path}")
    secret = path.read_bytes()
    if len(secret) < _SECRET_BYTES:
        raise MediaError(
            f"secret_file {path} holds {len(secret)} bytes, expected {_SECRET_BYTES} or more, so that nobody can trace "
            f"pseudonyms back by guessing; make one: head -c 32 /dev/urandom > {path}"
        )
    return secret
