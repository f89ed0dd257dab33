"""A dataset folder -> items."""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.data.datalist_file import read_datalist
from scripts.data.errors import DatasetError, listing
from scripts.data.groups import read_groups, without_suffix
from scripts.io.media import media_type

logger = logging.getLogger(__name__)

Item = dict[str, Any]
DATALIST_NAMES = ("datalist.json", "dataset.json")
_MASK_FOLDERS = ("masks", "labels")
_UNLABELED_FOLDERS = ("unlabeled", "unlabelled")
_READABLE = "expected PNG, JPEG, TIFF, BMP or WebP files, videos or DICOM"
_EXPECTED = (
    "expected a folder with images/ and masks/ (or labels/) matched by file name, optionally unlabeled/ and groups.csv"
    "; or a datalist .json"
)


def read_dataset(dataset_dir: str | os.PathLike[str]) -> dict[str, list[Item]]:
    """Read a dataset in layout (a) folders or (b) datalist JSON, without opening a picture.

    (a) gives "pool" (images/; "label" present where there is a mask) and "unlabeled" (unlabeled/);
    (b) gives the sections the JSON has, "training" renamed to "pool" because it may hold items without label.
    An item is {"image": absolute path, "label"?: absolute path, "file": path relative to dataset_dir, "group": str,
    "severity"?: float}; videos, DICOM and volumes are one item each here (see expansion), masks of their frames,
    masks/<name of the file>/<frame number>.png, are its "frame_labels" {number: absolute path}. Items are sorted by
    "file". The group comes from groups.csv / unlabeled_groups.csv or the JSON; without a group file from the subfolder
    (images/patient1/frame.png); else each file is its own group.

    Raises DatasetError: missing folder, neither layout, no masks at all, a mask without image, two pictures of one
    stem, videos or DICOM among the masks.
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
    if not any("label" in item or "frame_labels" in item for item in sections["pool"]):
        raise DatasetError(
            f"{root}: no masks at all among {len(sections['pool'])} training images; put at least a few into masks/, "
            "under the name of their image"
        )
    return {name: sorted(items, key=lambda item: item["file"]) for name, items in sections.items()}


def read_unlabeled_folder(folder: str | os.PathLike[str], dataset_dir: str | os.PathLike[str]) -> list[Item]:
    """Read a folder of frames without masks -> items.

    Groups come from groups.csv inside it, or <name of the folder>_groups.csv beside it. "file" is relative to
    dataset_dir (or its JSON's folder). Raises DatasetError: missing or empty folder.
    """
    folder = Path(os.path.abspath(os.path.expanduser(folder)))
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not folder.is_dir():
        raise DatasetError(f"unlabeled_data {folder} is not a folder; give a folder of frames, true or false")
    files = _media_files(folder)
    if not files:
        raise DatasetError(f"unlabeled_data {folder} holds no pictures; {_READABLE}")
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
    files = _media_files(images)
    if not files:
        raise DatasetError(f"{images} holds no pictures; {_READABLE}")
    by_stem = _by_stem(images, files)
    masks = _by_stem(mask_folders[0], _mask_files(mask_folders[0])) if mask_folders else {}
    of_frames = _frame_masks(by_stem, masks)
    masks = {stem: file for stem, file in masks.items() if file not in of_frames}
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
        own = {number: str(mask_folders[0] / mask) for mask, (of, number) in of_frames.items() if of == stem}
        pool.append({**item, "frame_labels": own} if own else item)
    unlabeled = []
    for name in _UNLABELED_FOLDERS:
        if (root / name).is_dir():
            table = root / f"{name}_groups.csv"
            extra = _media_files(root / name)
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
        stem = without_suffix(file)
        if stem in found:
            raise DatasetError(
                f"{folder}: {found[stem]} and {file} have the same name but for the extension; rename or remove one"
            )
        found[stem] = file
    return found


def _frame_masks(by_stem: dict[str, str], masks: dict[str, str]) -> dict[str, tuple[str, int]]:
    """Masks of single frames, clip/000012.png for images/clip.mp4 -> {mask file: (stem of the video, 12)}."""
    found = {}
    for stem, file in masks.items():
        path = PurePosixPath(stem)
        if stem not in by_stem and str(path.parent) in by_stem and path.name.isdigit():
            found[file] = (str(path.parent), int(path.name))
    return found


def _mask_files(folder: Path) -> list[str]:
    """Posix paths of the pictures below `folder`, sorted; videos and DICOM are refused."""
    kinds = _files(folder)
    if foreign := sorted(str(folder / file) for file, kind in kinds.items() if kind != "picture"):
        raise DatasetError(
            f"{len(foreign)} videos, DICOM files or volumes among the masks; save each mask as a PNG of the size of "
            f"its image, that of a frame as <name of the video>/<frame number>.png:{listing(foreign)}"
        )
    return sorted(kinds)


def _media_files(folder: Path) -> list[str]:
    """Posix paths of the pictures, videos, DICOM files and volumes below `folder`, sorted."""
    return sorted(_files(folder))


def _files(folder: Path) -> dict[str, str]:
    """{posix path: "picture", "video", "DICOM" or "volume"} below `folder`; other files are logged."""
    found: dict[str, str] = {}
    ignored: list[str] = []
    for directory, names, files in os.walk(folder, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith((".", "__MACOSX")))
        for name in files:
            path = Path(directory, name)
            if name.startswith(".") or name in ("Thumbs.db", "desktop.ini") or path.suffix.lower() == ".csv":
                continue
            kind = media_type(path)
            if kind is None:
                ignored.append(str(path))
            else:
                found[path.relative_to(folder).as_posix()] = kind
    if ignored:
        logger.warning(
            "%d files in %s are not pictures, videos or DICOM and are ignored:%s",
            len(ignored),
            folder,
            listing(sorted(ignored)),
        )
    return found
