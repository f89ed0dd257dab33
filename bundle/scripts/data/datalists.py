"""dataset_dir and a few numbers -> the four sections a run works on."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist

from scripts.data.checks import FileReport, check_files
from scripts.data.errors import DatasetError
from scripts.data.expansion import FRAMES_PER_SECOND, NEAR_DUPLICATE, expand_media
from scripts.data.layouts import Item, read_dataset, read_unlabeled_folder
from scripts.data.leaks import check_groups, check_leaks
from scripts.data.manifest import count_sections, write_manifest
from scripts.data.splits import PARTS, check_fractions, label_subset, split_by_group
from scripts.io.mask_reader import ValueMap

logger = logging.getLogger(__name__)

SAMPLE_DIR = "sample_dataset"  # below the working directory, when no sample_dir is given


def build_datalists(
    dataset_dir: str | os.PathLike[str] | None,
    label_fraction: float = 1.0,
    seed: int = 0,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    unlabeled_data: bool | str | os.PathLike[str] = True,
    manifest_path: str | os.PathLike[str] | None = None,
    sample_dir: str | os.PathLike[str] | None = None,
    value_map: ValueMap | None = None,
    classes: Sequence[str] = ("background", "lesion"),
    video_frames_per_second: float = FRAMES_PER_SECOND,
    near_duplicate: float = NEAR_DUPLICATE,
) -> dict[str, list[Item]]:
    """Read, check, split and record a dataset -> {"training", "unlabeled", "validation", "test"}: lists of items.

    dataset_dir: a folder or datalist JSON as read_dataset takes; None or "" for the folder that the environment
        variable MONAI_LABEL_STUDIES names (MONAI Label's own app trains on its studies so), else the built-in sample in
        `sample_dir`.
    label_fraction: share (0, 1] of the training images whose masks are used; nested for one seed.
    split: training, validation, test shares of the labelled images; sections that a datalist gives are kept.
    unlabeled_data: True: frames without mask, unlabeled/, and the training images beyond label_fraction; False: none;
        a path: a folder of more frames, in addition.
    manifest_path: where to write manifest.json (by rank 0 only).
    value_map: {pixel value: class} of the masks, see read_mask; None = binary masks.
    classes: names of the classes, the place is the class index.
    video_frames_per_second, near_duplicate: which frames of videos become unlabelled items, see expand_media.

    Raises DatasetError, LeakError or MediaError, naming files and cure, before anything is written.
    """
    check_fractions(split)
    check_classes(value_map, classes)
    if not 0 < label_fraction <= 1:
        raise DatasetError(
            f"label_fraction is {label_fraction}; expected a number above 0 and up to 1, e.g. 0.1 for 10 %"
        )
    dataset_dir = dataset_dir or studies_of_the_server()
    sample = not dataset_dir
    root = _make_sample(sample_dir or SAMPLE_DIR) if sample else Path(os.path.expanduser(str(dataset_dir)))
    thinning = {"frames_per_second": video_frames_per_second, "near_duplicate": near_duplicate}
    found = expand_media(read_dataset(root), **thinning)
    labelled = [item for item in found["pool"] if "label" in item]
    unlabeled = _unlabeled_items(found, unlabeled_data, root, thinning)
    given = {name: found[name] for name in ("validation", "test") if found.get(name)}
    report = check_files([*labelled, *(item for items in given.values() for item in items), *unlabeled], value_map)

    sections = {**_split(labelled, given, split, seed, report), **given}
    strata = _strata(sections["training"], report)
    subset = label_subset(sections["training"], label_fraction, seed, strata)
    chosen = {item["image"] for item in subset}
    rest = [_without_label(item) for item in sections["training"] if item["image"] not in chosen]
    sections["training"] = subset
    sections["unlabeled"] = [] if unlabeled_data is False else sorted(rest + unlabeled, key=lambda item: item["file"])

    sections, of_groups = check_groups(sections)
    sections, of_pictures = check_leaks(sections)
    sections = {name: sections[name] for name in ("training", "unlabeled", "validation", "test")}
    for name, numbers in count_sections(sections).items():
        logger.info("%s: %d images in %d groups, %d with masks", name, *numbers.values())
    _check_enough_for_all(sections)
    if manifest_path is not None and _rank() == 0:
        write_manifest(
            manifest_path,
            sections,
            dataset_dir=root,
            seed=seed,
            label_fraction=label_fraction,
            split=dict(zip(PARTS, map(float, split), strict=True)),
            sample=sample,
            warnings=[*report.warnings, *of_groups, *of_pictures],
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


def studies_of_the_server() -> str:
    """The folder that MONAI_LABEL_STUDIES names, "" where it is unset or no folder of this machine (a DICOMweb URL)."""
    studies = os.environ.get("MONAI_LABEL_STUDIES", "")
    if not studies or not Path(studies).is_dir():
        return ""
    logger.info("no dataset_dir given: using %s, the folder that MONAI_LABEL_STUDIES names", studies)
    return studies


def _unlabeled_items(
    found: dict[str, list[Item]],
    unlabeled_data: bool | str | os.PathLike[str],
    root: Path,
    thinning: dict[str, float],
) -> list[Item]:
    """Items without mask: those of the dataset, and those of the folder `unlabeled_data` unless already among them."""
    if unlabeled_data is False:
        return []
    items = [item for item in found["pool"] if "label" not in item] + found.get("unlabeled", [])
    if unlabeled_data is not True:
        known = {item["image"] for item in items}
        extra = expand_media({"unlabeled_data": read_unlabeled_folder(unlabeled_data, root)}, **thinning)
        items += [item for item in extra["unlabeled_data"] if item["image"] not in known]
    return items


def _split(
    labelled: list[Item], given: dict[str, list[Item]], split: Sequence[float], seed: int, report: FileReport
) -> dict[str, list[Item]]:
    """Split the labelled pool; shares of sections that are given fall to nobody, the others keep their proportions."""
    shares = [0.0 if part in given else float(split[k]) for k, part in enumerate(PARTS)]
    if shares[1] == shares[2] == 0:
        return {"training": labelled, "validation": [], "test": []}
    fractions = [share / sum(shares) for share in shares]
    return split_by_group(labelled, fractions, seed, _strata(labelled, report))


def _strata(items: Sequence[Item], report: FileReport) -> list[bool]:
    """Has the item's mask any lesion?"""
    return [report.lesion_share[item["label"]] > 0 for item in items]


def _without_label(item: Item) -> Item:
    return {key: value for key, value in item.items() if key != "label"}


def _make_sample(directory: str | os.PathLike[str]) -> Path:
    """Generate the sample set once; other ranks wait for the first."""
    from scripts.data.sample import make_sample_dataset  # only where it is wanted: it draws pictures

    logger.warning(
        "no dataset_dir given: using the built-in SAMPLE set of drawn frames in %s; its figures say nothing about "
        "endoscopy. Give your own data with --dataset_dir",
        directory,
    )
    together = dist.is_available() and dist.is_initialized()
    if together and _rank() != 0:
        dist.barrier()
    made = Path(make_sample_dataset(directory))
    if together and _rank() == 0:
        dist.barrier()
    return made


def _check_enough_for_all(sections: dict[str, list[Item]]) -> None:
    """Every process must have a frame of validation and test: one without would leave the others waiting for it."""
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    for name in ("validation", "test"):
        if 0 < len(sections[name]) < world:
            raise DatasetError(
                f"{name} has {len(sections[name])} images for {world} processes; expected at least one for each: start "
                "fewer processes, or give it more frames (--split)"
            )


def _rank() -> int:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", "0"))  # torchrun, before the process group is up
