"""De-identification as a person runs it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_sources import PATIENT, make_source
from pydicom import dcmread

from scripts.engines.overrides import UnknownOverrideError
from scripts.io.errors import MediaError
from scripts.io.writers import OutputError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two pictures of one patient."""
    folder = tmp_path / "Müller Änne"
    folder.mkdir()
    for number in range(2):
        source = make_source(np.full((1, 20, 30, 3), 200, np.uint8))
        source.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def test_copies_without_identity(run_config: Any, archive: Path, tmp_path: Path, capfd: Any) -> None:
    run_config("deidentify", dataset_dir=str(archive), output_dir=str(tmp_path / "out"), blackout=[[5, 2, 10, 4]])
    copies = [dcmread(path) for path in sorted((tmp_path / "out").glob("*.dcm"))]
    assert len(copies) == 2 and len({str(copy.PatientID) for copy in copies}) == 1
    for copy in copies:
        assert copy.PatientIdentityRemoved == "YES" and copy.BurnedInAnnotation == "YES"
        assert not {str(copy.PatientName), str(copy.PatientID)} & set(PATIENT.values())
        pixels = copy.pixel_array
        assert not pixels[2:6, 5:15].any() and (pixels[6:] == 200).all()
    with (tmp_path / "out" / "deidentified.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2
    printed = capfd.readouterr()
    assert "4711" not in printed.out + printed.err


def test_a_secret_file_gives_the_same_pseudonym_again(run_config: Any, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(16)))
    found = set()
    for name in ("a", "b"):
        settings = {"output_dir": str(tmp_path / name), "secret_file": str(tmp_path / "secret")}
        run_config("deidentify", dataset_dir=str(archive), **settings)
        found |= {str(dcmread(path).PatientID) for path in (tmp_path / name).glob("*.dcm")}
    assert len(found) == 1


@pytest.mark.parametrize(("secret", "message"), [(b"", "holds 0 bytes"), (b"k" * 15, "15 bytes"), (None, "not exist")])
def test_a_secret_that_hides_nothing(
    run_config: Any, archive: Path, tmp_path: Path, secret: bytes | None, message: str
) -> None:
    path = tmp_path / "secret"
    if secret is not None:
        path.write_bytes(secret)
    with pytest.raises(MediaError, match=f"{message}.*head -c 32"):
        run_config("deidentify", dataset_dir=str(archive), output_dir=str(tmp_path / "out"), secret_file=str(path))
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_left_out_shows_in_the_exit_code(run_config: Any, archive: Path, tmp_path: Path) -> None:
    (archive / "2.dcm").write_bytes((archive / "0.dcm").read_bytes()[:1500])
    with pytest.raises(SystemExit) as stop:
        run_config("deidentify", dataset_dir=str(archive), output_dir=str(tmp_path / "out"))
    assert stop.value.code == 3 and len(list((tmp_path / "out").glob("*.dcm"))) == 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dataset_dir": ""}, MediaError, "--dataset_dir"),
        ({"blackout": [[1, 2, 3]]}, MediaError, r"blackout has \[1, 2, 3\]; expected rectangles"),
        ({"output_dir": None}, OutputError, "inside the folder that is read"),
        ({"blackuot": []}, UnknownOverrideError, "did you mean --blackout"),
    ],
)
def test_mistakes(run_config: Any, archive: Path, tmp_path: Path, changes: Any, error: type, message: str) -> None:
    settings = {"dataset_dir": str(archive), "output_dir": str(tmp_path / "out")} | changes
    settings["output_dir"] = settings["output_dir"] or str(archive / "out")
    with pytest.raises(error, match=message):
        run_config("deidentify", **settings)
    assert not (tmp_path / "out").exists() and not (archive / "out").exists()
