"""Files appear whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"  # how temporary names begin


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it on success, remove it on failure."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{PARTIAL}{target.stem}-{secrets.token_hex(4)}{target.suffix}"
    temporary.touch(exist_ok=False)  # of ordinary rights, by the umask
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    r"""Write a text file in UTF-8, whole or not at all; other bytes of file names as \udcff."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def remove_leftovers(folder: str | Path) -> None:
    """Remove what a killed process left half written in a folder; nobody else may be writing there."""
    for path in Path(folder).glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)
