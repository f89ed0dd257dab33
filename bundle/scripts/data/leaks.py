"""The same picture, or one group, on two sides of a split."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.data.errors import LeakError, listing
from scripts.data.fingerprints import fingerprint, map_files

logger = logging.getLogger(__name__)

Item = dict[str, Any]
_CURE = "give both the same group (groups.csv, or `group` in the datalist), or remove one"


def check_leaks(sections: Mapping[str, Sequence[Item]]) -> tuple[dict[str, list[Item]], list[str]]:
    """Compare pictures by their decoded pixels across training, unlabeled, validation and test.

    Returns (sections, warnings): an unlabelled picture that is also a labelled training one is left out, with a
    warning; one that occurs twice inside a section is kept, with a warning. Pictures of one single colour (slices
    beyond an organ, black frames of a video) are no evidence: they are not compared.
    Raises LeakError with both paths when a picture of validation or test is anywhere else, and when one file is listed
    twice in one of them: it can be measured once.
    """
    for name in ("validation", "test"):
        counts = Counter(item["file"] for item in sections.get(name, ()))
        if twice := [file for file, count in counts.items() if count > 1]:
            raise LeakError(
                f"{len(twice)} images are listed more than once in {name}, where each is measured once, against one "
                f"mask; keep one entry of each:{listing(twice)}"
            )
    paths = [item["image"] for items in sections.values() for item in items]
    prints = map_files(fingerprint, paths, "comparing images")
    for found in prints.values():
        if isinstance(found, Exception):
            raise found
    first: dict[str, tuple[str, Item]] = {}
    kept: dict[str, list[Item]] = {name: [] for name in sections}
    leaks, dropped, doubles = [], [], []
    # validation and test first: whatever meets one of their pictures later is a leak
    for name in sorted(sections, key=lambda name: ("validation", "test", "training", "unlabeled").index(name)):
        for item in sections[name]:
            if prints[item["image"]].blank:
                kept[name].append(item)
                continue
            where, other = first.setdefault(prints[item["image"]].pixels, (name, item))
            pair = f"{name}: {item['image']} = {where}: {other['image']}"
            if where == name:
                if other is not item:
                    doubles.append(pair)
            elif where in ("validation", "test"):
                leaks.append(pair)
                continue
            else:  # unlabeled meets training
                dropped.append(pair)
                continue
            kept[name].append(item)
    if leaks:
        raise LeakError(f"{len(leaks)} pictures are on two sides of the split; {_CURE}:{listing(leaks)}")
    warnings = []
    if dropped:
        warnings.append(f"{len(dropped)} unlabelled pictures left out, they are labelled ones:{listing(dropped)}")
    if doubles:
        warnings.append(f"{len(doubles)} pictures occur more than once in a section:{listing(doubles)}")
    for warning in warnings:
        logger.warning(warning)
    return kept, warnings


def check_groups(sections: Mapping[str, Sequence[Item]]) -> tuple[dict[str, list[Item]], list[str]]:
    """Hold groups together: the unlabelled frames of a validation or test group are left out, with a warning.

    They show the very patient, or scene, that is to be new to the network. Equal group names mean the same group,
    whichever file they come from.
    Raises LeakError when a group has labelled items in two of training, validation and test.
    """
    owner: dict[str, tuple[str, Item]] = {}
    divided = []
    for name in ("training", "validation", "test"):
        for item in sections.get(name, []):
            where, other = owner.setdefault(item["group"], (name, item))
            if where != name:
                divided.append(f"group {item['group']}: {where}: {other['image']} and {name}: {item['image']}")
    if divided:
        raise LeakError(
            f"groups are divided ({len(divided)} images); move each group into one section:{listing(divided)}"
        )
    held = {group for group, (name, _) in owner.items() if name != "training"}
    out = [item for item in sections.get("unlabeled", []) if item["group"] in held]
    kept = {name: list(items) for name, items in sections.items()}
    if not out:
        return kept, []
    kept["unlabeled"] = [item for item in sections["unlabeled"] if item["group"] not in held]
    warning = f"{len(out)} unlabelled images left out, their group is in validation or test:" + listing(
        [f"{item['file']} (group {item['group']})" for item in out]
    )
    logger.warning(warning)
    return kept, [warning]
