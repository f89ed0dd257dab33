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
from scripts.data.groups import GROUP_COLUMNS, check_rows, find_rows, read_column, without_suffix

logger = logging.getLogger(__name__)

TABLE = "severity.csv"  # in a dataset folder
COLUMNS = ("severity", "grade")  # the first that the header has
FOLDERS = ("images", "unlabeled", "unlabelled")  # of a dataset folder; a table may leave them out
HEALTHY = 0.0
Needs = Literal["order", "grades", "pictures"]
_GIVE = (
    f"give each picture a `severity` in the datalist, or a row in {TABLE} or the --severity_table (columns file, "
    "severity, and group or patient), 0 = healthy"
)


def add_severities(
    sections: Mapping[str, Sequence[Item]], table: Path | None, explicit: bool = False
) -> tuple[dict[str, list[Item]], str]:
    """Items with "severity" where it is known, and in words where it is from.

    What the datalist says counts; else the rows of `table` (file, severity or grade). Its column of groups or patients,
    if it has one, goes before what else is known of groups. A file is named with or without its folder and extension.

    Args:
        explicit: the table was asked for by name.

    Raises DatasetError: see read_column; a severity that is no number from 0 up; a datalist's severities and a table
    that was asked for.
    """
    found = {name: list(section) for name, section in sections.items()}
    if any("severity" in item for section in found.values() for item in section):
        if explicit:
            raise DatasetError(
                f"the datalist has severities of its own, and severity_table {table} is given; remove one of the two"
            )
        for item in (item for section in found.values() for item in section if "severity" in item):
            _number(item["severity"], item["file"])
        return found, "the datalist"
    if table is None:
        return found, ""
    severities = _of_files(found, table, read_column(table, COLUMNS, empty=True), complain=True)
    groups = _of_files(found, table, read_column(table, GROUP_COLUMNS, optional=True, empty=True), complain=False)
    numbers = {file: _number(text, f"{table}: {file}") for file, text in severities.items()}
    told = {
        name: [_told(item, numbers.get(item["file"]), groups.get(item["file"])) for item in section]
        for name, section in found.items()
    }
    return told, table.name if numbers else ""


def _of_files(
    sections: Mapping[str, Sequence[Item]], table: Path, rows: dict[str, str], complain: bool
) -> dict[str, str]:
    """{"file" of an item: its value}. images/ first: a row of a bare name is of a picture there, if there is one."""
    values: dict[str, str] = {}
    used: set[str] = set()
    rest = dict(rows)
    for items in sections.values():
        by_folder: dict[str, dict[str, str]] = defaultdict(dict)
        for item in items:
            top, _, below = item["file"].partition("/")
            folder, file = (top, below) if below and top in FOLDERS else ("", item["file"])
            by_folder[folder][file] = item["file"]
        for folder, names in by_folder.items():
            found, keys = find_rows(rest, list(names), folder or table.parent.name)
            values |= {names[file]: value for file, value in found.items()}
            used |= keys
        rest = {key: value for key, value in rows.items() if without_suffix(key) not in used}
    files = [item["file"] for items in sections.values() for item in items]
    if complain and rows:
        check_rows(table, rows, used, files, table.parent.name)
        if missing := [file for file in files if file not in values]:
            logger.warning(
                "%s: no severity for %d pictures; they are ungraded:%s", table, len(missing), listing(missing)
            )
    return values


def area_severities(items: Sequence[Item], lesion_share: Mapping[str, float]) -> list[Item]:
    """Items with the share of the picture that is lesion (0..1) as severity, those that have a mask."""
    return [
        {**item, "severity": lesion_share[item["label"]]} if item.get("label") in lesion_share else item
        for item in items
    ]


def check_severities(
    items: Sequence[Item], needs: Needs, classes: Sequence[str] | None = None, among: str = "", cure: str = _GIVE
) -> None:
    """Raise DatasetError unless the graded ones of these pictures can teach what they are to teach.

    Args:
        needs: "order": healthy ones (severity 0), more than one severity, more than one patient; "grades": more than
            one severity; "pictures": nothing.
        classes: names of the grades 0, 1, ...: each severity must be one of them, and each must have pictures of at
            least two groups. None = severities are any numbers.
        among: which pictures they are, for the message. cure: what to do.
    """
    if needs == "pictures" and classes is None:
        return
    graded = [item for item in items if "severity" in item]
    if not graded:
        raise DatasetError(f"none of {len(items)} pictures{among} is graded; {cure}")
    counts = Counter(item["severity"] for item in graded)
    if len(counts) < 2:
        raise DatasetError(
            f"all {len(graded)} graded pictures{among} have the severity {next(iter(counts)):g}; expected at least two "
            f"severities; {cure}"
        )
    if needs == "order" and not counts[HEALTHY]:
        raise DatasetError(
            f"no picture{among} is healthy: the severities are {min(counts):g} to {max(counts):g}, 0 is missing, and "
            f"severity is measured as the distance from healthy ones; {cure}"
        )
    if needs == "order" and len({item["group"] for item in graded}) < 2:
        raise DatasetError(
            f"all {len(graded)} graded pictures{among} are of one patient, and severity is compared between patients; "
            f"{cure}"
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


def missing_grades(sections: Mapping[str, Sequence[Item]], classes: Sequence[str] | None) -> list[str]:
    """Warnings of grades that the split, or a share of the labels, leaves without pictures in a section."""
    warnings = []
    for name in ("training", "validation", "test"):
        found = {item["severity"] for item in sections[name]}
        if sections[name] and (gone := [title for grade, title in enumerate(classes or []) if grade not in found]):
            warnings.append(f"no picture of the grade {', '.join(gone)} in {name}")
    for warning in warnings:
        logger.warning(warning)
    return warnings


def _told(item: Item, severity: float | None, group: str | None) -> Item:
    found = dict(item)
    if severity is not None:
        found["severity"] = severity
    if group is not None:
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
