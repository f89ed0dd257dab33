"""How one frame of a file is named: `clip.mp4#12` is the thirteenth frame of clip.mp4."""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path

_ADDRESS = re.compile(r"(?P<path>.+)#(?P<index>\d+)", re.DOTALL)


def join_address(path: str | PathLike[str], index: int) -> str:
    """`path#index`; index counts from 0. Raises ValueError for a negative one."""
    if index < 0:
        raise ValueError(f"{path}: frame {index}; frames count from 0")
    return f"{fspath(path)}#{index}"


def split_address(address: str | PathLike[str]) -> tuple[Path, int | None]:
    """`path#index` -> (path, index), and (path, None) where no frame is named.

    A file that exists under the whole text wins: somebody may have a picture named `polyp#2`.
    """
    text = fspath(address)
    found = _ADDRESS.fullmatch(text)
    if found is None or Path(text).exists():
        return Path(text), None
    return Path(found["path"]), int(found["index"])
