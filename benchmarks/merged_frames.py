"""Several data sets as one folder that the bundle reads: a sub-folder a source, groups kept apart by its name."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bundle_run import ROOT

sys.path.insert(0, str(ROOT / "bundle"))

from scripts.data.groups import read_groups  # noqa: E402


def merge(sources: Mapping[str, Path], target: Path) -> Path:
    """Copy images/, masks/, unlabeled/ and the groups of each data set to <target>/<folder>/<name of the source>/.

    Args:
        sources: {name: data set in the bundle's folder layout}.
        target: made whole or not at all; one that is there is taken as it is.

    Returns:
        target.

    Raises:
        FileNotFoundError: a source without images/.
    """
    if target.is_dir():
        return target
    for source in sources.values():
        if not (source / "images").is_dir():
            raise FileNotFoundError(f"{source} has no images/: give the folder of a data set in the bundle's layout")
    temporary = target.with_name(f"{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    for folder, table in (("images", "groups.csv"), ("masks", ""), ("unlabeled", "unlabeled_groups.csv")):
        rows: list[tuple[str, str]] = []
        for name, source in sources.items():
            if (source / folder).is_dir():
                shutil.copytree(source / folder, temporary / folder / name)
            if table and (source / table).is_file():
                rows += _groups(source, table, folder, name)
        if rows:
            with (temporary / table).open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("file", "group"), *rows])
    temporary.replace(target)
    return target


def _groups(source: Path, table: str, folder: str, name: str) -> Iterator[tuple[str, str]]:
    """Rows of a groups.csv as they are in the merged folder."""
    files = [path.relative_to(source / folder).as_posix() for path in (source / folder).rglob("*") if path.is_file()]
    for file, group in read_groups(source / table, sorted(files), folder).items():
        yield f"{folder}/{name}/{file}", f"{name} {group}"
