"""Which sub-folders of a folder hold masks, and so no pictures to look at."""

from __future__ import annotations

from pathlib import Path

DATASTORE = "datastore_v2.json"  # MONAI Label's list of images, beside them
LABELS = "labels"
FINAL = f"{LABELS}/final"
MASK_FOLDERS = ("masks", LABELS)  # beside images/


def is_studies_folder(root: Path) -> bool:
    """Whether MONAI Label keeps its list of images there, or at least its labels (and there is no images/)."""
    return (root / DATASTORE).is_file() or ((root / FINAL).is_dir() and not (root / "images").is_dir())


def mask_folders(folder: Path) -> list[str]:
    """Names of the folders of masks in a folder: masks/ and labels/ beside images/, labels/ of MONAI Label."""
    if is_studies_folder(folder):
        names: tuple[str, ...] = (LABELS,)
    else:
        names = MASK_FOLDERS if (folder / "images").is_dir() else ()
    return [name for name in names if (folder / name).is_dir()]
