"""Masks, overlays and any other output file, written whole or not at all."""

from __future__ import annotations

import io
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.io.atomic import replacing
from scripts.io.mask_reader import UNKNOWN_GREY
from scripts.io.picture import IMAGE_SUFFIXES

# ".840" of a DICOM UID and "#12" of a video frame are no suffixes
_SUFFIX = re.compile(r"(\.nii\.gz|\.seg\.nrrd|\.[a-z][a-z0-9]{0,4})$", re.IGNORECASE)

_NUMBERED = re.compile(r"(.+)/\d{6,}", re.DOTALL)  # as the frames of a file are


class OutputError(OSError):
    """An output file or folder cannot be written; the message names it and the cure."""


def ensure_writable(directory: str | Path) -> Path:
    """Create ``directory`` with its parents and prove by a probe file that files can be written there; return its path.

    Raises:
        OutputError: it cannot be created or written.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".probe-", dir=directory) as probe:
            probe.write(b"probe")
    except OSError as error:
        raise OutputError(
            f"{directory}: cannot write into this output folder ({_reason(error)}); give another output_dir, or make "
            "it writable and check that the disk is not full."
        ) from error
    return directory


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path that becomes ``path`` when all has gone well; folders are created.

    On failure nothing is left behind and a file that was there before is unchanged.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({_reason(error)}); give another output_dir, or make the folder writable, move "
            "away what stands in its place, and check that the disk is not full."
        ) from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, see whole_file. Raises OutputError."""
    with whole_file(path) as partial:
        partial.write_bytes(data)


def remove_output(path: str | Path) -> None:
    """Take away an output of an earlier run, and the record of provenance beside it, where they are there.

    Raises:
        OutputError: it cannot be taken away.
    """
    path = Path(path)
    try:
        for old in (path, path.with_name(f"{path.name}.json")):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: of an earlier run, and cannot be taken away ({_reason(error)}); give another output_dir, or make "
            "the folder writable."
        ) from error


def write_mask_png(path: str | Path, mask: NDArray[np.generic], unknown: NDArray[np.bool_] | None = None) -> None:
    """Write a lesion mask as an 8-bit grey PNG, 0 background and 255 lesion.

    Args:
        path: target file.
        mask: (H, W), bool or class index with every class above 0 counted as lesion.
        unknown: (H, W) bool, pixels outside of the mask on which nothing is said: 127, see MaskReader.

    Raises:
        ValueError: another shape, or floating-point values (probabilities must be thresholded by the caller).
        OutputError: it cannot be written.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise ValueError(
            f"{path}: mask of shape {mask.shape} and type {mask.dtype}, expected (H, W) bool or class index; "
            "take the arg max or a threshold of probabilities first."
        )
    outside = np.uint8(0) if unknown is None else np.where(unknown, np.uint8(UNKNOWN_GREY), np.uint8(0))
    write_bytes(path, _png(np.where(mask > 0, np.uint8(255), outside)))


def write_overlay_png(
    path: str | Path, image: NDArray[np.uint8], mask: NDArray[np.generic], truth: NDArray[np.generic] | None = None
) -> None:
    """Write the frame with the outline of its predicted (and, if given, true) lesion drawn on it.

    Args:
        path: target file.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) prediction, above 0 is lesion.
        truth: (H, W) true mask, above 0 is lesion, or None.

    Raises:
        ValueError: shapes that do not fit.
        OutputError: it cannot be written.
    """
    from scripts.io.overlay import draw_overlay

    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"{path}: image of shape {image.shape} and type {image.dtype}, expected (H, W, 3) uint8.")
    for name, part in (("mask", mask), ("truth", truth)):
        if part is not None and np.shape(part) != image.shape[:2]:
            raise ValueError(f"{path}: {name} is {np.shape(part)}, the image {image.shape[:2]} (height, width).")
    drawn = draw_overlay(image, np.asarray(mask) > 0, None if truth is None else np.asarray(truth) > 0)
    write_bytes(path, _png(drawn))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


class OutputNamer:
    """Give every input file one output name of its own, in the sub-folder the input is in.

    ``a/x.png`` -> ``a/x.png`` and ``b/x.png`` -> ``b/x.png``. When several inputs of one folder differ only in their
    suffix or in letter case, the suffix becomes part of the name: ``x.jpg`` -> ``x_jpg.png``, and then a number. Names
    that were announced to the constructor do not depend on the order of the calls. Spaces and non-ASCII letters are
    kept. The frames of ``x.dcm``, ``x/000003.png``, have no name of a picture that lies in a folder ``x``: where there
    is such a picture, the file is ``x_dcm``.
    """

    def __init__(self, files: Iterable[str] = (), suffix: str = ".png") -> None:
        """Announce the input ``files`` (relative, posix), if they are known; ``suffix`` is that of the outputs."""
        self._suffix = suffix
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()  # lower case: some file systems do not tell x from X
        known = sorted(set(files))
        stems = [self._stem(file).lower() for file in known]
        # Folders of pictures that are called as the frames of a file are: no such file may be called as its folder.
        self._numbered = {found[1] for stem in stems if (found := _NUMBERED.fullmatch(stem))}
        shared = {stem for stem, count in Counter(stems).items() if count > 1}
        # Those with a stem of their own first: they keep it whatever the others have to change to.
        for file, stem in sorted(zip(known, stems, strict=True), key=lambda pair: pair[1] in shared):
            self._assign(file, plain=stem not in shared)

    def __call__(self, file: str) -> str:
        """Return the output name (relative, posix) of the input ``file``; the same for the same input.

        Raises:
            ValueError: an absolute path, or one that leaves the input folder.
        """
        return self._names.get(file) or self._assign(file, plain=True)

    def _assign(self, file: str, plain: bool) -> str:
        stem = self._stem(file)
        ending = _SUFFIX.search(file)
        with_ending = f"{stem}_{ending.group()[1:].replace('.', '_')}" if ending else stem
        name = stem if plain else with_ending
        number = 1
        while self._clashes(name.lower(), file):
            name = with_ending if number == 1 else f"{with_ending}_{number}"
            number += 1
        self._taken.add(name.lower())
        self._names[file] = name + self._suffix
        return self._names[file]

    def _clashes(self, name: str, file: str) -> bool:
        if name in self._taken or (name in self._numbered and not file.lower().endswith(IMAGE_SUFFIXES)):
            return True
        found = _NUMBERED.fullmatch(name)  # not announced, and comes after a file whose frame it would pass for
        return found is not None and found[1] in self._taken and found[1] not in self._numbered

    @staticmethod
    def _stem(file: str) -> str:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
            raise ValueError(f"{file!r}: expected a path relative to the input folder that stays inside it.")
        return _SUFFIX.sub("", str(path)) if _SUFFIX.sub("", path.name) else str(path)
