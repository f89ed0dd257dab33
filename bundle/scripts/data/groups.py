"""A table (CSV) with a row a picture, such as groups.csv -> the group (patient, video, near-duplicates) of each."""

from __future__ import annotations

import csv
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from scripts.data.errors import DatasetError, listing
from scripts.io.errors import DICOM_SUFFIXES, VIDEO_SUFFIXES, VOLUME_SUFFIXES
from scripts.io.picture import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

_SUFFIXES = (".nii.gz", ".seg.nrrd", *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *DICOM_SUFFIXES, *VOLUME_SUFFIXES)
GROUP_COLUMNS = ("group", "patient")  # the first that the header has


def read_groups(path: Path, files: Sequence[str], folder: str) -> dict[str, str]:
    """Look up the group of each of `files` (posix, relative to `folder`) in a CSV with header -> {file: group}.

    Columns: `file` and `group` (or `patient`); others are ignored. A file is named with or without its folder and its
    extension. A picture without a row is absent from the result (logged).
    Raises DatasetError: no such columns, an empty field, a file in two groups, or not one row that fits a picture.
    """
    rows = read_column(path, GROUP_COLUMNS)
    found, used = find_rows(rows, files, folder)
    check_rows(path, rows, used, files, folder)
    if missing := [file for file in files if file not in found]:
        logger.warning(
            "%s: no group for %d pictures; each is its own group, or that of its sub-folder:%s",
            *(path, len(missing), listing(missing)),
        )
    return found


def find_rows(rows: Mapping[str, str], files: Sequence[str], folder: str) -> tuple[dict[str, str], set[str]]:
    """What the rows {name in the table: value} say of `files` (posix, relative to `folder`).

    Returns {file: value} of those that have a row, and the names of these rows without their suffix.
    """
    by_bare = {without_suffix(key): value for key, value in rows.items()}
    basenames = Counter(PurePosixPath(without_suffix(file)).name for file in files)
    found: dict[str, str] = {}
    used: set[str] = set()
    for file in files:
        keys = [f"{folder}/{file}", file]
        if basenames[PurePosixPath(without_suffix(file)).name] == 1:  # in a subfolder, and no other of its name
            keys.append(PurePosixPath(file).name)
        for key in map(composed, keys):
            value = rows.get(key, by_bare.get(without_suffix(key)))
            if value is not None:
                found[file] = value
                used.add(without_suffix(key))
                break
    return found, used


def check_rows(path: Path, rows: Mapping[str, str], used: set[str], files: Sequence[str], folder: str) -> None:
    """Raise DatasetError when not one row fits a picture; log those that fit none."""
    if files and not used:
        example = next(iter(rows), "")
        raise DatasetError(
            f"{path}: none of its {len(rows)} rows names a picture in {folder}/ (first row: {example!r}, first "
            f"picture: {files[0]!r}); write the file names as they are in the folder, or remove the file"
        )
    if unused := [key for key in rows if without_suffix(key) not in used]:
        logger.warning("%s: %d rows name no picture in %s/:%s", path, len(unused), folder, listing(unused))


def read_column(path: Path, names: Sequence[str], optional: bool = False, empty: bool = False) -> dict[str, str]:
    """{`file`: value} of the first column of these names in a CSV, separated by , or ;.

    Args:
        optional: {} where there is no such column. empty: rows without a value are left out.

    Raises DatasetError: not UTF-8, no such columns, an empty field, one file with two values.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 ({error.reason}); save it as CSV UTF-8") from error
    header = text.split("\n", 1)[0]
    delimiter = ";" if ";" in header and "," not in header else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    column = next((name for name in names if name in columns), None)
    if optional and column is None:
        return {}
    if "file" not in columns or column is None:
        raise DatasetError(f"{path}: its header is {columns}; expected the columns `file` and `{names[0]}`")
    rows: dict[str, str] = {}
    for row in reader:
        file = composed(row["file"] or "").strip().replace("\\", "/").removeprefix("./")
        value = (row[column] or "").strip()
        if file and not value and empty:
            continue
        if not file or not value:
            raise DatasetError(f"{path}, line {reader.line_num}: empty `file` or `{column}`; fill it or remove the row")
        if rows.setdefault(file, value) != value:
            raise DatasetError(f"{path}: {file} has the {column}s {rows[file]} and {value}; keep one row")
    return rows


def composed(name: str) -> str:
    """Letters with their accents as one (NFC): macOS names files with the accents apart, tables have them together."""
    return unicodedata.normalize("NFC", name)


def without_suffix(name: str) -> str:
    """Drop the suffix of a picture, video, DICOM file or volume; a dot that belongs to the name (frame.001) stays."""
    lower = name.lower()
    suffix = next((known for known in _SUFFIXES if lower.endswith(known)), "")
    return name[: len(name) - len(suffix)]
