"""Bad files are found before work starts, leaks are refused, and the manifest records the rest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data.checks import check_files
from scripts.data.errors import DatasetError, LeakError
from scripts.data.fingerprints import fingerprint, map_files
from scripts.data.layouts import read_dataset
from scripts.data.leaks import check_groups, check_leaks
from scripts.data.manifest import read_manifest, write_manifest


def picture(path: Path, number: int, **options: object) -> dict:
    """An item with a picture of its own content, told apart by `number`."""
    pixels = np.random.default_rng(number).integers(0, 255, (8, 9, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return {"image": str(path), "file": path.name, "group": path.name}


def test_good_files(tiny_dataset: Path) -> None:
    report = check_files(read_dataset(tiny_dataset)["pool"])
    assert report.warnings == []
    share = {Path(path).stem: value for path, value in report.lesion_share.items()}
    assert share["frame_07"] == 0
    mask = np.array(Image.open(tiny_dataset / "masks/frame_02.png"))
    assert share["frame_02"] == (mask == 255).mean() > 0


def test_mask_of_another_size(tiny_dataset: Path) -> None:
    Image.new("L", (70, 50)).save(tiny_dataset / "masks/frame_01.png")  # the image is 72 wide, 72 high
    with pytest.raises(DatasetError, match=r"frame_01\.png: the mask is 70x50 .*frame_01\.png is 72x72"):
        check_files(read_dataset(tiny_dataset)["pool"])


def test_size_is_compared_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    item = picture(tmp_path / "a.jpg", 0, exif=exif)  # 8 x 9 stored, 9 x 8 upright
    Image.new("L", (8, 9)).save(tmp_path / "m.png")
    check_files([{**item, "label": str(tmp_path / "m.png")}])


def test_all_bad_files_are_reported(tiny_dataset: Path) -> None:
    (tiny_dataset / "images/frame_00.png").write_bytes(b"")
    (tiny_dataset / "images/frame_01.png").write_text("not an image")
    whole = (tiny_dataset / "images/frame_03.jpg").read_bytes()
    (tiny_dataset / "images/frame_03.jpg").write_bytes(whole[: len(whole) // 2])
    (tiny_dataset / "masks/frame_04.png").write_bytes(b"\0\0\0\x20ftypisom")
    with pytest.raises(DatasetError, match="4 files cannot be used") as error:
        check_files(read_dataset(tiny_dataset)["pool"])
    for part in ("frame_00.png: the file is empty", "frame_01.png: not an", "frame_03.jpg: trunc", "it is a video"):
        assert part in str(error.value)


def test_ten_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    items = [{"image": str(tmp_path / f"{n}.png"), "file": f"{n}.png", "group": "g"} for n in range(13)]
    with pytest.raises(DatasetError, match="13 files cannot be used") as error:
        check_files(items)
    assert str(error.value).count("no such file") == 10
    assert "and 3 more" in str(error.value)


def test_all_lesion_mask_is_a_warning(tiny_dataset: Path) -> None:
    Image.new("L", (64, 64), 255).save(tiny_dataset / "masks/frame_00.png")
    report = check_files(read_dataset(tiny_dataset)["pool"])
    assert len(report.warnings) == 1
    assert "1 masks are lesion all over" in report.warnings[0]
    assert "frame_00.png" in report.warnings[0]


def test_value_map_is_used(tmp_path: Path) -> None:
    item = picture(tmp_path / "a.png", 0)
    Image.fromarray(np.array([[0, 1, 2]] * 8, np.uint8).repeat(3, 1)).save(tmp_path / "m.png")
    item["label"] = str(tmp_path / "m.png")
    with pytest.raises(DatasetError, match="value_map"):
        check_files([item])
    report = check_files([item], {0: 0, 1: 1, 2: 2})
    assert report.lesion_share[item["label"]] == pytest.approx(2 / 3)


def test_fingerprint_sees_the_picture_not_the_file(tmp_path: Path) -> None:
    names = ["a.png", "b.bmp", "c.tif"]
    found = [fingerprint(picture(tmp_path / name, 1)["image"]) for name in names]
    assert len({print_.pixels for print_ in found}) == 1
    assert len({print_.sha256 for print_ in found}) == 3
    assert (found[0].height, found[0].width) == (8, 9)
    assert found[0].sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert fingerprint(picture(tmp_path / "d.png", 2)["image"]).pixels != found[0].pixels
    # the same bytes in another shape are another picture
    flat = np.asarray(Image.open(tmp_path / "a.png")).reshape(9, 8, 3)
    Image.fromarray(flat).save(tmp_path / "e.png")
    assert fingerprint(str(tmp_path / "e.png")).pixels != found[0].pixels


def test_fingerprint_notices_a_changed_file(tmp_path: Path) -> None:
    before = fingerprint(picture(tmp_path / "a.png", 1)["image"])
    picture(tmp_path / "a.png", 2)
    os.utime(tmp_path / "a.png", ns=(0, 12345))
    assert fingerprint(str(tmp_path / "a.png")).pixels != before.pixels


@pytest.mark.parametrize(
    ("one", "two"),
    [("training", "validation"), ("training", "test"), ("unlabeled", "test"), ("validation", "test")],
)
def test_leaks_are_refused_with_both_paths(tmp_path: Path, one: str, two: str) -> None:
    sections = {
        name: [picture(tmp_path / f"{name}.png", n)] for n, name in enumerate(("training", "unlabeled", "test"))
    }
    sections["validation"] = [picture(tmp_path / "validation.png", 9)]
    assert check_leaks(sections) == (sections, [])
    sections[one].append(picture(tmp_path / "copy1.png", 7))
    sections[two].append(picture(tmp_path / "copy2.bmp", 7))
    with pytest.raises(LeakError, match="1 pictures are on two sides.*groups.csv") as error:
        check_leaks(sections)
    assert "copy1.png" in str(error.value)
    assert "copy2.bmp" in str(error.value)


def test_labelled_picture_among_the_unlabelled_is_dropped(tmp_path: Path) -> None:
    training = [picture(tmp_path / "a.png", 1)]
    unlabeled = [picture(tmp_path / "b.bmp", 1), picture(tmp_path / "c.png", 2)]
    kept, warnings = check_leaks({"training": training, "unlabeled": unlabeled, "validation": [], "test": []})
    assert kept["unlabeled"] == unlabeled[1:]
    assert kept["training"] == training
    assert "1 unlabelled pictures left out" in warnings[0]
    assert "b.bmp" in warnings[0]


def test_duplicates_inside_a_section_are_warned_of(tmp_path: Path) -> None:
    training = [picture(tmp_path / "a.png", 1), picture(tmp_path / "b.png", 1)]
    kept, warnings = check_leaks({"training": training, "unlabeled": [], "validation": [], "test": []})
    assert kept["training"] == training
    assert "1 pictures occur more than once" in warnings[0]


@pytest.mark.parametrize("name", ["validation", "test"])
def test_an_image_listed_twice_is_measured_once(tmp_path: Path, name: str) -> None:
    """Its second entry ended a training in an error, after the last epoch."""
    one = picture(tmp_path / "a.png", 1)
    sections = {"training": [], "unlabeled": [], "validation": [], "test": [], name: [one, {**one, "label": "b.png"}]}
    with pytest.raises(LeakError, match=rf"(?s)1 images are listed more than once in {name}.*a\.png"):
        check_leaks(sections)
    check_leaks(sections | {name: [], "training": sections[name]})  # training may draw it twice


def test_leak_check_raises_on_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        check_leaks({"training": [{"image": str(tmp_path / "gone.png")}]})


def member(name: str, group: str) -> dict:
    return {"image": f"/{name}", "file": name, "group": group}


def test_groups_of_validation_and_test_stay_unseen() -> None:
    sections = {
        "training": [member("a", "g1")],
        "unlabeled": [member("b", "g1"), member("c", "g2"), member("d", "g3"), member("e", "g4")],
        "validation": [member("f", "g2")],
        "test": [member("g", "g3")],
    }
    kept, warnings = check_groups(sections)
    assert [item["file"] for item in kept["unlabeled"]] == ["b", "e"]
    assert "2 unlabelled images left out" in warnings[0]
    assert check_groups({**sections, "unlabeled": []})[1] == []


def test_divided_groups_are_refused() -> None:
    with pytest.raises(LeakError, match=r"(?s)group g1: training: /a and test: /b"):
        check_groups({"training": [member("a", "g1")], "test": [member("b", "g1")]})


def manifest_arguments(root: Path) -> dict:
    return {"dataset_dir": root, "seed": 3, "label_fraction": 0.5, "split": {"training": 0.7}, "warnings": ["w"]}


def test_manifest(tiny_dataset: Path, tmp_path: Path) -> None:
    pool = read_dataset(tiny_dataset)["pool"]
    sections = {"training": pool[:2], "unlabeled": pool[8:], "validation": pool[2:4], "test": pool[4:8]}
    path = tmp_path / "run/manifest.json"
    write_manifest(path, sections, **manifest_arguments(tiny_dataset))
    assert os.listdir(path.parent) == ["manifest.json"]  # no temporary file stays
    content = read_manifest(path)
    assert content == json.loads(path.read_text())
    assert (content["dataset_dir"], content["seed"], content["label_fraction"]) == (str(tiny_dataset), 3, 0.5)
    assert content["sample"] is False
    assert content["warnings"] == ["w"]
    assert content["counts"]["training"] == {"images": 2, "groups": 1, "labelled": 2}
    assert content["counts"]["unlabeled"] == {"images": 4, "groups": 2, "labelled": 0}
    first, last = content["files"][0], content["files"][2]
    assert first == {
        "section": "training",
        "file": "images/frame_00.png",
        "group": "g0",
        "label": "masks/frame_00.png",
        "sha256": hashlib.sha256((tiny_dataset / "images/frame_00.png").read_bytes()).hexdigest(),
        "label_sha256": hashlib.sha256((tiny_dataset / "masks/frame_00.png").read_bytes()).hexdigest(),
    }
    assert (last["section"], last["label"], last["label_sha256"]) == ("unlabeled", None, None)


def test_manifest_that_cannot_be_written(tiny_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="choose an output_dir you may write to"):
        write_manifest(tmp_path / "file/manifest.json", {}, **manifest_arguments(tiny_dataset))
    (tmp_path / "run/manifest.json").mkdir(parents=True)  # the last step, the rename, fails
    with pytest.raises(OSError, match="cannot be written"):
        write_manifest(tmp_path / "run/manifest.json", {}, **manifest_arguments(tiny_dataset))
    assert os.listdir(tmp_path / "run") == ["manifest.json"]


def test_bad_manifests(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such manifest"):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DatasetError, match="not a JSON file"):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text('{"seed": 1}')
    with pytest.raises(DatasetError, match="not a manifest, it lacks"):
        read_manifest(tmp_path / "manifest.json")


def test_same_picture_twice_by_the_same_path(tmp_path: Path) -> None:
    item = picture(tmp_path / "a.png", 1)
    with pytest.raises(LeakError):
        check_leaks({"training": [item], "test": [dict(item)], "validation": [], "unlabeled": []})


def test_copied_tree_has_the_same_fingerprints(tiny_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_dataset, tmp_path / "copy")
    one, two = (read_dataset(root)["pool"] for root in (tiny_dataset, tmp_path / "copy"))
    assert [fingerprint(item["image"]) for item in one] == [fingerprint(item["image"]) for item in two]


def test_the_frames_of_a_file_are_one_threads() -> None:
    threads: dict[str, set[int]] = {}

    def read(path: str) -> str:
        time.sleep(0.002)
        threads.setdefault(path.split("#")[0], set()).add(threading.get_ident())
        if path == "b.nii#3":
            raise ValueError("broken")
        return path

    paths = [f"{name}.nii#{number}" for number in range(6) for name in "abc"]
    found = map_files(read, [*paths, *paths], "reading")
    assert list(found) == paths and str(found.pop("b.nii#3")) == "broken"
    assert all(path == answer for path, answer in found.items())
    assert {len(one) for one in threads.values()} == {1}
