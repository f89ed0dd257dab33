"""The folder datastore: names stay inside, files are whole, a broken index is rebuilt, two threads lose nothing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from lesion_label.datastore import INCOMING, InvalidIdError, LesionDatastore, check_id, check_tag
from monailabel.interfaces.exception import ImageNotFoundException
from PIL import Image


@pytest.fixture
def label(tmp_path: Path) -> str:
    path = tmp_path / "label.png"
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(path)
    return str(path)


@pytest.fixture
def datastore(studies: Path) -> LesionDatastore:
    return LesionDatastore(str(studies), auto_reload=False)


@pytest.mark.parametrize("name", ["a", "frame 1", "polyp#2", "Ä.b", "x" * 200, "1.2.840.5"])
def test_plain_names_pass(name: str) -> None:
    assert check_id(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\\b", "a\x00", ".hidden", " ", "x" * 201, "/etc"])
def test_other_names_do_not(name: str) -> None:
    with pytest.raises(InvalidIdError):
        check_id(name)


@pytest.mark.parametrize("tag", ["..", "a/b", "", "final ", "a.b"])
def test_tags_are_words(tag: str) -> None:
    with pytest.raises(InvalidIdError):
        check_tag(tag)


def test_uppercase_and_dicom_are_listed(studies: Path) -> None:
    for name in ("A.JPG", "b.dcm", "c.jpeg", "d.nii.gz", "e.nrrd", "f.TIF", "notes.txt"):
        (studies / name).write_bytes(b"x")
    found = LesionDatastore(str(studies), auto_reload=False).list_images()
    assert {"A", "b", "c", "d", "e", "f"} <= set(found) and len(found) == 16


def test_hidden_files_are_no_images_and_no_labels(studies: Path, label: str) -> None:
    (studies / "._image_1.png").write_bytes(b"macOS")
    LesionDatastore(str(studies), auto_reload=False).save_label("image_1", label, "final", {})
    folder = studies / "labels" / "final"
    (folder / "._image_1.png").write_bytes(b"macOS")
    (folder / "._image_2.png").write_bytes(b"macOS")
    datastore = LesionDatastore(str(studies), auto_reload=False)
    assert len(datastore.list_images()) == 10 and datastore.get_labeled_images() == ["image_1"]


def test_an_id_keeps_its_inner_suffix(studies: Path) -> None:
    """MONAI Label 0.8.5 removes every ".png" of the name."""
    os.rename(studies / "image_0.png", studies / "clip.png.0001.png")
    datastore = LesionDatastore(str(studies), auto_reload=False)
    assert "clip.png.0001" in datastore.list_images()
    assert Path(datastore.get_image_uri("clip.png.0001")).is_file()


def test_a_label_replaces_the_one_before_it(datastore: LesionDatastore, label: str, tmp_path: Path) -> None:
    datastore.save_label("image_1", label, "final", {"who": "a"})
    other = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.eye(8, dtype=np.uint8)[..., None], np.eye(4)), other)
    datastore.save_label("image_1", str(other), "final", {})
    folder = Path(datastore._datastore.label_path("final"))
    assert [path.name for path in folder.iterdir()] == ["image_1.nii.gz"]
    assert datastore.get_labeled_images() == ["image_1"] and len(datastore.get_unlabeled_images()) == 9
    with pytest.raises(ImageNotFoundException):
        datastore.save_label("image_99", label, "final", {})
    with pytest.raises(InvalidIdError):
        datastore.save_label("image_1", __file__, "final", {})


def test_two_pictures_of_one_id_are_refused(datastore: LesionDatastore, tmp_path: Path) -> None:
    other = tmp_path / "image_1.jpg"
    other.write_bytes(b"x")
    with pytest.raises(InvalidIdError, match="already image_1.png"):
        datastore.add_image("", str(other), {})


def test_another_picture_does_not_take_the_place_of_a_known_one(
    datastore: LesionDatastore, studies: Path, label: str
) -> None:
    datastore.save_label("image_1", label, "final", {})
    before = (studies / "image_1.png").read_bytes()
    with pytest.raises(InvalidIdError, match="image image_1: there is already another image_1.png; give this one"):
        datastore.add_image("image_1", str(studies / "image_2.png"), {})
    assert (studies / "image_1.png").read_bytes() == before
    assert datastore.add_image("image_1", str(studies / "image_1.png"), {"again": True}) == "image_1"
    assert datastore.get_labeled_images() == ["image_1"], "the same picture once more is no other one"


@pytest.mark.parametrize("content", [b"", b'{"name": "new-dataset", "obj', b"[]"])
def test_a_broken_index_is_rebuilt_from_the_files(studies: Path, label: str, content: bytes) -> None:
    LesionDatastore(str(studies), auto_reload=False).save_label("image_3", label, "final", {})
    index = studies / "datastore_v2.json"
    index.write_bytes(content)
    again = LesionDatastore(str(studies), auto_reload=False)
    assert again.get_labeled_images() == ["image_3"] and len(again.list_images()) == 10
    assert json.loads(index.read_text())["objects"].keys() == set(again.list_images())
    assert (studies / "datastore_v2.json.broken").read_bytes() == content


def test_a_copy_that_breaks_off_leaves_the_old_label(
    datastore: LesionDatastore, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastore.save_label("image_2", label, "final", {})
    path = Path(datastore.get_label_uri("image_2", "final"))
    before = path.read_bytes()

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("lesion_label.datastore.os.fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        datastore.save_label("image_2", label, "final", {})
    assert path.read_bytes() == before
    assert not list((Path(datastore._datastore_path) / INCOMING).iterdir())


def test_labels_saved_at_once_are_all_kept(datastore: LesionDatastore, label: str) -> None:
    def save(number: int) -> None:
        datastore.save_label(f"image_{number}", label, "final", {"number": number})
        datastore.update_image_info(f"image_{number}", {"seen": number})
        datastore.refresh()

    threads = [threading.Thread(target=save, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(datastore.get_labeled_images()) == 10
    on_disk = json.loads((Path(datastore._datastore_path) / "datastore_v2.json").read_text())["objects"]
    for number in range(10):
        entry = on_disk[f"image_{number}"]
        assert entry["labels"]["final"]["info"]["number"] == number and entry["image"]["info"]["seen"] == number
