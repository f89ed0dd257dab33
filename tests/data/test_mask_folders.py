"""Folders of masks are told from folders of pictures, wherever frames are looked for."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from scripts.data.frames import list_frames
from scripts.data.layouts import read_unlabeled_folder
from scripts.data.mask_folders import mask_folders


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["images", "masks"], ["masks"]),
        (["images", "labels", "unlabeled"], ["labels"]),
        (["masks", "labels"], []),  # without images/ nobody knows what they are
        (["labels/final"], ["labels"]),  # MONAI Label's
        (["images"], []),
    ],
)
def test_what_is_a_folder_of_masks(tmp_path: Path, folders: list[str], expected: list[str]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    assert mask_folders(tmp_path) == expected


def test_masks_of_an_unlabeled_data_set_are_no_frames(tiny_dataset: Path, tmp_path: Path) -> None:
    """A data set given as unlabeled_data: its pictures with its groups, whatever is in masks/."""
    other = tmp_path / "other"
    shutil.copytree(tiny_dataset, other)
    (other / "groups.csv").write_text("file,group\nframe_00.png,patient a\n")
    items = {item["file"]: item for item in read_unlabeled_folder(other, tiny_dataset)}
    assert {file.split("/")[2] for file in items} == {"images", "unlabeled"} and not any(
        "label" in i for i in items.values()
    )
    assert len(items) == len(list((other / "images").iterdir())) + len(list((other / "unlabeled").iterdir()))
    assert items["../other/images/frame_00.png"]["group"] == "patient a"
    (other / "masks").rename(other / "labels")
    assert len(read_unlabeled_folder(other, tiny_dataset)) == len(items)
    nested = [item["file"] for item in read_unlabeled_folder(tmp_path, tiny_dataset) if "other" in item["file"]]
    assert len(nested) == len(items) and not any("/labels/" in file for file in nested), "one level further down too"


def test_inference_looks_for_lesions_in_pictures_alone(
    tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        files = list_frames(tiny_dataset).files
    assert {file.split("/")[0] for file in files} == {"images", "unlabeled"} and len(files) == 16
    assert f"{tiny_dataset}: masks/ holds masks" in caplog.text
    assert len(list_frames(tiny_dataset / "masks").files) == 8, "where it is what was asked for"
