"""DICOM files -> changed copies: the files of a folder, a whole dataset, and a copy written whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.uid import UID

from scripts.io.dicom_header import open_dicom
from scripts.io.errors import MediaError
from scripts.io.media import media_type
from scripts.io.writers import OutputError, ensure_writable, whole_file

logger = logging.getLogger(__name__)

_NAMED = 5  # files that a message lists


def dicom_files(folder: Path, task: str) -> Iterator[Path]:
    """DICOM files of a folder and its sub-folders, in the order of their names.

    Args:
        folder: of DICOM pictures alone.
        task: what only DICOM can be, for the message: "de-identified".

    Raises:
        MediaError: there is none, or pictures, videos or volumes among them.
    """
    if not folder.is_dir():
        raise MediaError(f"{folder}: no such folder; give the folder of the DICOM files")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    foreign = [
        path.relative_to(folder).as_posix() for path in files if media_type(path) in ("picture", "video", "volume")
    ]
    if foreign:
        listed = ", ".join(foreign[:_NAMED]) + (" ..." if len(foreign) > _NAMED else "")
        raise MediaError(
            f"{folder}: {len(foreign)} files are not DICOM ({listed}); only DICOM can be {task} here: move the "
            "others away, or convert them"
        )
    found = [path for path in files if media_type(path) == "DICOM" and path.name.upper() != "DICOMDIR"]
    if not found:
        raise MediaError(f"{folder}: no DICOM file in it; give the folder of the DICOM files")
    if len(found) < len(files):
        logger.warning("%s: %d files that are no DICOM pictures are left out", folder, len(files) - len(found))
    return iter(found)


def begin_copies(dataset_dir: Path, output_dir: Path, task: str) -> list[Path]:
    """The files to copy, once it is sure that they can be and that the copies have a folder of their own.

    Raises:
        MediaError: see dicom_files.
        OutputError: output_dir is, or is inside, dataset_dir, is not empty, or cannot be written.
    """
    if output_dir.resolve().is_relative_to(dataset_dir.resolve()):
        raise OutputError(f"{output_dir}: inside the folder that is read; give an output_dir elsewhere")
    sources = list(dicom_files(dataset_dir, task))
    if output_dir.is_dir() and any(output_dir.iterdir()):
        raise OutputError(f"{output_dir}: not empty; give a new output_dir, so that old and new copies do not mix")
    ensure_writable(output_dir)
    return sources


def read_whole(source: Path) -> Dataset:
    """The whole dataset of a file. Raises MediaError, whose message quotes no value."""
    try:
        with open_dicom(source) as stream:
            return dcmread(stream, force=True)
    except MediaError:
        raise
    except Exception as error:  # its text may hold values of the header
        raise MediaError(
            f"{source}: cannot be read as DICOM ({type(error).__name__}); copy it again from its source"
        ) from None


@contextmanager
def values_untold(source: Path) -> Iterator[None]:
    """Raise MediaError for an attribute that cannot be copied; the text of the error itself may hold its value."""
    try:
        yield
    except (MediaError, OSError):
        raise
    except Exception as error:
        raise MediaError(
            f"{source}: an attribute cannot be copied ({type(error).__name__}); export the file again from its source"
        ) from None


def save_copy(target: Path, dataset: Dataset, syntax: UID) -> None:
    """Write a dataset without its source's File Meta, preamble and name. Raises OutputError."""
    for _ in dataset.iterall():  # decode all values, by the source's byte order and character set
        pass
    plain = Dataset()
    plain.update(dataset)
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = syntax
    plain.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    plain.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    with whole_file(target) as partial:
        plain.save_as(partial, enforce_file_format=True)
