"""Every file of a dataset is opened once, before any work starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from scripts.data.errors import DatasetError, listing
from scripts.data.fingerprints import Fingerprint, fingerprint, map_files
from scripts.io.frame_address import split_address
from scripts.io.geometry import read_affine
from scripts.io.label_volume import is_volume
from scripts.io.mask_marks import LesionMark, differing_marks, read_marked_mask
from scripts.io.mask_reader import ValueMap, read_mask
from scripts.io.media import open_media

logger = logging.getLogger(__name__)

MASKS = ("label", "pseudo_label")  # keys of an item
AFFINE_TOLERANCE = 1e-3  # mm, of each entry


@dataclass
class FileReport:
    """What the check found: lesion share (0..1) by label path, and warnings."""

    lesion_share: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_files(items: Sequence[dict[str, Any]], value_map: ValueMap | None = None) -> FileReport:
    """Decode every image and mask of `items` once.

    A truncated JPEG has a perfect header, so images are decoded in full; the fingerprints made on the way are kept for
    the leak check and the manifest. An all-lesion mask is a warning.
    Raises DatasetError with all unreadable files, all masks of another size than their image, all label volumes of
    another affine than their volume of intensities, ten by name, and two masks that mark lesion by different values.
    """
    images = map_files(fingerprint, (item["image"] for item in items), "checking images")
    labels = [item["label"] for item in items if "label" in item]
    mined = [item["pseudo_label"] for item in items if "pseudo_label" in item]
    masks = map_files(lambda path: _measure(path, value_map), labels, "checking masks")
    masks |= map_files(lambda path: _measure(path, None), mined, "checking pseudo-labels")  # never of value_map
    errors = [_text(path, found) for path, found in {**images, **masks}.items() if isinstance(found, Exception)]
    for item, key in ((item, key) for item in items for key in MASKS if key in item):
        image, mask = images[item["image"]], masks[item[key]]
        if isinstance(image, Fingerprint) and isinstance(mask, _Measured) and mask.shape != (image.height, image.width):
            errors.append(
                f"{item[key]}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels (width x height), its image "
                f"{item['image']} is {image.width}x{image.height}; export the mask at the image's size"
            )
    good = [item for item in items if isinstance(masks.get(item.get("label", "")), _Measured)]
    errors += _other_affines([item for item in good if isinstance(images[item["image"]], Fingerprint)])
    errors += _other_marks({item["label"]: masks[item["label"]].mark for item in good})
    errors = list(dict.fromkeys(errors))  # that of a label volume is the same for all its frames
    if errors:
        raise DatasetError(f"{len(errors)} files cannot be used; mend or remove them:{listing(errors)}")
    report = FileReport({path: found.share for path, found in masks.items() if isinstance(found, _Measured)})
    if full := [path for path, share in report.lesion_share.items() if share == 1.0]:
        report.warnings.append(f"{len(full)} masks are lesion all over, is that meant?{listing(full)}")
    for warning in report.warnings:
        logger.warning(warning)
    return report


def _other_marks(marks: dict[str, LesionMark | None]) -> list[str]:
    """Classes that are never in one file, each a value of its own, would pass for one lesion."""
    pair = differing_marks(marks)
    if pair is None:
        return []
    one, two = (marks[path].value for path in pair)
    return [
        f"{pair[1]}: lesion has the value {two}, in {pair[0]} it has {one}: are these classes? Say which are lesion by "
        f'a value_map such as {{"0": 0, "{min(one, two)}": 1, "{max(one, two)}": 1}}, or save the masks with 0 and 255'
    ]


def _other_affines(items: Sequence[dict[str, Any]]) -> list[str]:
    """What scanners write, and programs that resample, has a meaning; affines of RGB pictures are made up."""
    files = (tuple(str(split_address(item[key])[0]) for key in ("image", "label")) for item in items)
    found = map_files(_affine_difference, (pair for pair in files if all(map(is_volume, pair))), "comparing affines")
    return [str(answer) for answer in found.values() if answer]


def _affine_difference(files: tuple[str, str]) -> str | None:
    image, label = files
    if not getattr(open_media(image), "scalar", False):
        return None
    one, two = read_affine(image), read_affine(label)
    far = np.argwhere(np.abs(one - two) > AFFINE_TOLERANCE)
    if not len(far):
        return None
    row, column = far[0]
    return (
        f"{label}: its affine differs from that of its image {image}, first at row {row}, column {column}: "
        f"{two[row, column]:g}, the image has {one[row, column]:g} (mm, tolerance {AFFINE_TOLERANCE:g}); resample the "
        "label to its image, or, if their voxels do match, save it with the image's header"
    )


class _Measured(NamedTuple):
    shape: tuple[int, ...]  # (H, W)
    share: float  # of lesion, 0..1
    mark: LesionMark | None


def _measure(path: str, value_map: ValueMap | None) -> _Measured:
    mask, mark = read_marked_mask(path) if value_map is None else (read_mask(path, value_map), None)
    return _Measured(mask.shape, np.count_nonzero(mask) / mask.size, mark)


def _text(path: str, error: Exception) -> str:
    """The error's message, which must name the file: Python's own OSErrors (permissions) may not."""
    return str(error) if str(split_address(path)[0]) in str(error) else f"{path}: {error}"
