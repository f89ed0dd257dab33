"""A folder of anything -> the frames to run inference on."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.data.errors import DatasetError
from scripts.data.layouts import Item
from scripts.io.errors import DICOM_SUFFIXES, VIDEO_SUFFIXES
from scripts.io.image_reader import IMAGE_SUFFIXES


def list_frames(dataset_dir: str | os.PathLike[str]) -> list[Item]:
    """Every picture of a folder and its sub-folders, or one picture -> items {"image", "file"}, sorted by "file".

    Videos and DICOM are listed too: what cannot be read is reported file by file, never passed over in silence. Other
    files (tables, notes, hidden files) are left out.

    Raises:
        DatasetError: nothing given, missing folder, or no picture in it.
    """
    if not dataset_dir:
        raise DatasetError("dataset_dir is empty; give a folder of pictures: --dataset_dir /path/to/frames")
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not root.exists():
        raise DatasetError(f"dataset_dir {root} does not exist; give a folder of pictures, or one picture")
    if root.is_file():
        return [{"image": str(root), "file": root.name}]
    wanted = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *DICOM_SUFFIXES)
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.is_file()
        and path.suffix.lower() in wanted
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    if not paths:
        raise DatasetError(f"{root} holds no picture ({', '.join(IMAGE_SUFFIXES)}); check --dataset_dir")
    return [{"image": str(path), "file": path.relative_to(root).as_posix()} for path in paths]
