"""How severe each picture is: from the datalist, a table, or the area of its lesion."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from scripts.data.errors import DatasetError, listing
from scripts.data.files import Item
from scripts.data.groups import GROUP_COLUMNS, match_rows, read_column

logger = logging.getLogger(__name__)

TABLE = "severity.csv"  # in a dataset folder
COLUMNS = ("severity", "grade")  # the first that the header has
HEALTHY = 0.0
Needs = Literal["order", "grades", "pictures"]
_GIVE = (
    f"give each picture a `severity` in the datalist, or a row in {TABLE} (columns file, severity, and group or "
    "patient), 0 = healthy"
)


def add_severities(sections: Mapping[str, Sequence[Item]], table: Path | None) -> tuple[dict[str, list[Item]], str]:
    """Items with "severity" where it is known, and in words where it is from.

    What the datalist says counts; else the rows of `table` (file, severity or grade), whose column of groups or
    patients, if it has one, gives their group to items that have none but their own file.

    Raises DatasetError: see read_column; a severity that is no number from 0 up.
    """
    items = [item for section in sections.values() for item in section]
    if any("severity" in item for item in items):
        source = "the datalist"
    elif table is not None:
        source = table.name
        files = [item["file"] for item in items]
        texts = match_rows(
            table, read_column(table, COLUMNS, empty=True), files, table.parent.name, "severity", "ungraded"
        )
        patients = read_column(table, GROUP_COLUMNS, optional=True, empty=True)
        groups = match_rows(table, patients, files, table.parent.name, "group", "its own group") if patients else {}
        numbers = {file: _number(text, f"{table}: {file}") for file, text in texts.items()}
        sections = {
            name: [_told(item, numbers.get(item["file"]), groups.get(item["file"])) for item in section]
            for name, section in sections.items()
        }
    else:
        source = ""
    for section in sections.values():
        for item in section:
            if "severity" in item:
                _number(item["severity"], item["file"])
    return {name: list(section) for name, section in sections.items()}, source


def area_severities(items: Sequence[Item], lesion_share: Mapping[str, float]) -> list[Item]:
    """Items with the share of the picture that is lesion (0..1) as severity, those that have a mask."""
    return [
        {**item, "severity": lesion_share[item["label"]]} if item.get("label") in lesion_share else item
        for item in items
    ]


def check_severities(items: Sequence[Item], needs: Needs, classes: Sequence[str] | None = None) -> None:
    """Raise DatasetError unless the graded ones of these pictures can teach what they are to teach.

    Args:
        needs: "order": healthy ones (severity 0) and more than one severity; "grades": more than one; "pictures":
            nothing.
        classes: names of the grades 0, 1, ...: each severity must be one of them, and each must have pictures of at
            least two groups. None = severities are any numbers.
    """
    if needs == "pictures" and classes is None:
        return
    graded = [item for item in items if "severity" in item]
    if not graded:
        raise DatasetError(f"none of {len(items)} pictures is graded; {_GIVE}")
    counts = Counter(item["severity"] for item in graded)
    if len(counts) < 2:
        raise DatasetError(
            f"all {len(graded)} graded pictures have the severity {next(iter(counts)):g}; expected at least two, of "
            f"which one is 0 = healthy; {_GIVE}"
        )
    if needs == "order" and not counts[HEALTHY]:
        raise DatasetError(
            f"no picture is healthy: the severities are {min(counts):g} to {max(counts):g}, 0 is missing; add pictures "
            "without lesion (severity 0, or an empty mask): severity is measured as the distance from them"
        )
    if classes is not None:
        _check_grades(graded, classes)


def _check_grades(graded: Sequence[Item], classes: Sequence[str]) -> None:
    if unknown := [item for item in graded if item["severity"] not in range(len(classes))]:
        lines = [f"{item['file']}: {item['severity']:g}" for item in unknown]
        raise DatasetError(
            f"{len(unknown)} pictures have a severity that is no grade of {list(classes)}, expected 0 to "
            f"{len(classes) - 1}; name all grades in --grades, healthy first:{listing(lines)}"
        )
    groups: dict[int, set[str]] = defaultdict(set)
    for item in graded:
        groups[int(item["severity"])].add(item["group"])
    if missing := [f"{grade} ({name})" for grade, name in enumerate(classes) if grade not in groups]:
        raise DatasetError(
            f"no picture has the grade {', '.join(missing)} of {list(classes)}; add pictures of it, or leave it out of "
            "--grades and number the others without a gap"
        )
    if single := [f"{grade} ({classes[grade]})" for grade in sorted(groups) if len(groups[grade]) < 2]:
        raise DatasetError(
            f"the grade {', '.join(single)} has pictures of fewer than two patients: none would be left to test on; "
            "add pictures of others, or join grades"
        )


def missing_in_subset(items: Sequence[Item], classes: Sequence[str] | None, fraction: float) -> list[str]:
    """Warnings of grades that a share of the labels leaves without pictures."""
    found = {item["severity"] for item in items}
    gone = [name for grade, name in enumerate(classes or []) if grade not in found]
    if not gone:
        return []
    warning = f"label_fraction {fraction:g} leaves no training picture of the grade {', '.join(gone)}"
    logger.warning(warning)
    return [warning]


def _told(item: Item, severity: float | None, group: str | None) -> Item:
    found = dict(item)
    if severity is not None:
        found["severity"] = severity
    if group is not None and item["group"] == item["file"]:
        found["group"] = group
    return found


def _number(value: str | float, where: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise DatasetError(f"{where}: severity is {value!r}; expected a number from 0 (healthy) up")
    return number
