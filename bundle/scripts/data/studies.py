"""The studies folder of a MONAI Label server -> items."""

from __future__ import annotations

import logging
from pathlib import Path

from scripts.data.errors import DatasetError, listing
from scripts.data.files import MASK_KINDS, Item, by_stem, find_files, find_groups, make_item
from scripts.data.mask_folders import FINAL

logger = logging.getLogger(__name__)


def read_studies(root: Path) -> dict[str, list[Item]]:
    """Read the images of a studies folder -> {"pool": items, "unlabeled": []}, see read_dataset.

    Images are the pictures, DICOM files, videos and RGB volumes in the folder itself; what lies in sub-folders, hidden
    files and JSON are not. The label of image <id>.<ext> is labels/final/<id>.<ext>, a mask or a label volume: what a
    person submitted. Labels of other tags are left alone, above all labels/original, which are a network's proposals;
    learning from them would teach it its own faults. groups.csv in the folder is honoured.

    Raises DatasetError: no images; two images, or two labels, of one id; videos or DICOM among the labels.
    """
    files = sorted(find_files(root, below=False))
    if not files:
        raise DatasetError(
            f"{root}: a studies folder without images; put PNG, JPEG, TIFF, BMP or WebP files, videos or DICOM into it"
        )
    of_id = by_stem(root, files)
    folder = root / FINAL
    kinds = find_files(folder, below=False) if folder.is_dir() else {}
    if foreign := sorted(str(folder / file) for file, kind in kinds.items() if kind not in MASK_KINDS):
        raise DatasetError(f"{len(foreign)} labels are neither pictures nor label volumes:{listing(foreign)}")
    labels = by_stem(folder, sorted(kinds))
    if orphans := sorted(str(folder / file) for stem, file in labels.items() if stem not in of_id):
        logger.warning("%d labels have no image of their name and are left out:%s", len(orphans), listing(orphans))
    groups = find_groups(root / "groups.csv", files, root.name)
    pool = []
    for stem, file in of_id.items():
        item = make_item(root, root, file, groups)
        pool.append({**item, "label": str(folder / labels[stem])} if stem in labels else item)
    return {"pool": pool, "unlabeled": []}
