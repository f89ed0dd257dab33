"""A folder as a zip file whose bytes depend on the files' names and contents alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

from scripts.io.writers import whole_file

#: the earliest date that a zip file can hold; the day of packaging says nothing about the contents
DATE = (1980, 1, 1, 0, 0, 0)


def write_zip(folder: Path, path: Path) -> None:
    """Zip ``folder`` with its own name as the only entry at the top.

    Raises:
        OutputError: the file cannot be written.
    """
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for file in sorted(one for one in folder.rglob("*") if one.is_file()):
            entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whatever system packages
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), compresslevel=9)
