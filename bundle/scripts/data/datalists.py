"""dataset_dir and a few numbers -> the four sections a run works on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from scripts.data.checks import FileReport, check_files
from scripts.data.dataset_root import dataset_root
from scripts.data.errors import DatasetError
from scripts.data.expansion import FRAMES_PER_SECOND, NEAR_DUPLICATE, expand_media
from scripts.data.layouts import Item, read_dataset
from scripts.data.manifest import write_manifest
from scripts.data.processes import rank
from scripts.data.sections import UnlabeledData, check_shares, divide, unlabeled_items, without, without_leaks
from scripts.data.splits import PARTS
from scripts.io.mask_reader import ValueMap


def build_datalists(
    dataset_dir: str | os.PathLike[str] | None,
    label_fraction: float = 1.0,
    seed: int = 0,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    unlabeled_data: UnlabeledData = True,
    manifest_path: str | os.PathLike[str] | None = None,
    sample_dir: str | os.PathLike[str] | None = None,
    value_map: ValueMap | None = None,
    classes: Sequence[str] = ("background", "lesion"),
    video_frames_per_second: float = FRAMES_PER_SECOND,
    near_duplicate: float = NEAR_DUPLICATE,
    masks_needed: bool = True,
    stable_split: bool = False,
    severity_too: bool = False,
) -> dict[str, list[Item]]:
    """Read, check, split and record a dataset -> {"training", "unlabeled", "validation", "test"}: lists of items.

    dataset_dir: a folder or datalist JSON as read_dataset takes; None or "" for the folder that the environment
        variable MONAI_LABEL_STUDIES names (MONAI Label's own app trains on its studies so), else the built-in sample in
        `sample_dir`.
    label_fraction: share (0, 1] of the training images whose masks are used; nested for one seed.
    split: training, validation, test shares of the labelled images; sections that a datalist gives are kept.
    unlabeled_data: True: frames without mask, unlabeled/, and the training images beyond label_fraction; False: none;
        "images": these without unlabeled/; a path, or a list of them: folders of more frames, in addition.
    manifest_path: where to write manifest.json (by rank 0 only).
    value_map: {pixel value: class} of the masks, see read_mask; None = binary masks.
    classes: names of the classes, the place is the class index.
    video_frames_per_second, near_duplicate: which frames of videos become unlabelled items, see expand_media.
    stable_split: a frame's part follows from the name of its group, and stays as masks are added, see split_by_name.
    masks_needed: False: a data set may be without any mask; all its frames are then unlabelled.
    severity_too: keep a datalist's "severity"; frames with and without one make no batch.

    Raises DatasetError, LeakError or MediaError, naming files and cure, before anything is written.
    """
    check_shares(split, label_fraction)
    check_classes(value_map, classes)
    root, sample = dataset_root(dataset_dir, sample_dir)
    thinning = {"frames_per_second": video_frames_per_second, "near_duplicate": near_duplicate}
    found = expand_media(read_dataset(root, masks_needed), **thinning)
    labelled = [item for item in found["pool"] if "label" in item]
    unlabeled = unlabeled_items(found, "label", unlabeled_data, root, thinning)
    given = {name: found[name] for name in ("validation", "test") if found.get(name)}
    report = check_files([*labelled, *(item for items in given.values() for item in items), *unlabeled], value_map)

    if labelled or masks_needed:
        sections = divide(
            *(labelled, given, unlabeled, "label", lambda items: _strata(items, report)),
            *(split, label_fraction, seed, stable_split),
        )
    else:
        sections = {"training": [], "unlabeled": unlabeled, "validation": [], "test": [], **given}
    if unlabeled_data is False:
        sections["unlabeled"] = []
    if not severity_too:
        sections = {name: [without(item, "severity") for item in items] for name, items in sections.items()}
    sections, warnings = without_leaks(sections)
    if manifest_path is not None and rank() == 0:
        write_manifest(
            manifest_path,
            sections,
            dataset_dir=root,
            seed=seed,
            label_fraction=label_fraction,
            split=dict(zip(PARTS, map(float, split), strict=True)),
            sample=sample,
            warnings=[*report.warnings, *warnings],
        )
    return sections


def check_classes(value_map: ValueMap | None, classes: Sequence[str]) -> None:
    """Raise DatasetError unless value_map (None: binary masks, classes 0 and 1) gives classes that have a name."""
    named = dict.fromkeys((0, 1)) if value_map is None else {int(index) for index in value_map.values()}
    if unnamed := sorted(index for index in named if not 0 <= index < len(classes)):
        raise DatasetError(
            f"value_map {value_map} has class {unnamed[0]}, classes {list(classes)} names {len(classes)} (0 to "
            f"{len(classes) - 1}); name every class in `classes`, background first"
        )
    if missing := [name for index, name in enumerate(classes) if index not in named]:
        raise DatasetError(
            f"no mask can hold the class {missing[0]!r} of classes {list(classes)}: value_map is {value_map}"
            f"{', which means binary masks' if value_map is None else ''}; give a value_map such as "
            f"{ {str(index): index for index in range(len(classes))} }, or leave the class out"
        )


def _strata(items: Sequence[Item], report: FileReport) -> list[bool]:
    """Has the item's mask any lesion?"""
    return [report.lesion_share[item["label"]] > 0 for item in items]
