"""CSV tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.table import Table


def test_table(tmp_path: Path) -> None:
    table = Table(("file", "share"))
    table.add(file='a "b", ü.png', share=1 / 3)
    table.add(file="c", share=None)
    table.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == 'file,share\n"a ""b"", ü.png",0.333333\nc,\n'
    with pytest.raises(ValueError, match="expected"):
        table.add(file="d")


def test_names_that_are_no_utf8_are_written_all_the_same(tmp_path: Path) -> None:
    table = Table(("file",))
    table.add(file=b"m\xfcller.png".decode("utf-8", "surrogateescape"))
    table.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == "file\nm\\udcfcller.png\n"
