"""Made-up geometry as a person asks for it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from make_dicom import pictures, write_dicom, write_video_dicom
from pydicom import dcmread

from scripts.engines.overrides import UnknownOverrideError
from scripts.io.errors import MediaError
from scripts.io.writers import OutputError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two pictures."""
    (tmp_path / "in").mkdir()
    for number in (1, 2):
        write_dicom(tmp_path / "in" / f"{number}.dcm", pictures())
    return tmp_path / "in"


def test_copies_with_geometry(run_config: Any, archive: Path, tmp_path: Path, capfd: Any) -> None:
    run_config("add_geometry", dataset_dir=str(archive), output_dir=str(tmp_path / "out"), spacing_mm=2)
    for path in archive.iterdir():
        copy = dcmread(tmp_path / "out" / path.name)
        assert copy.PixelSpacing == [2, 2] and copy.PixelData == dcmread(path).PixelData
    assert not (tmp_path / "out" / "failures.csv").exists()
    assert "SECRET" not in "".join(capfd.readouterr())


def test_what_is_left_out_shows_in_table_and_exit_code(run_config: Any, archive: Path, tmp_path: Path) -> None:
    write_video_dicom(archive / "3.dcm", pictures(8, 64, 64))
    with pytest.raises(SystemExit) as stop:
        run_config("add_geometry", dataset_dir=str(archive), output_dir=str(tmp_path / "out"))
    assert stop.value.code == 3 and len(list((tmp_path / "out").glob("*.dcm"))) == 2
    with (tmp_path / "out" / "failures.csv").open(encoding="utf-8") as file:
        failures = list(csv.DictReader(file))
    assert [row["file"] for row in failures] == ["3.dcm"] and "a video" in failures[0]["error"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dataset_dir": ""}, MediaError, "--dataset_dir"),
        ({"spacing_mm": 0}, MediaError, "spacing_mm is 0; expected millimetres, 0.001 to 1000"),
        ({"spacing_mm": "1,5"}, MediaError, "spacing_mm is '1,5'"),
        ({"output_dir": None}, OutputError, "inside the folder that is read"),
        ({"spacing": 2}, UnknownOverrideError, "did you mean --spacing_mm"),
    ],
)
def test_mistakes(run_config: Any, archive: Path, tmp_path: Path, changes: Any, error: type, message: str) -> None:
    settings = {"dataset_dir": str(archive), "output_dir": str(tmp_path / "out")} | changes
    settings["output_dir"] = settings["output_dir"] or str(archive / "out")
    with pytest.raises(error, match=message):
        run_config("add_geometry", **settings)
    assert not (tmp_path / "out").exists() and not (archive / "out").exists()
