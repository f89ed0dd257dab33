"""Addresses of frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.frame_address import join_address, split_address


@pytest.mark.parametrize("index", [0, 12, 123456])
@pytest.mark.parametrize("path", ["clip.mp4", "/a b/Größe #1.mp4", "x#y.dcm"])
def test_round_trip(path: str, index: int) -> None:
    assert join_address(path, index) == f"{path}#{index}"
    assert split_address(join_address(path, index)) == (Path(path), index)


@pytest.mark.parametrize("text", ["a.png", "clip.mp4#", "clip.mp4#x", "clip.mp4#-1", "#3"])
def test_no_frame_is_named(text: str) -> None:
    assert split_address(text) == (Path(text), None)


def test_a_file_of_that_name_wins(tmp_path: Path) -> None:
    assert split_address(tmp_path / "polyp#2") == (tmp_path / "polyp", 2)
    (tmp_path / "polyp#2").touch()
    assert split_address(tmp_path / "polyp#2") == (tmp_path / "polyp#2", None)


def test_negative_frames() -> None:
    with pytest.raises(ValueError, match=r"clip\.mp4: frame -1"):
        join_address("clip.mp4", -1)
