"""The record beside each output."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy
import pydicom
import pytest

from scripts.io import provenance
from scripts.io.errors import MediaError
from scripts.io.provenance import NOT_INSTALLED, Provenance, file_sha256, hash_config, package_versions
from scripts.io.writers import OutputError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of "abc", FIPS 180-2


@pytest.fixture
def run() -> Provenance:
    return Provenance("0.3.0", "ab" * 32, "cd" * 32, 0.5, 1.3, {"flip": True})


def test_record_beside_an_output(tmp_path: Path, run: Provenance) -> None:
    (tmp_path / "in").mkdir()
    frame, mask = tmp_path / "in" / "Bild 1 ü.png", tmp_path / "out" / "Bild 1 ü.png"
    mask.parent.mkdir()
    frame.write_bytes(b"abc")
    mask.write_bytes(b"mask")
    written = run.write_beside(mask, frame)
    assert written == tmp_path / "out" / "Bild 1 ü.png.json"
    text = written.read_text(encoding="utf-8")
    assert str(tmp_path) not in text  # names, no folders
    record = json.loads(text)
    assert record["inputs"] == [{"name": "Bild 1 ü.png", "sha256": ABC}]
    assert record["output"] == {"name": "Bild 1 ü.png", "sha256": hashlib.sha256(b"mask").hexdigest()}
    assert record["bundle_version"] == "0.3.0" and record["weights_sha256"] == "ab" * 32
    assert record["config_sha256"] == "cd" * 32
    assert (record["threshold"], record["temperature"], record["settings"]) == (0.5, 1.3, {"flip": True})
    date = datetime.fromisoformat(record["date"])
    assert date.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - date) < timedelta(minutes=5)
    assert record["versions"]["python"] == platform.python_version()
    assert record["versions"]["numpy"] == numpy.__version__
    assert record["versions"]["pydicom"] == pydicom.__version__
    assert set(record["versions"]) == {"python", "torch", "monai", "pydicom", "highdicom", "av", "numpy"}


def test_several_inputs_and_frames(tmp_path: Path, run: Provenance) -> None:
    for name in ("a.png", "clip.mp4", "out.mp4"):
        (tmp_path / name).write_bytes(b"abc")
    record = run.record(tmp_path / "out.mp4", [tmp_path / "a.png", f"{tmp_path}/clip.mp4#12"])
    assert record["inputs"] == [{"name": "a.png", "sha256": ABC}, {"name": "clip.mp4", "sha256": ABC, "frame": 12}]
    json.dumps(record)


def test_a_package_that_is_not_there_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("numpy", "no-such-package-anywhere"))
    package_versions.cache_clear()
    try:
        assert package_versions()["no-such-package-anywhere"] == NOT_INSTALLED
    finally:
        package_versions.cache_clear()


def test_hash_of_a_configuration() -> None:
    by_hand = hashlib.sha256('{"a":[1,2.5],"ü":{"x":null,"y":true}}'.encode()).hexdigest()
    assert hash_config({"ü": {"y": True, "x": None}, "a": [1, 2.5]}) == by_hand
    assert hash_config({"a": 1}) != hash_config({"a": 2})
    for bad in (float("nan"), object()):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            hash_config({"a": bad})


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"abc")
    provenance._file_sha256.cache_clear()
    assert file_sha256(path) == file_sha256(path) == ABC
    assert provenance._file_sha256.cache_info().misses == 1
    path.write_bytes(b"abd")  # same size
    os.utime(path, ns=(0, 1))
    assert file_sha256(path) == hashlib.sha256(b"abd").hexdigest()


def test_known_hash_is_believed(tmp_path: Path, run: Provenance) -> None:
    (tmp_path / "mask.png").write_bytes(b"mask")
    written = run.write_beside(tmp_path / "mask.png", tmp_path / "gone.png", input_sha256=ABC)
    assert json.loads(written.read_text())["inputs"] == [{"name": "gone.png", "sha256": ABC}]


def test_errors_name_the_file(tmp_path: Path, run: Provenance) -> None:
    (tmp_path / "mask.png").write_bytes(b"mask")
    with pytest.raises(MediaError, match="gone.png: cannot be read"):
        run.write_beside(tmp_path / "mask.png", tmp_path / "gone.png")
    (tmp_path / "mask.png.json").mkdir()
    with pytest.raises(OutputError, match="mask.png.json: cannot be written"):
        run.write_beside(tmp_path / "mask.png", tmp_path / "mask.png")
