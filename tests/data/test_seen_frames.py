"""A checkpoint is not measured on what it has learnt from."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from scripts.data.errors import LeakError
from scripts.data.manifest import KEYS
from scripts.data.seen_frames import follow_manifest, refuse_seen_frames, seen_frames
from scripts.reports.report import alerts
from scripts.reports.run_files import RunFiles


def write(folder: Path, **sections: str) -> Path:
    """A manifest of frames that are called after the section and hold the letters."""
    folder.mkdir()
    files = [
        {"section": name, "file": f"{name}/{letter}.png", "sha256": letter}
        for name, letters in sections.items()
        for letter in letters
    ]
    path = folder / "manifest.json"
    path.write_text(json.dumps(dict.fromkeys(KEYS, 0) | {"warnings": [], "files": files}))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "run", training="ab", validation="c", test="de", unlabeled="fg").with_name("model.pt")


def test_the_split_of_the_run_and_other_frames_are_measured(checkpoint: Path, tmp_path: Path) -> None:
    refuse_seen_frames(checkpoint, checkpoint.with_name("manifest.json"))
    refuse_seen_frames(checkpoint, write(tmp_path / "other", training="c", validation="x", test="yz"))
    refuse_seen_frames(checkpoint, write(tmp_path / "same_validation", validation="cd", test="e"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"test": "dbe"}, r"1 of 3 frames .*model.pt, so that .*\n  test/b.png, now test, was training\nMeasure it on"),
        ({"validation": "x", "test": "c"}, r"1 of 2 frames .*\n  test/c.png, now test, was validation"),
        ({"validation": "a", "test": "b"}, r"2 of 2 frames .*datalist JSON.*--allow_seen_frames True"),
    ],
)
def test_seen_frames_are_named_with_the_cure(
    sections: dict[str, str], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(LeakError, match=r"(?s)" + message):
        refuse_seen_frames(checkpoint, write(tmp_path / "out", **sections))


def test_seen_frames_are_measured_on_demand_and_logged(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        manifest = write(tmp_path / "out", test="a")
        refuse_seen_frames(checkpoint, manifest, allowed=True)
    assert "1 of 1 frames that are to be measured have trained" in caplog.text
    assert "--allow_seen_frames" not in caplog.text
    run = RunFiles(tmp_path, manifest=json.loads(manifest.read_text()))
    ((title, text, details),) = alerts(run)
    assert title == "Note" and text.startswith("1 of 1 frames") and details.startswith("test/a.png, now test, was")


def test_frames_seen_without_their_masks_are_warned_of(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = write(tmp_path / "out", test="fd")
    refuse_seen_frames(checkpoint, manifest)
    assert "1 frames of the test part were in training, without their masks" in caplog.text
    assert "without their masks" in json.loads(manifest.read_text())["warnings"][0]


def test_a_training_from_no_other_has_seen_nothing(tmp_path: Path) -> None:
    refuse_seen_frames("", tmp_path / "no manifest.json")


def test_without_the_manifest_of_its_run_that_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        refuse_seen_frames(tmp_path / "model.pt", write(tmp_path / "out", test="a"))
    assert "model.pt has no manifest.json beside it" in caplog.text


def test_the_other_processes_leave_it_to_the_first(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.data.seen_frames.rank", lambda: 1)
    refuse_seen_frames(checkpoint, write(tmp_path / "out", test="a"))


def rows(path: Path, *files: tuple[str, str, str, bool]) -> Path:
    """A manifest of (section, file, SHA-256, blank)."""
    path.parent.mkdir(exist_ok=True)
    found = [
        {"section": section, "file": file, "sha256": digest} | ({"blank": True} if blank else {})
        for section, file, digest, blank in files
    ]
    path.write_text(json.dumps(dict.fromkeys(KEYS, 0) | {"warnings": [], "files": found}))
    return path


def test_frames_of_a_file_are_told_apart_and_black_ones_not_compared(tmp_path: Path) -> None:
    manifest = rows(
        tmp_path / "run" / "manifest.json",
        *[("training", "clip.mp4#1", "clip", False), ("test", "clip.mp4#9", "clip", False)],
        *[("training", "black.png", "black", True), ("test", "dark.png", "black", True)],
    )
    checkpoint = manifest.with_name("model.pt")
    refuse_seen_frames(checkpoint, manifest)
    seen = rows(tmp_path / "out" / "manifest.json", ("test", "copy.mp4#1", "clip", False))
    with pytest.raises(LeakError, match=r"1 of 1 frames .*\n  copy.mp4#1, now test, was training"):
        refuse_seen_frames(checkpoint, seen)


def test_a_copied_checkpoint_has_the_manifest_of_its_own_name(checkpoint: Path, tmp_path: Path) -> None:
    """In one folder lie several: round_001.pt, round_002.pt, ..., each with its manifest."""
    folder = tmp_path / "rounds"
    write(folder, training="x")  # manifest.json, of neither
    follow_manifest(checkpoint.with_name("manifest.json"), folder / "round_001.manifest.json")
    measured = write(tmp_path / "out", validation="az")
    assert seen_frames(folder / "round_001.pt", measured) == ["validation/a.png, now validation, was training"]
    with pytest.raises(LeakError, match="1 of 2 frames"):
        refuse_seen_frames(folder / "round_001.pt", measured)
    assert seen_frames(folder / "round_002.pt", measured) == [], "without one of its name: manifest.json"


def test_weights_remember_what_trained_those_that_they_went_on_from(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rounds"
    folder.mkdir()
    follow_manifest(checkpoint.with_name("manifest.json"), folder / "one.manifest.json")  # a, b
    second = write(tmp_path / "second", training="bx", validation="y")
    follow_manifest(second, folder / "two.manifest.json", folder / "one.pt")
    third = write(tmp_path / "third", training="z", validation="y")
    follow_manifest(third, folder / "three.manifest.json", folder / "two.pt")
    measured = write(tmp_path / "out", validation="abcxyz")
    found = {one.split("/")[1][0]: one.split("was ")[1] for one in seen_frames(folder / "three.pt", measured)}
    assert found == {"a": "earlier training", "b": "earlier training", "x": "earlier training", "z": "training"}
    files = json.loads((folder / "two.manifest.json").read_text())["files"]
    found = sorted((one["sha256"], one["section"]) for one in files if one["section"] != "validation")
    assert found == [("a", "earlier training"), ("b", "training"), ("x", "training")], "b stands there once"
