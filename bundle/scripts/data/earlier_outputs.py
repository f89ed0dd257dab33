"""What inference wrote among its inputs (--output_dir is --dataset_dir, or a folder in it): no frames to look at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

#: table in an output folder -> how its first line begins: results.csv is a name that others give, too
TABLES = {
    "results.csv": "file,width,height,lesion_px",
    "videos.csv": "file,frames,failed_frames",
    "failures.csv": "file,error",
}
_FOLDERS = ("masks", "overlays", "segmentations")
_SHARD = re.compile(r"\d{4}_of_\d{4}")
# Not the whole of videos/, which a person's clips may lie in as well.
_BESIDE, _OF_A_VIDEO = ("timeline.csv", "episodes.csv"), ("overlay.mp4", "timeline.png")


def output_folders(folder: Path) -> list[str]:
    """Names of the sub-folders that hold masks, overlays and SEG of an earlier run, or shards of one."""
    names = _FOLDERS if any(_begins(folder / table, line) for table, line in TABLES.items()) else ()
    shards = folder / "shards"
    found = [name for name in names if (folder / name).is_dir()]
    if shards.is_dir() and any(_SHARD.fullmatch(part.name) for part in shards.iterdir()):
        found.append(shards.name)
    return found


def output_files(files: Sequence[str]) -> list[str]:
    """Those of the files of one folder that were made of a video; none unless its tables are there."""
    return [name for name in _OF_A_VIDEO if name in files] if set(_BESIDE).issubset(files) else []


def _begins(path: Path, line: str) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline(1000).startswith(line)
    except OSError:  # not there
        return False
