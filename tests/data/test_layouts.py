"""Folders and datalists become items; each bad one is refused with its cure."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data.errors import DatasetError, listing
from scripts.data.layouts import read_dataset, read_unlabeled_folder


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def by_file(items: list[dict]) -> dict[str, dict]:
    return {item["file"]: item for item in items}


def test_folder_layout(tiny_dataset: Path) -> None:
    sections = read_dataset(tiny_dataset)
    assert set(sections) == {"pool", "unlabeled"}
    pool = by_file(sections["pool"])
    assert len(pool) == 12
    assert sum("label" in item for item in pool.values()) == 8
    assert pool["images/frame_03.jpg"] == {
        "image": str(tiny_dataset / "images/frame_03.jpg"),
        "label": str(tiny_dataset / "masks/frame_03.png"),
        "file": "images/frame_03.jpg",
        "group": "g1",
    }
    assert pool["images/frame_09.png"]["group"] == "g0"
    assert [item["group"] for item in sections["unlabeled"]] == ["u1", "u1", "u2", "u2"]
    assert [item["file"] for item in sections["pool"]] == sorted(pool)


def test_labels_folder_unlabelled_spelling_and_upper_case(tiny_dataset: Path) -> None:
    (tiny_dataset / "masks").rename(tiny_dataset / "labels")
    (tiny_dataset / "unlabeled").rename(tiny_dataset / "unlabelled")
    (tiny_dataset / "images/frame_00.png").rename(tiny_dataset / "images/frame_00.PNG")
    sections = read_dataset(tiny_dataset)
    assert by_file(sections["pool"])["images/frame_00.PNG"]["label"].endswith("labels/frame_00.png")
    assert by_file(sections["pool"])["images/frame_00.PNG"]["group"] == "g0"
    assert len(sections["unlabeled"]) == 4


def test_without_group_file_each_picture_is_a_group(tiny_dataset: Path) -> None:
    (tiny_dataset / "groups.csv").unlink()
    assert all(item["group"] == item["file"] for item in read_dataset(tiny_dataset)["pool"])


def test_subfolders_are_groups(tiny_dataset: Path) -> None:
    (tiny_dataset / "groups.csv").unlink()
    for folder in ("images", "masks"):
        (tiny_dataset / folder / "p1").mkdir()
        (tiny_dataset / folder / "frame_00.png").rename(tiny_dataset / folder / "p1/frame_00.png")
    item = by_file(read_dataset(tiny_dataset)["pool"])["images/p1/frame_00.png"]
    assert item["group"] == "p1"
    assert item["label"] == str(tiny_dataset / "masks/p1/frame_00.png")


@pytest.mark.parametrize(
    "text",
    [
        "file,group\nframe_00.png,A\n",
        "file,group\nframe_00,A\n",
        "file,group\nimages/frame_00.png,A\n",
        "file,group\nimages\\frame_00.jpg,A\n",
        "\ufefffile;group;note\nframe_00.png;A;x\n",
        "note, patient, file\nx, A, frame_00.png\n",
    ],
)
def test_spellings_of_the_group_file(tiny_dataset: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tiny_dataset / "groups.csv").write_text(text, encoding="utf-8")
    pool = by_file(read_dataset(tiny_dataset)["pool"])
    assert pool["images/frame_00.png"]["group"] == "A"
    assert pool["images/frame_01.png"]["group"] == "images/frame_01.png"
    assert "no group for 11 pictures" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,group\nframe_00.png,A\n", "expected the columns"),
        ("file,kind\nframe_00.png,A\n", "expected the columns"),
        ("", "expected the columns"),
        ("file,group\nframe_00.png,\n", "line 2: empty"),
        ("file,group\nframe_00.png\n", "line 2: empty"),
        ("file,group\nframe_00.png,A\nframe_00.png,B\n", "has the groups A and B"),
        ("file,group\nother.png,A\n", "none of its 1 rows"),
    ],
)
def test_bad_group_files(tiny_dataset: Path, text: str, message: str) -> None:
    (tiny_dataset / "groups.csv").write_text(text)
    with pytest.raises(DatasetError, match=rf"groups\.csv.*{message}"):
        read_dataset(tiny_dataset)


def test_group_rows_without_picture_are_logged(tiny_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tiny_dataset / "groups.csv").open("a") as stream:
        stream.write("gone.png,g9\n")
    read_dataset(tiny_dataset)
    assert "1 rows name no picture in images/:\n  gone.png" in caplog.text


def test_missing_folder_and_wrong_folders(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere does not exist; expected a folder with images/"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetError, match="has no images/"):
        read_dataset(tmp_path / "void")
    (tmp_path / "void/images").mkdir()
    with pytest.raises(DatasetError, match="holds no pictures"):
        read_dataset(tmp_path / "void")
    (tmp_path / "a.h5").touch()
    with pytest.raises(DatasetError, match="is a file"):
        read_dataset(tmp_path / "a.h5")
    shutil.copytree(tiny_dataset / "masks", tiny_dataset / "labels")
    with pytest.raises(DatasetError, match="both masks/ and labels/"):
        read_dataset(tiny_dataset)


def test_no_masks_at_all(tiny_dataset: Path) -> None:
    for path in (tiny_dataset / "masks").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="no masks at all among 12 training images; put at least a few"):
        read_dataset(tiny_dataset)
    (tiny_dataset / "masks").rmdir()
    with pytest.raises(DatasetError, match="no masks at all"):
        read_dataset(tiny_dataset)


def test_mask_without_image(tiny_dataset: Path) -> None:
    for name in ("frame_00.png", "frame_03.jpg"):
        (tiny_dataset / "images" / name).unlink()
    with pytest.raises(DatasetError, match=r"2 masks have no image") as error:
        read_dataset(tiny_dataset)
    assert str(tiny_dataset / "masks/frame_00.png") in str(error.value)
    assert str(tiny_dataset / "masks/frame_03.png") in str(error.value)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_two_files_of_one_stem(tiny_dataset: Path, folder: str) -> None:
    shutil.copy(tiny_dataset / folder / "frame_00.png", tiny_dataset / folder / "frame_00.jpg")
    with pytest.raises(DatasetError, match=r"frame_00\.jpg and frame_00\.png have the same name"):
        read_dataset(tiny_dataset)


MEDIA = [("clip.mp4", b"x"), ("clip.AVI", b"x"), ("slice.dcm", b"x"), ("IM0001", bytes(128) + b"DICM")]


@pytest.mark.parametrize(("name", "content"), MEDIA)
@pytest.mark.parametrize("folder", ["images", "unlabeled"])
def test_videos_and_dicom_are_items(tiny_dataset: Path, folder: str, name: str, content: bytes) -> None:
    (tiny_dataset / folder / name).write_bytes(content)
    found = read_dataset(tiny_dataset)["pool" if folder == "images" else "unlabeled"]
    assert [item["file"] for item in found if name in item["file"]] == [f"{folder}/{name}"]


@pytest.mark.parametrize(("name", "content"), MEDIA)
def test_videos_and_dicom_are_no_masks(tiny_dataset: Path, name: str, content: bytes) -> None:
    (tiny_dataset / "masks" / name).write_bytes(content)
    with pytest.raises(
        DatasetError, match=rf"(?s)1 videos or DICOM files among the masks; save each mask as a PNG.*{name}"
    ):
        read_dataset(tiny_dataset)


def test_uids_as_names(tiny_dataset: Path) -> None:
    for name in ("1.2.840.1", "1.2.840.2"):  # no suffix, and so not two files of one stem
        (tiny_dataset / "images" / name).write_bytes(bytes(128) + b"DICM")
        (tiny_dataset / "masks" / f"{name}.png").write_bytes(b"x")
    found = {item["file"]: item.get("label", "") for item in read_dataset(tiny_dataset)["pool"]}
    assert found["images/1.2.840.1"].endswith("masks/1.2.840.1.png")


def test_other_files_are_ignored_and_logged(tiny_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("notes.txt", ".DS_Store", "._frame_00.png", "Thumbs.db"):
        (tiny_dataset / "images" / name).write_text("x")
    assert len(read_dataset(tiny_dataset)["pool"]) == 12
    assert "1 files" in caplog.text
    assert "notes.txt" in caplog.text


def test_unlabeled_folder_elsewhere(tiny_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_dataset / "unlabeled", tmp_path / "more")
    items = read_unlabeled_folder(tmp_path / "more", tiny_dataset)
    assert [item["file"] for item in items][0] == "../more/frame_12.png"
    assert items[0]["group"] == "../more/frame_12.png"
    (tmp_path / "more_groups.csv").write_text("file,group\nframe_12.png,z\n")
    assert read_unlabeled_folder(tmp_path / "more", tiny_dataset)[0]["group"] == "z"
    (tmp_path / "more/groups.csv").write_text("file,group\nframe_12.png,inside\n")
    assert read_unlabeled_folder(tmp_path / "more", tiny_dataset)[0]["group"] == "inside"
    with pytest.raises(DatasetError, match="is not a folder"):
        read_unlabeled_folder(tmp_path / "nowhere", tiny_dataset)
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetError, match="holds no pictures"):
        read_unlabeled_folder(tmp_path / "void", tiny_dataset)


def entries(numbers: list[int], label: bool = True) -> list[dict]:
    name = {number: f"images/frame_{number:02d}.{'jpg' if number % 4 == 3 else 'png'}" for number in numbers}
    return [{"image": name[n], **({"label": f"masks/frame_{n:02d}.png"} if label else {})} for n in numbers]


def test_datalist(tiny_dataset: Path) -> None:
    training = entries([0, 1]) + entries([8], label=False) + [{"image": str(tiny_dataset / "images/frame_02.png")}]
    training[0] |= {"group": 7, "severity": "2.5", "fold": 3}
    training[1] |= {"group": 0, "label": "masks/frame_01.png"}
    content = {
        "name": "anything",
        "numbers": [1, 2],
        "training": training,
        "validation": [],
        "test": entries([4]),
        "unlabeled": ["images/frame_09.png"],
    }
    path = write_json(tiny_dataset / "list.json", content)
    sections = read_dataset(path)
    assert set(sections) == {"pool", "test", "unlabeled"}  # an empty section counts as absent
    pool = by_file(sections["pool"])
    assert pool["images/frame_00.png"] == {
        "image": str(tiny_dataset / "images/frame_00.png"),
        "label": str(tiny_dataset / "masks/frame_00.png"),
        "file": "images/frame_00.png",
        "group": "7",
        "severity": 2.5,
    }
    assert pool["images/frame_01.png"]["group"] == "0"
    assert "label" not in pool["images/frame_02.png"]
    assert pool["images/frame_02.png"]["group"] == "g1", "groups.csv beside it has the group of what has none in it"
    assert [(item["file"], item["group"]) for item in sections["unlabeled"]] == [("images/frame_09.png", "g0")]
    (tiny_dataset / "groups.csv").unlink()
    assert by_file(read_dataset(path)["pool"])["images/frame_02.png"]["group"] == "images/frame_02.png"


def test_groups_of_a_datalist_that_fit_none_of_its_images_are_refused(tiny_dataset: Path) -> None:
    write_json(tiny_dataset / "datalist.json", {"training": entries([0, 1])})
    (tiny_dataset / "groups.csv").write_text("file,group\nelse.png,g\n")
    with pytest.raises(DatasetError, match=r"groups\.csv: none of its 1 rows names a picture"):
        read_dataset(tiny_dataset)


def test_frames_of_a_clip_in_a_datalist_have_the_group_of_the_clip(tiny_dataset: Path) -> None:
    (tiny_dataset / "images" / "clip.mp4").write_bytes(b"x")
    training = entries([0]) + [{"image": "images/clip.mp4#12", "label": "masks/frame_01.png"}]
    write_json(tiny_dataset / "datalist.json", {"training": training})
    (tiny_dataset / "groups.csv").write_text("file,patient\nclip.mp4,p1\nframe_00.png,p1\n")
    assert {item["group"] for item in read_dataset(tiny_dataset)["pool"]} == {"p1"}


@pytest.mark.parametrize("place", ["unlabeled/groups.csv", "unlabelled_groups.csv"])
def test_groups_of_unlabelled_frames_may_lie_in_their_folder(tiny_dataset: Path, place: str) -> None:
    table = (tiny_dataset / "unlabeled_groups.csv").rename(tiny_dataset / place)
    groups = [item["group"] for item in read_dataset(tiny_dataset)["unlabeled"]]
    assert groups == ["u1", "u1", "u2", "u2"]
    shutil.copy(table, tiny_dataset / "unlabeled_groups.csv")
    with pytest.raises(DatasetError, match=r"both give the groups of unlabeled/; keep the one"):
        read_dataset(tiny_dataset)


@pytest.mark.parametrize("name", ["datalist.json", "dataset.json"])
def test_folder_with_a_datalist(tiny_dataset: Path, name: str) -> None:
    write_json(tiny_dataset / name, {"training": entries([0, 1])})
    assert len(read_dataset(tiny_dataset)["pool"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "found list; expected"),
        ({"train": []}, r"found \['train'\]; expected"),
        ({"training": {}}, "'training' is dict; expected a list"),
        ({"training": [], "val": [{"image": "a"}]}, "unknown section 'val'.*did you mean 'validation'"),
        ({"training": [3]}, r"training\[0\]: found 3; expected"),
        ({"training": [{"label": "a"}]}, r"training\[0\]: found .*expected"),
        ({"training": [{"image": "images/frame_00.png", "label": 5}]}, "label is 5; expected the path"),
        ({"training": [{"image": "gone.png"}]}, r"training\[0\]: .*gone\.png: no such file"),
        ({"training": [{"image": "images/frame_00.png", "label": "gone.png"}]}, r"gone\.png: no such file"),
        ({"training": [{"image": "images/frame_00.png", "severity": "bad"}]}, "severity is 'bad'; expected a number"),
        ({"training": [], "test": [{"image": "images/frame_00.png"}]}, r"test\[0\]: .*has no label"),
        ({"training": [], "unlabeled": entries([0])}, r"unlabeled\[0\]: .*has a label"),
        ({"training": [{"image": "images/frame_00.png", "label": "clip.mp4"}]}, r"clip\.mp4: a video or DICOM"),
        ({"training": []}, "no masks at all"),
    ],
)
def test_bad_datalists(tiny_dataset: Path, content: object, message: str) -> None:
    (tiny_dataset / "clip.mp4").write_bytes(b"x")
    with pytest.raises(DatasetError, match=rf"(?s){message}"):
        read_dataset(write_json(tiny_dataset / "list.json", content))


def test_datalist_reports_all_bad_entries(tiny_dataset: Path) -> None:
    content = {"training": [{"image": f"gone_{n}.png"} for n in range(12)]}
    with pytest.raises(DatasetError, match="12 entries") as error:
        read_dataset(write_json(tiny_dataset / "list.json", content))
    assert str(error.value).count("no such file") == 10
    assert "and 2 more" in str(error.value)


def test_datalist_that_is_not_json(tiny_dataset: Path) -> None:
    (tiny_dataset / "list.json").write_text("{training: 1}")
    with pytest.raises(DatasetError, match=r"list\.json: not a JSON file"):
        read_dataset(tiny_dataset / "list.json")


def test_listing() -> None:
    assert listing(["a", "b"]) == "\n  a\n  b"
    assert listing(["a", "b", "c"], limit=2) == "\n  a\n  b\n  ... and 1 more"


def test_datalist_wins_over_folders_and_says_so(tiny_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_json(tiny_dataset / "datalist.json", {"training": entries([0])})
    with caplog.at_level(logging.INFO):
        read_dataset(tiny_dataset)
    assert "is read from its datalist.json" in caplog.text


def test_real_layouts(shared_dir: Path) -> None:
    sections = read_dataset(shared_dir / "data/wce_bleeding")
    assert (len(sections["pool"]), len(sections["unlabeled"])) == (840, 515)
    assert sum("label" in item for item in sections["pool"]) == 840
    assert len({item["group"] for item in sections["unlabeled"]}) == 23  # patients, by the README of the data
    assert np.array(Image.open(sections["pool"][0]["image"])).shape == (224, 224, 3)


@pytest.mark.parametrize("place", ["images/groups.csv", "Groups.csv"])
def test_group_files_that_would_not_be_read_are_refused(tiny_dataset: Path, place: str) -> None:
    (tiny_dataset / "groups.csv").rename(tiny_dataset / place)
    with pytest.raises(
        DatasetError, match=f"{place}: it is not looked for there; the groups are read from .*groups.csv"
    ):
        read_dataset(tiny_dataset)


def test_a_picture_without_a_row_has_the_group_of_its_sub_folder(tiny_dataset: Path) -> None:
    (tiny_dataset / "images" / "p9").mkdir()
    for folder, suffix in (("images", "png"), ("masks", "png")):
        (tiny_dataset / folder / "p9").mkdir(exist_ok=True)
        for name in ("x", "y"):
            (tiny_dataset / folder / "p9" / f"{name}.{suffix}").write_bytes(
                (tiny_dataset / folder / "frame_00.png").read_bytes()
            )
    pool = by_file(read_dataset(tiny_dataset)["pool"])
    assert pool["images/p9/x.png"]["group"] == pool["images/p9/y.png"]["group"] == "p9"
    assert pool["images/frame_00.png"]["group"] == "g0"


def test_accents_may_be_apart_in_the_name_and_together_in_the_table(tiny_dataset: Path) -> None:
    apart, together = "u\u0308.png", "\u00fc.png"
    for folder in ("images", "masks"):
        (tiny_dataset / folder / "frame_00.png").rename(tiny_dataset / folder / apart)
    table = tiny_dataset / "groups.csv"
    table.write_text(table.read_text().replace("frame_00", together.removesuffix(".png")), encoding="utf-8")
    assert by_file(read_dataset(tiny_dataset)["pool"])[f"images/{apart}"]["group"] == "g0"


def test_a_table_of_another_encoding_is_named(tiny_dataset: Path) -> None:
    (tiny_dataset / "groups.csv").write_bytes("file,group\nmüller.png,a\n".encode("cp1252"))
    with pytest.raises(DatasetError, match=r"groups.csv: not UTF-8 .*save it as CSV UTF-8"):
        read_dataset(tiny_dataset)


def test_nested_sub_folders_are_warned_of(tiny_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one/left", "one/right", "two"):
        place = tiny_dataset / "images" / name
        place.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / "x.png")
    (tiny_dataset / "groups.csv").unlink(missing_ok=True)
    groups = {item["group"] for item in read_dataset(tiny_dataset)["pool"] if item["file"].endswith("x.png")}
    assert groups == {"one/left", "one/right", "two"}
    assert "one/left" in caplog.text and "show the same patient" in caplog.text and "groups.csv" in caplog.text
