"""Labelled and unlabelled items -> training, unlabeled, validation and test, without leaks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import torch.distributed as dist

from scripts.data.errors import DatasetError
from scripts.data.expansion import expand_media
from scripts.data.layouts import Item, read_unlabeled_folder
from scripts.data.leaks import check_groups, check_leaks
from scripts.data.manifest import count_sections
from scripts.data.splits import PARTS, check_fractions, label_subset, split_by_group, split_by_name

logger = logging.getLogger(__name__)

TOLD_BY = {"label": "masks", "severity": "a severity"}
#: keys of a frame's mined mask, which pseudo_labels.json alone reads; frames with and without one make no batch
PSEUDO = ("pseudo_label", "weight")
Strata = Callable[[Sequence[Item]], Sequence[Hashable]]
#: word for ``unlabeled_data``: no other frames than those among which there are masks
IMAGES_ALONE = "images"
UnlabeledData = bool | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def check_shares(split: Sequence[float], label_fraction: float) -> None:
    """Raise DatasetError unless these are shares of a split and of its labels."""
    check_fractions(split)
    if not 0 < label_fraction <= 1:
        raise DatasetError(
            f"label_fraction is {label_fraction}; expected a number above 0 and up to 1, e.g. 0.1 for 10 %"
        )


def divide(
    labelled: list[Item],
    given: dict[str, list[Item]],
    unlabeled: list[Item],
    told: str,
    strata: Strata,
    split: Sequence[float],
    label_fraction: float,
    seed: int,
    stable: bool = False,
) -> dict[str, list[Item]]:
    """The four sections; training items beyond `label_fraction` are unlabelled and lose what they are told by.

    Args:
        labelled: the pool that is split. given: sections that stay as they are.
        told: key of an item's "label" or "severity". strata: one value an item, spread in the same proportions.
        split: training, validation, test; shares of given sections fall to nobody. stable: see split_by_name.
    """
    sections = {**_split(labelled, given, split, seed, None if stable else strata), **given}
    subset = label_subset(sections["training"], label_fraction, seed, strata(sections["training"]))
    chosen = {item["image"] for item in subset}
    rest = [without(item, told) for item in sections["training"] if item["image"] not in chosen]
    sections["training"] = subset
    sections["unlabeled"] = sorted(rest + unlabeled, key=lambda item: item["file"])
    return sections


def without_leaks(sections: dict[str, list[Item]], told: str = "label") -> tuple[dict[str, list[Item]], list[str]]:
    """The sections, in their order, without pictures and groups that are on two sides; and what was left out.

    Raises LeakError; DatasetError where a process would have nothing to measure.
    """
    sections, of_groups = check_groups(sections)
    sections, of_pictures = check_leaks(sections)
    sections = {name: sections[name] for name in ("training", "unlabeled", "validation", "test")}
    for name, numbers in count_sections(sections, told).items():
        logger.info("%s: %d images in %d groups, %d with %s", name, *numbers.values(), TOLD_BY[told])
    _check_enough_for_all(sections)
    return sections, [*of_groups, *of_pictures]


def unlabeled_items(
    found: dict[str, list[Item]],
    told: str,
    unlabeled_data: UnlabeledData,
    root: Path,
    thinning: dict[str, float],
) -> list[Item]:
    """Items without `told` ("label" or "severity"): of the dataset, and of the folder or folders `unlabeled_data`.

    With IMAGES_ALONE those of unlabeled/ are left out: frames of another kind than the labelled ones can do harm.
    A file that is met again is taken once.
    """
    if unlabeled_data is False:
        return []
    items = [item for item in found["pool"] if told not in item]
    if unlabeled_data == IMAGES_ALONE:
        return items
    items += [item for item in found.get("unlabeled", []) if told not in item]
    if unlabeled_data is True:
        return items
    folders = [unlabeled_data] if isinstance(unlabeled_data, (str, os.PathLike)) else unlabeled_data
    for folder in folders:
        known = {item["image"] for item in items}
        extra = expand_media({"unlabeled_data": read_unlabeled_folder(folder, root)}, **thinning)
        items += [item for item in extra["unlabeled_data"] if item["image"] not in known]
    return items


def _split(
    labelled: list[Item], given: dict[str, list[Item]], split: Sequence[float], seed: int, strata: Strata | None
) -> dict[str, list[Item]]:
    """Split the labelled pool; shares of sections that are given fall to nobody, the others keep their proportions.

    Without strata by the groups' names alone.
    """
    shares = [0.0 if part in given else float(split[k]) for k, part in enumerate(PARTS)]
    if shares[1] == shares[2] == 0:
        return {"training": labelled, "validation": [], "test": []}
    fractions = [share / sum(shares) for share in shares]
    if strata is None:
        return split_by_name(labelled, fractions, seed)
    return split_by_group(labelled, fractions, seed, strata(labelled))


def unlabeled_stream(sections: dict[str, list[Item]], labeled_too: bool = False) -> list[Item]:
    """What the objective on unlabelled frames sees; `labeled_too`: the training frames without their masks as well.

    FixMatch (Sohn et al. 2020) has all labelled frames among the unlabelled ones. Masks that were mined are left out.
    """
    seen = [*sections["unlabeled"], *(sections["training"] if labeled_too else ())]
    return [without(item, "label", *PSEUDO) for item in seen]


def without(item: Item, *keys: str) -> Item:
    """The item without these keys."""
    return {name: value for name, value in item.items() if name not in keys}


def _check_enough_for_all(sections: dict[str, list[Item]]) -> None:
    """Every process must have a frame of validation and test: one without would leave the others waiting for it."""
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    for name in ("validation", "test"):
        if 0 < len(sections[name]) < world:
            raise DatasetError(
                f"{name} has {len(sections[name])} images for {world} processes; expected at least one for each: start "
                "fewer processes, or give it more frames (--split)"
            )
