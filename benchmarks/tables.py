"""What all tables of the docs are made of: markdown, and means with their spread."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

Rows = list[dict[str, str]]


def kinds(rows: Rows, *names: str) -> list[tuple[str, ...]]:
    """The different values of these columns, in the order in which they come."""
    return list(dict.fromkeys(tuple(row[name] for name in names) for row in rows))


def having(rows: Rows, **values: str) -> Rows:
    """The rows that have these values, by seed."""
    found = [row for row in rows if all(row[name] == value for name, value in values.items())]
    return sorted(found, key=lambda row: int(row["seed"]))


def of_one_setting(rows: Rows, *names: str) -> None:
    """Seeds are averaged, settings are not: rows of trials go into a CSV of their own.

    Raises:
        ValueError: the rows have several values in these columns.
    """
    if len(found := kinds(rows, *names)) > 1:
        raise ValueError(f"the rows are of {len(found)} settings of {', '.join(names)}, expected one: {sorted(found)}")


def gains(own: Rows, others: Rows, name: str) -> list[float]:
    """By how much a figure lies above that of the others, for each seed that both have: same split, same labels."""
    theirs = {row["seed"]: float(row[name]) for row in others if row[name]}
    return [float(row[name]) - theirs[row["seed"]] for row in own if row[name] and row["seed"] in theirs]


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def mean_and_spread(values: Sequence[str], name: str = "", digits: int | None = None) -> str:
    """Mean ± standard deviation of the values that are there ("" is not); "–" of none.

    Args:
        name: of the figure; HD95 is in whole pixels.
        digits: behind the point; None = as the figure has it.
    """
    numbers = [float(value) for value in values if value]
    if not numbers:
        return "–"
    digits = (0 if name == "hd95" else 3) if digits is None else digits
    spread = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.{digits}f}{spread}"


def fill(document: Path, tables: Mapping[str, str]) -> None:
    """Put each table between its ``<!-- table NAME -->`` and the ``<!-- end -->`` behind it.

    Raises:
        ValueError: the document has no such place.
    """
    text = document.read_text()
    for name, table in tables.items():
        place = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{document}: no <!-- table {name} -->; expected one, with <!-- end -->")
        text = place.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    document.write_text(text)
