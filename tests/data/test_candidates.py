"""Frames with and without a mask, also before there is any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data.candidates import read_candidates
from scripts.data.errors import DatasetError


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(path)


def files(items: list[dict]) -> list[str]:
    return [item["file"] for item in items]


def test_a_dataset_falls_into_two(tiny_dataset: Path) -> None:
    labelled, others = read_candidates(tiny_dataset)
    assert len(labelled) == len(others) == 8
    assert all("label" in item for item in labelled) and not any("label" in item for item in others)
    assert files(others) == sorted(files(others))


def test_a_plain_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "p1/c.png"):
        picture(tmp_path / name)
    labelled, others = read_candidates(tmp_path)
    assert labelled == [] and files(others) == ["a.png", "b.png", "p1/c.png"]
    assert [item["group"] for item in others] == ["a.png", "b.png", "p1"]
    (tmp_path / "groups.csv").write_text("file,group\na.png,v\nb.png,v\np1/c.png,w\n")
    assert [item["group"] for item in read_candidates(tmp_path)[1]] == ["v", "v", "w"]


def test_a_folder_of_masks_that_is_empty_but_for_a_hidden_file(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / ".gitkeep").touch()
    assert files(read_candidates(tmp_path)[1]) == ["images/a.png"]


def test_groups_before_the_first_mask_are_those_after_it(tmp_path: Path) -> None:
    """A data set without masks is read like one with masks: groups.csv beside images/, tables of unlabeled/."""
    for name in ("images/a.png", "images/b.png", "unlabeled/c.png", "unlabeled/d.png"):
        picture(tmp_path / name)
    (tmp_path / "groups.csv").write_text("file,group\na.png,v\nb.png,v\n")
    (tmp_path / "unlabeled_groups.csv").write_text("file,group\nc.png,w\nd.png,w\n")
    before = read_candidates(tmp_path)[1]
    assert [(item["file"], item["group"]) for item in before] == [
        ("images/a.png", "v"), ("images/b.png", "v"), ("unlabeled/c.png", "w"), ("unlabeled/d.png", "w")
    ]  # fmt: skip
    picture(tmp_path / "masks" / "a.png")
    labelled, others = read_candidates(tmp_path)
    assert files(labelled) == ["images/a.png"] and others == before[1:]


def test_frames_in_unlabeled_alone(tmp_path: Path) -> None:
    picture(tmp_path / "unlabeled" / "c.png")
    (tmp_path / "unlabeled_groups.csv").write_text("file,group\nc.png,w\n")
    assert [item["group"] for item in read_candidates(tmp_path)[1]] == ["w"]


def test_masks_without_images_are_no_frames(tmp_path: Path) -> None:
    picture(tmp_path / "masks" / "a.png")
    with pytest.raises(DatasetError, match="no images/"):
        read_candidates(tmp_path)


def test_studies_of_monai_label_without_a_label_yet(tmp_path: Path) -> None:
    """What the network proposed, labels/original, is neither a frame nor a mask."""
    for name in ("a.png", "b.png", "labels/original/a.png"):
        picture(tmp_path / name)
    (tmp_path / "datastore_v2.json").write_text("{}")
    labelled, others = read_candidates(tmp_path)
    assert labelled == [] and files(others) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "dataset_dir is empty"),
        ("missing", "does not exist"),
        ("a.png", "is a file; expected a folder"),
        ("none", "no pictures"),
    ],
)
def test_mistakes(tmp_path: Path, name: str, message: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match=message):
        read_candidates(tmp_path / name if name else "")
