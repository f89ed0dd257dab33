"""A dataset folder -> items."""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.data.datalist_file import read_datalist
from scripts.data.errors import DatasetError, listing
from scripts.data.groups import read_groups
from scripts.io.errors import DICOM_SUFFIXES, HEAD_BYTES, VIDEO_SUFFIXES, media_kind
from scripts.io.image_reader import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

Item = dict[str, Any]
DATALIST_NAMES = ("datalist.json", "dataset.json")
_MASK_FOLDERS = ("masks", "labels")
_UNLABELED_FOLDERS = ("unlabeled", "unlabelled")
_EXPECTED = (
    "expected a folder with images/ and masks/ (or labels/) matched by file name, optionally unlabeled/ and groups.csv"
    "; or a datalist .json"
)


def read_dataset(dataset_dir: str | os.PathLike[str]) -> dict[str, list[Item]]:
    """Read a dataset in layout (a) folders or (b) datalist JSON, without opening a picture.

    (a) gives "pool" (images/; "label" present where there is a mask) and "unlabeled" (unlabeled/);
    (b) gives the sections the JSON has, "training" renamed to "pool" because it may hold items without label.
    An item is {"image": absolute path, "label"?: absolute path, "file": path relative to dataset_dir, "group": str,
    "severity"?: float}. Items are sorted by "file". The group comes from groups.csv / unlabeled_groups.csv or the
    JSON; without a group file from the subfolder (images/patient1/frame.png); else each picture is its own group.

    Raises DatasetError: missing folder, neither layout, no masks at all, a mask without image, two pictures of one
    stem, videos or DICOM among the images.
    """
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not root.exists():
        raise DatasetError(f"dataset_dir {root} does not exist; {_EXPECTED}")
    if root.is_file():
        if root.suffix.lower() != ".json":
            raise DatasetError(f"dataset_dir {root} is a file; {_EXPECTED}")
        sections = read_datalist(root)
    elif datalist := next((root / name for name in DATALIST_NAMES if (root / name).is_file()), None):
        logger.info("%s is read from its %s", root, datalist.name)
        sections = read_datalist(datalist)
    else:
        sections = _read_folders(root)
    if not any("label" in item for item in sections["pool"]):
        raise DatasetError(
            f"{root}: no masks at all among {len(sections['pool'])} training images; put at least a few into masks/, "
            "under the name of their image"
        )
    return {name: sorted(items, key=lambda item: item["file"]) for name, items in sections.items()}


def read_unlabeled_folder(folder: str | os.PathLike[str], dataset_dir: str | os.PathLike[str]) -> list[Item]:
    """Read a folder of frames without masks -> items.

    Groups come from groups.csv inside it, or <name of the folder>_groups.csv beside it. "file" is relative to
    dataset_dir (or its JSON's folder). Raises DatasetError: missing or empty folder, videos or DICOM in it.
    """
    folder = Path(os.path.abspath(os.path.expanduser(folder)))
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not folder.is_dir():
        raise DatasetError(f"unlabeled_data {folder} is not a folder; give a folder of frames, true or false")
    files = _pictures(folder)
    if not files:
        raise DatasetError(f"unlabeled_data {folder} holds no pictures; expected PNG, JPEG, TIFF, BMP or WebP files")
    beside = folder.parent / f"{folder.name}_groups.csv"
    table = folder / "groups.csv" if (folder / "groups.csv").is_file() else beside
    groups = _groups(table, files, folder.name)
    return [_item(root if root.is_dir() else root.parent, folder, file, groups) for file in files]


def _read_folders(root: Path) -> dict[str, list[Item]]:
    images = root / "images"
    if not images.is_dir():
        raise DatasetError(f"{root} has no images/ and no {' or '.join(DATALIST_NAMES)}; {_EXPECTED}")
    mask_folders = [root / name for name in _MASK_FOLDERS if (root / name).is_dir()]
    if len(mask_folders) > 1:
        raise DatasetError(f"{root} has both masks/ and labels/; keep the one that holds the masks")
    files = _pictures(images)
    if not files:
        raise DatasetError(f"{images} holds no pictures; expected PNG, JPEG, TIFF, BMP or WebP files")
    by_stem = _by_stem(images, files)
    masks = _by_stem(mask_folders[0], _pictures(mask_folders[0])) if mask_folders else {}
    if orphans := sorted(set(masks) - set(by_stem)):
        lines = [f"{mask_folders[0] / masks[stem]}" for stem in orphans]
        raise DatasetError(
            f"{len(lines)} masks have no image of the same name in {images}; add the image, rename or remove the mask:"
            + listing(lines)
        )
    groups = _groups(root / "groups.csv", files, "images")
    pool = []
    for stem, file in by_stem.items():
        item = _item(root, images, file, groups)
        if stem in masks:
            item["label"] = str(mask_folders[0] / masks[stem])
        pool.append(item)
    unlabeled = []
    for name in _UNLABELED_FOLDERS:
        if (root / name).is_dir():
            table = root / f"{name}_groups.csv"
            extra = _pictures(root / name)
            unlabeled += [
                _item(root, root / name, file, found) for found in [_groups(table, extra, name)] for file in extra
            ]
    return {"pool": pool, "unlabeled": unlabeled}


def _item(root: Path, folder: Path, file: str, groups: dict[str, str]) -> Item:
    path = folder / file
    relative = Path(os.path.relpath(path, root)).as_posix()
    return {"image": str(path), "file": relative, "group": groups.get(file, relative)}


def _groups(table: Path, files: list[str], folder: str) -> dict[str, str]:
    if table.is_file():
        return read_groups(table, files, folder)
    # images/patient1/frame.png: the subfolder is the only hint at what belongs together
    return {file: parent for file in files if (parent := PurePosixPath(file).parent.as_posix()) != "."}


def _by_stem(folder: Path, files: list[str]) -> dict[str, str]:
    """{path without extension: file}; two files of one stem could not be told apart."""
    found: dict[str, str] = {}
    for file in files:
        stem = str(PurePosixPath(file).with_suffix(""))
        if stem in found:
            raise DatasetError(
                f"{folder}: {found[stem]} and {file} have the same name but for the extension; rename or remove one"
            )
        found[stem] = file
    return found


def _pictures(folder: Path) -> list[str]:
    """Posix paths of the pictures below `folder`, sorted. Videos and DICOM are refused, other files logged."""
    pictures, foreign, ignored = [], [], []
    for directory, names, files in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__MACOSX")))
        for name in files:
            path = Path(directory, name)
            suffix = path.suffix.lower()
            if name.startswith(".") or name in ("Thumbs.db", "desktop.ini") or suffix == ".csv":
                continue
            if suffix in IMAGE_SUFFIXES:
                pictures.append(path.relative_to(folder).as_posix())
            elif suffix in VIDEO_SUFFIXES + DICOM_SUFFIXES or _is_foreign(path):
                foreign.append(str(path))
            else:
                ignored.append(str(path))
    if foreign:
        raise DatasetError(
            f"{len(foreign)} videos or DICOM files among the images, which cannot be read yet; extract their frames "
            f"first, e.g. `ffmpeg -i clip.mp4 clip_%05d.png`:{listing(sorted(foreign))}"
        )
    if ignored:
        logger.warning(
            "%d files in %s are not pictures and are ignored:%s", len(ignored), folder, listing(sorted(ignored))
        )
    return sorted(pictures)


def _is_foreign(path: Path) -> bool:
    """Tell a video or DICOM file without a telling extension by its first bytes."""
    with path.open("rb") as stream:
        return media_kind(stream.read(HEAD_BYTES)) in ("video", "DICOM")
