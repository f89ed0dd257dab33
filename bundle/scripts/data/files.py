"""The files of a folder and what is known of them by name: kind, stem, group."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.data.errors import DatasetError, listing
from scripts.data.groups import read_groups, without_suffix
from scripts.data.mask_folders import mask_folders
from scripts.io.media import media_type

logger = logging.getLogger(__name__)

Item = dict[str, Any]
MASK_KINDS = ("picture", "volume")
NO_DATA = ("Thumbs.db", "desktop.ini")
_NO_DATA_SUFFIXES = (".csv",)


def make_item(root: Path, folder: Path, file: str, groups: dict[str, str]) -> Item:
    """Item of a file of `folder`; "file" is relative to `root`, and the group where none is known."""
    path = folder / file
    relative = Path(os.path.relpath(path, root)).as_posix()
    return {"image": str(path), "file": relative, "group": groups.get(file, relative)}


def find_groups(table: Path, files: list[str], folder: str) -> dict[str, str]:
    """{file: group} by a table, else by sub-folder; a file of no group is not in it.

    Raises:
        DatasetError: see read_groups; a table under a name or at a place where it is not looked for.
    """
    # images/patient1/frame.png: the subfolder is the only hint at what belongs together
    by_folder = {file: parent for file in files if (parent := PurePosixPath(file).parent.as_posix()) != "."}
    if table.is_file():
        return by_folder | read_groups(table, files, folder)
    if nested := sorted(parent for parent in set(by_folder.values()) if "/" in parent):
        logger.warning(
            "Sub-folders of sub-folders: each of %d in %s/ is a group of its own. If some show the same patient, say "
            "so in %s:%s",
            len(set(by_folder.values())),
            folder,
            table,
            listing(nested),
        )
    for place in (table.parent, table.parent / folder):
        for name in os.listdir(place) if place.is_dir() else ():
            if name.lower() == table.name.lower() and place / name != table:
                raise DatasetError(f"{place / name}: it is not looked for there; the groups are read from {table}")
    return by_folder


def by_stem(folder: Path, files: list[str]) -> dict[str, str]:
    """{path without extension: file}; two files of one stem could not be told apart."""
    found: dict[str, str] = {}
    for file in files:
        stem = without_suffix(file)
        if stem in found:
            raise DatasetError(
                f"{folder}: {found[stem]} and {file} have the same name but for the extension; rename or remove one"
            )
        found[stem] = file
    return found


def media_files(folder: Path) -> list[str]:
    """Posix paths of the pictures, videos, DICOM files and volumes below `folder`, sorted."""
    return sorted(find_files(folder))


def walk_once(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk that follows links, each folder once: a link to a folder above would lead round and round.

    Sub-folders come by name, those of a link last, so that a folder has the same name on every machine.

    Raises:
        DatasetError: a folder that may not be read; its pictures would be missing without a word.
    """

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: cannot be read ({error.strerror}); allow it, or move it away") from error

    seen: set[str] = set()
    for directory, names, files in os.walk(folder, followlinks=True, onerror=refuse):
        place = os.path.realpath(directory)
        if place in seen:
            names.clear()
            continue
        seen.add(place)
        if "lost+found" in names:  # the file system's own, at the top of a disk
            names.remove("lost+found")
        names.sort(key=lambda name: (os.path.islink(os.path.join(directory, name)), name))
        yield directory, names, files


def find_files(folder: Path, below: bool = True) -> dict[str, str]:
    """{posix path: "picture", "video", "DICOM" or "volume"} in `folder`, and below it; other files are logged.

    Folders of masks beside the pictures are left out (see mask_folders), and without a word hidden files and folders,
    tables, and what operating systems leave behind; where sub-folders are not looked into, JSON too, which is MONAI
    Label's own.
    """
    known = _NO_DATA_SUFFIXES if below else (*_NO_DATA_SUFFIXES, ".json")
    found: dict[str, str] = {}
    ignored: list[str] = []
    for directory, names, files in walk_once(folder):
        names[:] = [name for name in names if below and not name.startswith((".", "__MACOSX"))]
        for name in set(mask_folders(Path(directory))).intersection(names):
            logger.info("%s: %s/ holds masks and is left out of the pictures", directory, name)
            names.remove(name)
        for name in files:
            path = Path(directory, name)
            if name.startswith(".") or name in NO_DATA or path.suffix.lower() in known:
                continue
            kind = media_type(path)
            if kind is None:
                ignored.append(str(path))
            else:
                found[path.relative_to(folder).as_posix()] = kind
    log_ignored(folder, ignored)
    return found


def log_ignored(folder: Path, files: Sequence[str]) -> None:
    """Say which files are passed over."""
    if files:
        logger.warning(
            "%d files in %s are not pictures, videos or DICOM and are ignored:%s",
            len(files),
            folder,
            listing(sorted(files)),
        )
