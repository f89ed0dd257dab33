"""Pseudo-labels in a datalist: what is read, what is refused, what is recorded; and the frames to mine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.data.datalists import build_datalists
from scripts.data.errors import DatasetError
from scripts.data.manifest import read_manifest
from scripts.data.mining import as_entries, build_mining_set
from scripts.data.pseudo_labels import with_pseudo_labels


@pytest.fixture
def listed(tiny_dataset: Path) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """Six labelled frames, and two with masks that are taken for pseudo-labels."""
    names = [path.relative_to(tiny_dataset).as_posix() for path in sorted((tiny_dataset / "images").iterdir())[:8]]
    masks = [f"masks/{Path(name).stem}.png" for name in names]
    content = {
        "training": [{"image": image, "label": mask} for image, mask in zip(names[:6], masks[:6], strict=True)],
        "unlabeled": [
            {"image": names[6], "pseudo_label": masks[6], "weight": 0.75},
            {"image": names[7], "pseudo_label": masks[7]},
        ],
    }
    return tiny_dataset / "list.json", content


def build(listed: tuple[Path, dict[str, Any]], **options: Any) -> dict[str, list[dict[str, Any]]]:
    path, content = listed
    path.write_text(json.dumps(content))
    return build_datalists(path, split=(0.6, 0.2, 0.2), **options)


def test_they_are_read_recorded_and_never_labels(listed: Any, tmp_path: Path) -> None:
    sections = build(listed, manifest_path=tmp_path / "manifest.json")
    found = sections["unlabeled"]
    assert [item["weight"] for item in found] == [0.75, 1.0] and not any("label" in item for item in found)
    assert with_pseudo_labels(found) == found
    manifest = read_manifest(tmp_path / "manifest.json")
    assert manifest["counts"]["unlabeled"] == {"images": 2, "groups": 2, "labelled": 0}
    entries = [entry for entry in manifest["files"] if entry["section"] == "unlabeled"]
    assert [entry["pseudo_label"] for entry in entries] == ["masks/frame_06.png", "masks/frame_07.png"]
    assert all(entry["label"] is None and len(entry["pseudo_label_sha256"]) == 64 for entry in entries)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("unlabeled", {"weight": 1.5}, "weight is 1.5; expected a number in 0..1"),
        ("unlabeled", {"weight": "much"}, "weight is 'much'"),
        ("unlabeled", {"weight": True}, "weight is True"),
        ("unlabeled", {"pseudo_label": 5}, "pseudo_label is 5; expected the path"),
        ("unlabeled", {"pseudo_label": "masks/none.png"}, "no such file"),
        ("training", {"pseudo_label": "masks/frame_00.png"}, "belong into unlabeled"),
    ],
)
def test_entries_that_cannot_be_used(listed: Any, section: str, change: dict[str, Any], message: str) -> None:
    listed[1][section][0] |= change
    with pytest.raises(DatasetError, match=message):
        build(listed)


def test_a_pseudo_label_of_another_size(listed: Any) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(listed[0].parent / "masks" / "frame_06.png")
    with pytest.raises(DatasetError, match="frame_06.png: the mask is 9x9 pixels"):
        build(listed)


def test_frames_of_no_weight_teach_nothing(listed: Any) -> None:
    listed[1]["unlabeled"][0]["weight"] = 0.0
    assert len(with_pseudo_labels(build(listed)["unlabeled"])) == 1
    with pytest.raises(DatasetError, match="3 unlabelled frames and none has a pseudo-label"):
        with_pseudo_labels([{"image": "x"}, {"image": "y"}, {"image": "z", "pseudo_label": "m", "weight": 0.0}])


def test_frames_to_mine_of_a_dataset(tiny_dataset: Path) -> None:
    found = build_mining_set(tiny_dataset, seed=0, split=(0.6, 0.2, 0.2), label_fraction=0.5)
    same = build_datalists(tiny_dataset, seed=0, split=(0.6, 0.2, 0.2), label_fraction=0.5)
    assert list(found.frames) == same["unlabeled"] and found.sections == {
        name: items for name, items in same.items() if name != "unlabeled"
    }
    assert found.files == [item["file"] for item in found.frames]
    with pytest.raises(DatasetError, match="no unlabelled frame to mine.*--pre_annotate True"):
        build_mining_set(tiny_dataset, split=(0.6, 0.2, 0.2), unlabeled_data=False)


def test_frames_to_mine_of_a_folder(tiny_dataset: Path) -> None:
    found = build_mining_set(tiny_dataset / "unlabeled", pre_annotate=True, seed=3)
    assert len(found.frames) == 4 and found.sections is None


def test_entries_of_a_datalist_can_be_read_again(listed: Any, tmp_path: Path) -> None:
    sections = build(listed)
    folder = listed[0].parent
    again = {name: as_entries(items, folder) for name, items in sections.items()}
    assert again["unlabeled"][0]["pseudo_label"] == "masks/frame_06.png", "below the folder: movable with it"
    (folder / "again.json").write_text(json.dumps(again))
    read = build_datalists(folder / "again.json")
    assert {name: [item["image"] for item in items] for name, items in read.items()} == {
        name: [item["image"] for item in items] for name, items in sections.items()
    }
    elsewhere = as_entries(sections["training"], tmp_path / "other")
    assert all(Path(entry["image"]).is_absolute() for entry in elsewhere)


def test_a_value_map_is_of_drawn_masks_alone(listed: Any, tmp_path: Path) -> None:
    dataset, content = listed[0].parent, listed[1]
    for entry in content["training"]:  # drawn ones hold classes
        path = dataset / entry["label"]
        Image.fromarray(np.minimum(np.asarray(Image.open(path)), 1)).save(path)
    value_map = {"0": 0, "1": 1}
    assert len(build(listed, value_map=value_map)["unlabeled"]) == 2, "mined masks hold 0 and 255"
    for item in build_mining_set(listed[0], value_map=value_map, label_fraction=0.5, split=(0.6, 0.2, 0.2)).frames:
        assert "label" not in item
