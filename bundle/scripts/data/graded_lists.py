"""dataset_dir of graded pictures -> the four sections a run on severity works on."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from scripts.data.checks import check_files
from scripts.data.dataset_root import dataset_root
from scripts.data.errors import DatasetError, listing
from scripts.data.expansion import FRAMES_PER_SECOND, NEAR_DUPLICATE, expand_media
from scripts.data.layouts import Item, read_dataset
from scripts.data.manifest import write_manifest
from scripts.data.processes import rank
from scripts.data.sections import PSEUDO, UnlabeledData, check_shares, divide, unlabeled_items, without, without_leaks
from scripts.data.severities import TABLE, Needs, add_severities, area_severities, check_severities, missing_grades
from scripts.data.splits import PARTS
from scripts.io.mask_reader import ValueMap

logger = logging.getLogger(__name__)

MOST_GRADES = 10  # different severities; more are spread over the sections as healthy and not
OTHER_SHARES = "raise label_fraction or the first share of split, or take another seed"
AREA = "no picture is graded: severity is the share of the picture that is lesion, 0 = healthy"


def build_graded_lists(
    dataset_dir: str | os.PathLike[str] | None,
    severity_table: str | os.PathLike[str] = "",
    needs: Needs = "order",
    grades: Sequence[str] | None = None,
    label_fraction: float = 1.0,
    seed: int = 0,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    unlabeled_data: UnlabeledData = True,
    manifest_path: str | os.PathLike[str] | None = None,
    sample_dir: str | os.PathLike[str] | None = None,
    value_map: ValueMap | None = None,
    video_frames_per_second: float = FRAMES_PER_SECOND,
    near_duplicate: float = NEAR_DUPLICATE,
    stable_split: bool = False,
) -> dict[str, list[Item]]:
    """Read, check, split and record pictures by severity -> {"training", "unlabeled", "validation", "test"}.

    Items hold "severity", 0 = healthy, those of "unlabeled" do not; masks are left out. Where no picture is graded, and
    there are masks, severity is the lesion's share of the picture; that stands in the manifest's warnings.

    severity_table: CSV with the columns file, severity (or grade) and, where it is known, group (or patient); "" = the
        severity.csv of dataset_dir, if there is one. A datalist's own "severity" goes before.
    needs: what the training pictures must have, see check_severities.
    grades: names of the grades 0, 1, ...; None = severities may be any numbers.
    label_fraction: share (0, 1] of the training pictures whose severity is used; nested for one seed.
    dataset_dir, seed, split, unlabeled_data, manifest_path, sample_dir, value_map, video_frames_per_second,
        near_duplicate, stable_split: as in build_datalists.

    Raises DatasetError, LeakError or MediaError, naming files and cure, before anything is written.
    """
    check_shares(split, label_fraction)
    root, sample = dataset_root(dataset_dir, sample_dir)
    thinning = {"frames_per_second": video_frames_per_second, "near_duplicate": near_duplicate}
    found, source = add_severities(
        read_dataset(root, masks_needed=False), _table(root, severity_table), bool(severity_table)
    )
    found = expand_media(found, **thinning)
    by_area = not source and any("label" in item for item in found["pool"])
    told = "label" if by_area else "severity"
    # A picture without a mask is among the unlabelled of a datalist, and may be graded all the same.
    graded = [item for item in [*found["pool"], *found.get("unlabeled", [])] if told in item]
    ungraded = unlabeled_items(found, told, unlabeled_data, root, thinning)
    given = {name: found[name] for name in ("validation", "test") if found.get(name)}
    if needs != "pictures":
        _check_given(given, told)
    every = [*graded, *(item for items in given.values() for item in items), *ungraded]
    report = check_files(every if by_area else [without(item, "label") for item in every], value_map)
    warnings = list(report.warnings)
    if by_area:
        graded = area_severities(graded, report.lesion_share)
        given = {name: area_severities(items, report.lesion_share) for name, items in given.items()}
        logger.warning(AREA)
        warnings.append(AREA)
    else:
        logger.info("severity is from %s", source or "nowhere: no picture is graded")

    # The whole pool first: what the data lack is another fault than what a small share of them lacks.
    every = [*graded, *(item for items in given.values() for item in items), *ungraded]
    check_severities(every, needs, grades)
    if graded:
        # By the area of masks the split is that of build_datalists: a segmentation starts from what is learnt here.
        strata = _diseased if by_area else _grade
        divided = divide(graded, given, ungraded, "severity", strata, split, label_fraction, seed, stable_split)
    else:
        others = [item for item in ungraded if item not in found["pool"]]
        divided = {"training": found["pool"], "unlabeled": others, "validation": [], "test": [], **given}
    if needs != "pictures":
        check_severities(divided["training"], needs, among=" in training", cure=OTHER_SHARES)
        warnings += missing_grades(divided, grades)
        if unlabeled_data is False:
            divided["unlabeled"] = []
    sections, left_out = without_leaks(
        {name: [without(item, "label", *PSEUDO) for item in items] for name, items in divided.items()}, "severity"
    )
    if needs == "pictures":
        # Who is graded makes no difference: the same pictures, in the same order, for any label_fraction. Only now:
        # ungraded pictures of a patient who is held out are left out, graded ones would be refused.
        pooled = sorted([*sections["training"], *sections["unlabeled"]], key=lambda item: (item["file"], item["image"]))
        sections |= {"training": pooled, "unlabeled": []}
    if manifest_path is not None and rank() == 0:
        write_manifest(
            manifest_path,
            sections,
            dataset_dir=root,
            seed=seed,
            label_fraction=label_fraction,
            split=dict(zip(PARTS, map(float, split), strict=True)),
            sample=sample,
            warnings=[*warnings, *left_out],
            told="severity",
        )
    return sections


def _check_given(given: dict[str, list[Item]], told: str) -> None:
    if missing := [f"{name}: {item['file']}" for name, items in given.items() for item in items if told not in item]:
        raise DatasetError(
            f"{len(missing)} pictures of validation or test are not graded; figures need a severity, or move them to "
            f"unlabeled:{listing(missing)}"
        )


def _grade(items: Sequence[Item]) -> list[float]:
    found = [item["severity"] for item in items]
    return found if len(set(found)) <= MOST_GRADES else _diseased(items)


def _diseased(items: Sequence[Item]) -> list[bool]:
    return [item["severity"] > 0 for item in items]


def _table(root: Path, given: str | os.PathLike[str]) -> Path | None:
    if not given:
        own = (root if root.is_dir() else root.parent) / TABLE
        return own if own.is_file() else None
    path = Path(os.path.expanduser(given))
    if not path.is_file():
        raise DatasetError(f"severity_table {path} does not exist; give a CSV with the columns file and severity")
    return path
