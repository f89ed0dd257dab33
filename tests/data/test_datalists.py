"""From dataset_dir to the four sections of a run."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data import build_datalists, read_manifest
from scripts.data.errors import DatasetError, LeakError
from scripts.data.layouts import read_dataset
from scripts.data.sections import unlabeled_stream

SECTIONS = ["training", "unlabeled", "validation", "test"]


def files(items: list[dict]) -> list[str]:
    return [Path(item["file"]).stem for item in items]


def test_a_stable_split_keeps_frames_where_they_were_as_masks_come(tiny_dataset: Path) -> None:
    options = {"split": (0.5, 0.5, 0.0), "stable_split": True, "seed": 4}  # both parts have a group without frame_05's
    later = build_datalists(tiny_dataset, **options)
    (tiny_dataset / "masks" / "frame_05.png").unlink()
    before = build_datalists(tiny_dataset, **options)
    assert len(before["training"]) + len(before["validation"]) == 7
    for name in ("training", "validation"):
        assert set(files(before[name])) <= set(files(later[name])) and before[name]


def test_sections(tiny_dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "out/manifest.json"
    sections = build_datalists(tiny_dataset, split=(0.5, 0.25, 0.25), manifest_path=path)
    assert list(sections) == SECTIONS
    assert [len(sections[name]) for name in ("training", "validation", "test")] == [4, 2, 2]
    assert all("label" in item for name in ("training", "validation", "test") for item in sections[name])
    assert not any("label" in item for item in sections["unlabeled"])
    held = {item["group"] for name in ("validation", "test") for item in sections[name]}
    assert not held & {item["group"] for name in ("training", "unlabeled") for item in sections[name]}
    # frames 08-11 of images/ and 12-15 of unlabeled/, but not those of a group that is held out
    expected = [f"frame_{n:02d}" for n in range(8, 16) if not (n < 10 and "g0" in held)]
    assert sorted(files(sections["unlabeled"])) == expected
    manifest = read_manifest(path)
    assert [entry["file"] for entry in manifest["files"]] == [i["file"] for name in SECTIONS for i in sections[name]]
    assert manifest["split"] == {"training": 0.5, "validation": 0.25, "test": 0.25}
    assert manifest["sample"] is False


def test_labels_beyond_the_fraction_become_unlabelled(tiny_dataset: Path) -> None:
    split = (0.5, 0.25, 0.25)
    full = build_datalists(tiny_dataset, 1.0, split=split)
    half = build_datalists(tiny_dataset, 0.5, split=split)
    assert (full["validation"], full["test"]) == (half["validation"], half["test"])
    assert 1 <= len(half["training"]) < len(full["training"])
    moved = set(files(full["training"])) - set(files(half["training"]))
    assert moved <= set(files(half["unlabeled"]))
    assert not any("label" in item for item in half["unlabeled"])
    none = build_datalists(tiny_dataset, 0.5, split=split, unlabeled_data=False)
    assert none["unlabeled"] == []
    assert none["training"] == half["training"]


def test_images_alone_leaves_the_folder_of_unlabelled_frames_out(tiny_dataset: Path) -> None:
    split = (0.5, 0.25, 0.25)
    full, half = build_datalists(tiny_dataset, split=split), build_datalists(tiny_dataset, 0.5, split=split)
    alone = build_datalists(tiny_dataset, 0.5, split=split, unlabeled_data="images")
    assert set(files(half["unlabeled"])) - set(files(alone["unlabeled"])) == {f"frame_{k}" for k in (12, 13, 14, 15)}
    assert {"frame_10", "frame_11"} <= set(files(alone["unlabeled"])), "of images/, without a mask"
    unused = set(files(full["training"])) - set(files(alone["training"]))
    assert unused and unused <= set(files(alone["unlabeled"])), "and those whose masks are not used"
    assert alone["training"] == half["training"]


def test_the_labelled_frames_are_seen_without_their_masks_on_request(tiny_dataset: Path) -> None:
    sections = build_datalists(tiny_dataset, 0.5)
    assert unlabeled_stream(sections) == sections["unlabeled"]
    seen = unlabeled_stream(sections, labeled_too=True)
    assert sorted(files(seen)) == sorted(files(sections["unlabeled"]) + files(sections["training"]))
    assert not any("label" in item for item in seen)
    assert all("label" in item for item in sections["training"]), "the sections stay as they are"


def test_more_frames_from_a_folder(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.fromarray(np.random.default_rng(99).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "more/x.png")
    one = build_datalists(tiny_dataset)
    two = build_datalists(tiny_dataset, unlabeled_data=str(tmp_path / "more"))
    assert set(files(two["unlabeled"])) - set(files(one["unlabeled"])) == {"x"}
    again = build_datalists(tiny_dataset, unlabeled_data=tiny_dataset / "unlabeled")  # already read: not twice
    assert again["unlabeled"] == one["unlabeled"]
    both = build_datalists(tiny_dataset, unlabeled_data=[tmp_path / "more", str(tmp_path / "more")])
    assert both["unlabeled"] == two["unlabeled"], "a folder that is named twice is read once"
    (tmp_path / "third").mkdir()
    Image.fromarray(np.random.default_rng(98).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "third/y.png")
    three = build_datalists(tiny_dataset, unlabeled_data=[tmp_path / "more", tmp_path / "third"])
    assert set(files(three["unlabeled"])) - set(files(one["unlabeled"])) == {"x", "y"}
    for wrong in ("nowhere", [tmp_path / "more", "nowhere"]):
        with pytest.raises(DatasetError, match="is not a folder"):
            build_datalists(tiny_dataset, unlabeled_data=wrong)


def test_without_any_mask(tiny_dataset: Path) -> None:
    shutil.rmtree(tiny_dataset / "masks")
    with pytest.raises(DatasetError, match="no masks at all"):
        build_datalists(tiny_dataset)
    found = build_datalists(tiny_dataset, masks_needed=False)
    assert {name: len(items) for name, items in found.items()} == {
        "training": 0, "unlabeled": 16, "validation": 0, "test": 0,
    }  # fmt: skip


def test_masks_that_are_not_needed_change_nothing(tiny_dataset: Path) -> None:
    assert build_datalists(tiny_dataset, 0.5) == build_datalists(tiny_dataset, 0.5, masks_needed=False)


def write_datalist(root: Path, **sections: list[int]) -> Path:
    suffix = {n: "jpg" if n % 4 == 3 else "png" for n in range(16)}
    content = {
        name: [{"image": f"images/frame_{n:02d}.{suffix[n]}", "label": f"masks/frame_{n:02d}.png"} for n in numbers]
        for name, numbers in sections.items()
    }
    (root / "list.json").write_text(json.dumps(content))
    return root / "list.json"


def test_given_sections_are_kept(tiny_dataset: Path) -> None:
    path = write_datalist(tiny_dataset, training=[0, 1, 2, 3], validation=[4, 5], test=[6, 7])
    sections = build_datalists(path)
    assert files(sections["training"]) == ["frame_00", "frame_01", "frame_02", "frame_03"]
    assert files(sections["validation"]) == ["frame_04", "frame_05"]
    assert files(sections["test"]) == ["frame_06", "frame_07"]


def test_what_some_entries_have_reaches_no_batch(tiny_dataset: Path) -> None:
    """Frames with and without a grade, or a mined mask, cannot be collated; who needs them asks for them."""
    path = write_datalist(tiny_dataset, training=list(range(6)), unlabeled=[6, 7])
    content = json.loads(path.read_text())
    content["training"][0]["severity"] = 2
    mined, plain = content["unlabeled"]
    mined |= {"pseudo_label": mined.pop("label"), "weight": 0.5, "severity": 1}
    del plain["label"]
    path.write_text(json.dumps(content))
    sections = build_datalists(path)
    assert not any("severity" in item for items in sections.values() for item in items)
    assert [set(item) for item in unlabeled_stream(sections)] == [{"image", "file", "group"}] * 2
    assert sections["unlabeled"][0]["weight"] == 0.5, "pseudo_labels.json takes them from here"
    kept = build_datalists(path, severity_too=True)
    assert sorted(item["severity"] for items in kept.values() for item in items if "severity" in item) == [1.0, 2.0]


def test_missing_sections_are_split_from_training(tiny_dataset: Path) -> None:
    path = write_datalist(tiny_dataset, training=[0, 1, 2, 3, 4, 5], test=[6, 7])
    sections = build_datalists(path, split=(0.5, 0.25, 0.25))  # test is given: 2 parts to 1 remain, of 6 images
    assert files(sections["test"]) == ["frame_06", "frame_07"]
    assert (len(sections["training"]), len(sections["validation"])) == (4, 2)


def test_leak_in_a_datalist(tiny_dataset: Path) -> None:
    shutil.copy(tiny_dataset / "images/frame_00.png", tiny_dataset / "images/frame_06.png")
    shutil.copy(tiny_dataset / "masks/frame_00.png", tiny_dataset / "masks/frame_06.png")
    path = write_datalist(tiny_dataset, training=[0, 1], validation=[4], test=[6])
    with pytest.raises(LeakError, match=r"(?s)frame_06\.png.*frame_00\.png|frame_00\.png.*frame_06\.png"):
        build_datalists(path)


@pytest.mark.parametrize("fraction", [0, 1.5, -1])
def test_bad_label_fraction(tiny_dataset: Path, fraction: float) -> None:
    with pytest.raises(DatasetError, match="expected a number above 0"):
        build_datalists(tiny_dataset, fraction)


def test_too_small_label_fraction(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError, match="fewer than one labelled image after label_fraction"):
        build_datalists(tiny_dataset, 0.001)


def test_bad_split(tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError, match="add up to 1"):
        build_datalists(tiny_dataset, split=(0.7, 0.1, 0.1))


def test_nothing_is_written_when_a_file_is_bad(tiny_dataset: Path, tmp_path: Path) -> None:
    (tiny_dataset / "unlabeled/frame_13.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"frame_13\.png: the file is empty"):
        build_datalists(tiny_dataset, manifest_path=tmp_path / "out/manifest.json")
    assert not (tmp_path / "out").exists()
    build_datalists(tiny_dataset, unlabeled_data=False)  # it is not used then


def test_warnings_reach_the_manifest(tiny_dataset: Path, tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tiny_dataset / "masks/frame_00.png")
    shutil.copy(tiny_dataset / "unlabeled/frame_12.png", tiny_dataset / "unlabeled/frame_14.png")
    build_datalists(tiny_dataset, manifest_path=tmp_path / "m.json")
    warnings = read_manifest(tmp_path / "m.json")["warnings"]
    assert any("lesion all over" in text for text in warnings)
    assert any("more than once" in text for text in warnings)


def test_other_ranks_do_not_write(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    build_datalists(tiny_dataset, manifest_path=tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_moved_dataset_is_split_the_same(tiny_dataset: Path, tmp_path: Path) -> None:
    one = build_datalists(tiny_dataset, 0.5)
    shutil.move(tiny_dataset, tmp_path / "elsewhere")
    two = build_datalists(tmp_path / "elsewhere", 0.5)
    assert {name: files(items) for name, items in one.items()} == {name: files(items) for name, items in two.items()}


@pytest.mark.parametrize("dataset_dir", [None, ""])
def test_sample(
    dataset_dir: str | None, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path_factory.getbasetemp() / "shared_sample"  # generated by the first case only
    with caplog.at_level(logging.WARNING):
        sections = build_datalists(dataset_dir, manifest_path=base.parent / "m.json", sample_dir=base)
    assert "SAMPLE" in caplog.text
    assert read_manifest(base.parent / "m.json")["sample"] is True
    assert all(sections[name] for name in SECTIONS)


def test_kvasir(shared_dir: Path) -> None:
    sections = build_datalists(shared_dir / "data/kvasir_seg", 0.1)
    numbers = {name: len(items) for name, items in sections.items()}
    assert abs(numbers["validation"] - 80) <= 1
    assert abs(numbers["test"] - 160) <= 1
    assert abs(numbers["training"] + numbers["unlabeled"] - 560) <= 1
    assert numbers["training"] == 56


def test_pictures_outside_the_folder_of_the_datalist_have_names_inside(tiny_dataset: Path, tmp_path: Path) -> None:
    """Outputs are named by "file"; one that left the output folder was refused when the training was over."""
    folder = tmp_path / "lists" / "v1"
    folder.mkdir(parents=True)
    entries = [
        {"image": str(tiny_dataset / "images" / name), "label": str(tiny_dataset / "masks" / name)}
        for name in ("frame_00.png", "frame_01.png", "frame_02.png")
    ]
    (folder / "list.json").write_text(json.dumps({"training": entries}))
    found = read_dataset(folder / "list.json")["pool"]
    assert [item["file"] for item in found] == [f"up/up/tiny/images/frame_{n:02d}.png" for n in (0, 1, 2)]
    assert all(Path(item["image"]).is_file() for item in found)
