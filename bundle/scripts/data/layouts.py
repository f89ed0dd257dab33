"""A dataset folder -> items."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path, PurePosixPath

from scripts.data.datalist_file import read_datalist
from scripts.data.errors import DatasetError, listing
from scripts.data.files import MASK_KINDS, Item, by_stem, find_files, find_groups, make_item, media_files
from scripts.data.fingerprints import file_sha256
from scripts.data.groups import read_groups
from scripts.data.mask_folders import FINAL, is_studies_folder, mask_folders
from scripts.data.studies import read_studies
from scripts.io.frame_address import split_address

__all__ = ["DATALIST_NAMES", "UNLABELED_FOLDERS", "Item", "dataset_digest", "read_dataset", "read_unlabeled_folder"]

logger = logging.getLogger(__name__)

DATALIST_NAMES = ("datalist.json", "dataset.json")
UNLABELED_FOLDERS = ("unlabeled", "unlabelled")
GROUPS = "groups.csv"
_READABLE = "expected PNG, JPEG, TIFF, BMP or WebP files, videos or DICOM"
_EXPECTED = (
    "expected a folder with images/ and masks/ (or labels/) matched by file name, optionally unlabeled/ and groups.csv"
    "; a datalist .json; or a studies folder of MONAI Label"
)


def read_dataset(dataset_dir: str | os.PathLike[str], masks_needed: bool = True) -> dict[str, list[Item]]:
    """Read a dataset in layout (a) folders, (b) datalist JSON or (d) studies folder, without opening a picture.

    (a) and (d) (see studies.py) give "pool" ("label" present where there is a mask), and (a) "unlabeled" (unlabeled/);
    (b) gives the sections the JSON has, "training" renamed to "pool" because it may hold items without label.
    An item is {"image": absolute path, "label"?: absolute path, "file": path relative to dataset_dir, "group": str,
    "severity"?: float}; videos, DICOM and volumes are one item each here, and a label may be a volume of all frames of
    its image (see expansion); masks of single frames, masks/<name of the file>/<frame number>.png, are the item's
    "frame_labels" {number: absolute path}. Items are sorted by "file". The group comes from groups.csv /
    unlabeled_groups.csv (or unlabeled/groups.csv) or the JSON, from groups.csv where an entry of it has none; without a
    group file from the subfolder (images/patient1/frame.png); else each file is its own group. With masks_needed False
    there may be no mask at all, as where pictures are graded.

    Raises DatasetError: missing folder, neither layout, no masks at all, a mask without image, two pictures of one
    stem, videos or DICOM among the masks.
    """
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    place = "masks/, under the name of their image"
    if not root.exists():
        raise DatasetError(f"dataset_dir {root} does not exist; {_EXPECTED}")
    if root.is_file():
        if root.suffix.lower() != ".json":
            raise DatasetError(f"dataset_dir {root} is a file; {_EXPECTED}")
        sections = _with_groups(read_datalist(root, masks_needed), root.parent / GROUPS)
    elif datalist := next((root / name for name in DATALIST_NAMES if (root / name).is_file()), None):
        logger.info("%s is read from its %s", root, datalist.name)
        sections = _with_groups(read_datalist(datalist, masks_needed), root / GROUPS)
    elif is_studies_folder(root):
        sections, place = read_studies(root), f"{FINAL}/, as MONAI Label does when a label is submitted"
    else:
        sections = _read_folders(root)
    if masks_needed and not any("label" in item or "frame_labels" in item for item in sections["pool"]):
        raise DatasetError(
            f"{root}: no masks at all among {len(sections['pool'])} training images; put at least a few into {place}"
        )
    return {name: sorted(items, key=lambda item: item["file"]) for name, items in sections.items()}


def dataset_digest(dataset_dir: str | os.PathLike[str]) -> str:
    """SHA-256 of what a training takes from a data set, quickly: names, groups, grades, masks; pictures by their size.

    Raises DatasetError: see read_dataset.
    """
    told = []
    for name, items in read_dataset(dataset_dir, masks_needed=False).items():
        for item in items:
            masks = {key: str(item[key]) for key in ("label", "pseudo_label") if key in item}
            masks |= {str(number): path for number, path in item.get("frame_labels", {}).items()}
            facts = {key: item.get(key) for key in ("file", "group", "severity", "weight")}
            image = split_address(item["image"])[0]
            hashes = {key: file_sha256(path) for key, path in sorted(masks.items())}
            told.append([name, facts, image.stat().st_size, hashes])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_unlabeled_folder(folder: str | os.PathLike[str], dataset_dir: str | os.PathLike[str]) -> list[Item]:
    """Read a folder of frames without masks -> items.

    Groups come from groups.csv inside it, or <name of the folder>_groups.csv beside it. Of a folder that is a data set
    itself, images/ beside masks/ or labels/, the pictures are read and not the masks. "file" is relative to
    dataset_dir (or its JSON's folder). Raises DatasetError: missing or empty folder.
    """
    folder = Path(os.path.abspath(os.path.expanduser(folder)))
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not folder.is_dir():
        raise DatasetError(f"unlabeled_data {folder} is not a folder; give a folder of frames, True, False, or images")
    if mask_folders(folder) and (folder / "images").is_dir():
        tables = {folder / "images": folder / GROUPS, **_unlabeled_folders(folder)}
        logger.info(
            "%s is a data set: its %s are read, no masks", folder, " and ".join(f"{one.name}/" for one in tables)
        )
    else:
        inside = folder / GROUPS
        tables = {folder: inside if inside.is_file() else folder.parent / f"{folder.name}_groups.csv"}
    base = root if root.is_dir() else root.parent
    items = [item for each, table in tables.items() for item in _frames(base, each, table)]
    if not items:
        raise DatasetError(f"unlabeled_data {folder} holds no pictures; {_READABLE}")
    return items


def _unlabeled_folders(root: Path) -> dict[Path, Path]:
    """{folder: its table of groups}: unlabeled_groups.csv beside it, in either spelling, or groups.csv in it.

    Raises:
        DatasetError: more than one.
    """
    folders = [root / name for name in UNLABELED_FOLDERS if (root / name).is_dir()]
    found = {}
    for folder in folders:
        spellings = UNLABELED_FOLDERS if len(folders) == 1 else (folder.name,)
        places = [root / f"{folder.name}_groups.csv", *(root / f"{name}_groups.csv" for name in spellings)]
        tables = [table for table in dict.fromkeys([*places, folder / GROUPS]) if table.is_file()]
        if len(tables) > 1:
            raise DatasetError(
                f"{' and '.join(map(str, tables))} both give the groups of {folder.name}/; keep the one that holds them"
            )
        found[folder] = tables[0] if tables else places[0]
    return found


def _with_groups(sections: dict[str, list[Item]], table: Path) -> dict[str, list[Item]]:
    """Give entries of a datalist that have no group the one of groups.csv beside it, if there is such a table.

    Raises:
        DatasetError: see read_groups.
    """
    if not table.is_file():
        return sections
    own = {
        item["file"]: str(whole)
        for items in sections.values()
        for item in items
        if item["group"] == str(whole := split_address(item["file"])[0])
    }
    groups = read_groups(table, sorted(set(own.values())), "images") if own else {}
    return {
        name: [{**item, "group": groups.get(own.get(item["file"], ""), item["group"])} for item in items]
        for name, items in sections.items()
    }


def _frames(base: Path, folder: Path, table: Path) -> list[Item]:
    """Items of a folder's pictures, videos, DICOM files and volumes; "file" is relative to ``base``."""
    files = media_files(folder)
    groups = find_groups(table, files, folder.name)
    return [make_item(base, folder, file, groups) for file in files]


def _read_folders(root: Path) -> dict[str, list[Item]]:
    images = root / "images"
    if not images.is_dir():
        raise DatasetError(f"{root} has no images/ and no {' or '.join(DATALIST_NAMES)}; {_EXPECTED}")
    of_masks = [root / name for name in mask_folders(root)]
    if len(of_masks) > 1:
        raise DatasetError(f"{root} has both masks/ and labels/; keep the one that holds the masks")
    files = media_files(images)
    if not files:
        raise DatasetError(f"{images} holds no pictures; {_READABLE}")
    of_stem = by_stem(images, files)
    masks = by_stem(of_masks[0], _mask_files(of_masks[0])) if of_masks else {}
    of_frames = _frame_masks(of_stem, masks, of_masks[0]) if of_masks else {}
    masks = {stem: file for stem, file in masks.items() if file not in of_frames}
    if orphans := sorted(set(masks) - set(of_stem)):
        lines = [f"{of_masks[0] / masks[stem]}" for stem in orphans]
        raise DatasetError(
            f"{len(lines)} masks have no image of the same name in {images}; add the image, rename or remove the mask:"
            + listing(lines)
        )
    groups = find_groups(root / GROUPS, files, "images")
    pool = []
    for stem, file in of_stem.items():
        item = make_item(root, images, file, groups)
        if stem in masks:
            item["label"] = str(of_masks[0] / masks[stem])
        own = {number: str(of_masks[0] / mask) for mask, (of, number) in of_frames.items() if of == stem}
        pool.append({**item, "frame_labels": own} if own else item)
    unlabeled = [item for folder, table in _unlabeled_folders(root).items() for item in _frames(root, folder, table)]
    return {"pool": pool, "unlabeled": unlabeled}


def _frame_masks(of_stem: dict[str, str], masks: dict[str, str], folder: Path) -> dict[str, tuple[str, int]]:
    """Masks of single frames, clip/000012.png for images/clip.mp4 -> {mask file: (stem of the video, 12)}.

    Raises:
        DatasetError: two for one frame.
    """
    found: dict[tuple[str, int], str] = {}
    for stem, file in masks.items():
        path = PurePosixPath(stem)
        if stem not in of_stem and str(path.parent) in of_stem and path.name.isdigit():
            frame = (str(path.parent), int(path.name))
            if frame in found:
                raise DatasetError(
                    f"{folder}: {found[frame]} and {file} are both masks of frame {frame[1]} of {of_stem[frame[0]]}; "
                    "remove one"
                )
            found[frame] = file
    return {file: frame for frame, file in found.items()}


def _mask_files(folder: Path) -> list[str]:
    """Posix paths of the pictures and label volumes below `folder`, sorted; videos and DICOM are refused."""
    kinds = find_files(folder)
    if foreign := sorted(str(folder / file) for file, kind in kinds.items() if kind not in MASK_KINDS):
        raise DatasetError(
            f"{len(foreign)} videos or DICOM files among the masks; save each mask as a PNG of the size of its image, "
            f"that of a frame as <name of the video>/<frame number>.png:{listing(foreign)}"
        )
    return sorted(kinds)
