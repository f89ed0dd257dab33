"""A CSV table, written whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.io.writers import write_bytes


class Table:
    """Rows of a CSV file, written at once; shares and scores with six digits, None as an empty cell."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Add one row.

        Raises:
            ValueError: a column is missing or unknown.
        """
        if set(row) != set(self.columns):
            raise ValueError(f"row has columns {sorted(row)}, expected {sorted(self.columns)}.")
        self.rows.append(row)

    def write(self, path: str | Path) -> None:
        r"""Write header and rows, in the order they were added, to ``path`` in UTF-8; other bytes of names as \udcff.

        Raises:
            OutputError: it cannot be written.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: f"{cell:.6f}" if isinstance(cell, float) else cell for name, cell in row.items()})
        write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))
