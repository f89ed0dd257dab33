"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.atomic import PARTIAL, remove_leftovers, replacing, write_text


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "last.pt"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        assert temporary.name.startswith(PARTIAL) and temporary.suffix == ".pt"
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    write_text(tmp_path / "metrics.csv", "epoch\n")
    (tmp_path / f"{PARTIAL}last-abc.pt").write_text("half")
    (tmp_path / ".hidden").write_text("somebody's")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "metrics.csv"]


def test_a_text_may_name_a_file_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "page.html", b"m\xfcller".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == r"m\udcfcller"
