"""A dataset folder -> frames that have a mask and frames that could get one, also before there is any mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scripts.data.datalist_file import read_datalist
from scripts.data.errors import DatasetError
from scripts.data.expansion import expand_media
from scripts.data.groups import read_groups
from scripts.data.layouts import DATALIST_NAMES, Item, read_dataset, read_unlabeled_folder
from scripts.data.mask_folders import FINAL, MASK_FOLDERS, is_studies_folder


def read_candidates(dataset_dir: str | os.PathLike[str]) -> tuple[list[Item], list[Item]]:
    """Items with a mask, and items without: frames to choose from, sorted by "file".

    dataset_dir is a dataset as read_dataset takes it, or one without any mask yet, or a plain folder of frames (its
    groups.csv is honoured). Videos and files of several frames become frames, thinned as for training (expand_media):
    near-duplicates of each other and of labelled frames are no candidates.

    Raises DatasetError: nothing given, missing folder, or nothing to read in it; and see read_dataset.
    """
    if not dataset_dir:
        raise DatasetError("dataset_dir is empty; give a folder of frames: --dataset_dir /path/to/it")
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not root.exists():
        raise DatasetError(f"dataset_dir {root} does not exist; give a folder of frames or a dataset")
    if listed := _datalist(root):
        sections = read_datalist(listed)
    elif _has_masks(root):
        sections = read_dataset(root)
    else:
        sections = {"pool": _without_masks(root)}
    found = [item for items in expand_media(sections).values() for item in items]
    found.sort(key=lambda item: item["file"])
    labelled = {item["image"]: item for item in found if "label" in item}
    others = {item["image"]: item for item in found if item["image"] not in labelled}  # a datalist may name one twice
    return list(labelled.values()), list(others.values())


def _datalist(root: Path) -> Path | None:
    if root.is_file():
        if root.suffix.lower() != ".json":
            raise DatasetError(f"dataset_dir {root} is a file; give a folder of frames or a datalist .json")
        return root
    return next((root / name for name in DATALIST_NAMES if (root / name).is_file()), None)


def _has_masks(root: Path) -> bool:
    folders = (FINAL,) if is_studies_folder(root) else MASK_FOLDERS
    return any(
        path.is_file() and not path.name.startswith(".") for folder in folders for path in (root / folder).rglob("*")
    )


def _without_masks(root: Path) -> list[Item]:
    folders = [root / name for name in ("images", "unlabeled", "unlabelled") if (root / name).is_dir()]
    items = [item for folder in folders or [root] for item in read_unlabeled_folder(folder, root)]
    return _grouped(root, items) if folders else items


def _grouped(root: Path, items: Sequence[Item]) -> list[Item]:
    """With the groups of groups.csv, which stands beside images/ and not inside."""
    files = [item["file"].removeprefix("images/") for item in items if item["file"].startswith("images/")]
    if not files or not (root / "groups.csv").is_file():
        return list(items)
    groups = {f"images/{file}": group for file, group in read_groups(root / "groups.csv", files, "images").items()}
    return [{**item, "group": groups.get(item["file"], item["group"])} for item in items]
