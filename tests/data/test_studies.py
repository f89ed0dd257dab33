"""A studies folder of MONAI Label becomes items; only what a person submitted counts as a label."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from make_dicom import pictures, write_dicom
from make_video import make_clip
from PIL import Image

from scripts.data.datalists import build_datalists
from scripts.data.errors import DatasetError
from scripts.data.expansion import expand_media
from scripts.data.layouts import read_dataset
from scripts.data.manifest import read_manifest
from scripts.io.image_reader import read_rgb
from scripts.io.mask_reader import read_mask


def draw(number: int, height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) of noise, and its mask (H, W) 0/1: a box whose place depends on the number."""
    frame = np.random.default_rng(number).integers(0, 255, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[number : number + 9, 3 * number : 3 * number + 12] = 1
    return frame, mask


def write_label(path: Path, masks: np.ndarray) -> Path:
    """(D, H, W) -> NIfTI as the server writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(masks.transpose(2, 1, 0)), np.diag([-1, -1, 1, 1])), path)
    return path


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Six pictures: p0, p1 with PNG labels, p2 .nii.gz, p3 .seg.nrrd, p4 only a proposal, p5 nothing; and clutter."""
    root = tmp_path / "studies"
    final, original = root / "labels/final", root / "labels/original"
    final.mkdir(parents=True)
    original.mkdir()
    for number in range(6):
        frame, mask = draw(number)
        Image.fromarray(frame).save(root / f"p{number}.{'jpg' if number == 1 else 'png'}", quality=95)
        if number < 2:
            Image.fromarray(mask * 255).save(final / f"p{number}.png")
        Image.fromarray(255 - mask * 255).save(original / f"p{number}.png")
    write_label(final / "p2.nii.gz", draw(2)[1][None])
    body = draw(3)[1].tobytes()  # NRRD's fastest axis first = the columns of a row
    header = "NRRD0004\ntype: unsigned char\ndimension: 3\nsizes: 56 40 1\nencoding: raw\n\n"
    (final / "p3.seg.nrrd").write_bytes(header.encode() + body)
    (root / "datastore_v2.json").write_text(json.dumps({"name": "new-dataset", "objects": {}}))
    (root / ".lock").touch()
    (root / "sub").mkdir()
    Image.fromarray(draw(9)[0]).save(root / "sub/below.png")
    return root


def test_items(studies: Path, caplog: pytest.LogCaptureFixture) -> None:
    sections = read_dataset(studies)
    assert caplog.text == "" and sections["unlabeled"] == []
    found = {item["file"]: item for item in sections["pool"]}
    assert list(found) == ["p0.png", "p1.jpg", "p2.png", "p3.png", "p4.png", "p5.png"]
    labels = {file: item.get("label") for file, item in found.items()}
    final = studies / "labels/final"
    assert labels == {
        "p0.png": str(final / "p0.png"),
        "p1.jpg": str(final / "p1.png"),
        "p2.png": str(final / "p2.nii.gz"),
        "p3.png": str(final / "p3.seg.nrrd"),
        "p4.png": None,
        "p5.png": None,
    }
    assert found["p0.png"]["image"] == str(studies / "p0.png") and found["p0.png"]["group"] == "p0.png"
    for number, item in enumerate(expand_media(sections)["pool"][:4]):
        np.testing.assert_array_equal(read_mask(item["label"]), draw(number)[1])


def test_without_the_list_of_images(studies: Path) -> None:
    (studies / "datastore_v2.json").unlink()
    assert sum("label" in item for item in read_dataset(studies)["pool"]) == 4


def test_layout_a_wins_where_there_is_images(tiny_dataset: Path) -> None:
    (tiny_dataset / "labels/final").mkdir(parents=True)
    with pytest.raises(DatasetError, match="both masks/ and labels/"):
        read_dataset(tiny_dataset)


def test_groups(studies: Path) -> None:
    (studies / "groups.csv").write_text("file,group\np0,A\np1.jpg,A\np2,B\np3,B\np4,C\np5,C\n")
    assert [item["group"] for item in read_dataset(studies)["pool"]] == ["A", "A", "B", "B", "C", "C"]


def test_no_labels_no_images_and_orphans(studies: Path, caplog: pytest.LogCaptureFixture) -> None:
    (studies / "p2.png").unlink()
    assert "p2.nii.gz" not in str(read_dataset(studies))
    assert "1 labels have no image of their name and are left out:" in caplog.text and "p2.nii.gz" in caplog.text
    for path in (studies / "labels/final").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="no masks at all among 5 training images.*labels/final/, as MONAI Label"):
        read_dataset(studies)
    for path in studies.glob("p*"):
        path.unlink()
    with pytest.raises(DatasetError, match="a studies folder without images"):
        read_dataset(studies)


def test_two_of_one_id_and_foreign_labels(studies: Path) -> None:
    (studies / "labels/final/p0.nii.gz").write_bytes((studies / "labels/final/p2.nii.gz").read_bytes())
    with pytest.raises(DatasetError, match=r"final: p0\.nii\.gz and p0\.png have the same name"):
        read_dataset(studies)
    (studies / "labels/final/p0.nii.gz").unlink()
    (studies / "labels/final/p5.mp4").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"(?s)1 labels are neither pictures nor label volumes.*p5\.mp4"):
        read_dataset(studies)


def test_stacks_and_videos_with_label_volumes(studies: Path) -> None:
    masks = np.stack([draw(number, 24, 40)[1] for number in range(3)])
    write_dicom(studies / "stack.dcm", pictures(3))
    write_label(studies / "labels/final/stack.nii.gz", masks)
    write_dicom(studies / "single.dcm", pictures(1, 40, 56))
    write_label(studies / "labels/final/single.nii.gz", draw(4)[1][None])
    make_clip(studies / "clip.mp4", frames=5)
    found = {item["file"]: item for item in expand_media(read_dataset(studies))["pool"]}
    for number in range(3):
        item = found[f"stack.dcm#{number}"]
        assert item["group"] == "stack.dcm" and "frame_labels" not in item
        np.testing.assert_array_equal(read_rgb(item["image"]), pictures(3)[number])
        np.testing.assert_array_equal(read_mask(item["label"]), masks[number])
    np.testing.assert_array_equal(read_mask(found["single.dcm"]["label"]), draw(4)[1])
    assert "clip.mp4#0" in found and not any("label" in item for file, item in found.items() if "clip" in file)


def test_numbers_of_frames_must_agree(studies: Path) -> None:
    write_dicom(studies / "stack.dcm", pictures(3))
    write_label(studies / "labels/final/stack.nii.gz", np.zeros((2, 24, 40), np.uint8))
    with pytest.raises(DatasetError, match=r"final/stack\.nii\.gz has 2 frames, its image .*/stack\.dcm has 3"):
        expand_media(read_dataset(studies))
    (studies / "stack.dcm").unlink()
    (studies / "labels/final/stack.nii.gz").unlink()
    write_label(studies / "labels/final/p2.nii.gz", np.zeros((2, 40, 56), np.uint8))
    with pytest.raises(DatasetError, match=r"final/p2\.nii\.gz has 2 frames, its image .*/p2\.png has 1"):
        expand_media(read_dataset(studies))


def test_picture_turned_by_exif(studies: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(draw(2)[0]).save(studies / "p2.png", exif=exif)
    with pytest.raises(DatasetError, match=r"p2\.nii\.gz: a label volume for .*p2\.png, which is turned by its EXIF"):
        expand_media(read_dataset(studies))


def test_a_whole_datalist(studies: Path, tmp_path: Path) -> None:
    write_dicom(studies / "stack.dcm", pictures(3))
    masks = np.stack([draw(number, 24, 40)[1] for number in range(3)])
    write_label(studies / "labels/final/stack.nii.gz", masks)
    manifest = tmp_path / "manifest.json"
    sections = build_datalists(studies, split=(0.5, 0.25, 0.25), manifest_path=manifest)
    labelled = [item for name in ("training", "validation", "test") for item in sections[name]]
    assert sorted(item["file"] for item in labelled) == [
        *("p0.png", "p1.jpg", "p2.png", "p3.png"),
        *(f"stack.dcm#{number}" for number in range(3)),
    ]
    assert {"p4.png", "p5.png"} <= {item["file"] for item in sections["unlabeled"]}
    files = {entry["file"]: entry for entry in read_manifest(manifest)["files"]}
    assert files["stack.dcm#1"]["label"] == "labels/final/stack.nii.gz#1"
    assert len(files["stack.dcm#1"]["label_sha256"]) == 64


def test_bad_labels_are_named_once(studies: Path) -> None:
    write_dicom(studies / "stack.dcm", pictures(3))
    many = np.stack([draw(number, 24, 40)[1] * (number + 1) for number in range(3)])
    write_label(studies / "labels/final/stack.nii.gz", many)
    write_label(studies / "labels/final/p2.nii.gz", draw(2)[1][None, :30])
    with pytest.raises(DatasetError, match="^2 files cannot be used") as caught:
        build_datalists(studies)
    assert str(caught.value).count("the label volume has the values 0, 1, 2, 3") == 1
    assert "p2.nii.gz: the mask is 56x30 pixels" in str(caught.value)
    write_label(studies / "labels/final/p2.nii.gz", draw(2)[1][None])
    classes = {0: 0, 1: 1, 2: 1, 3: 1, 255: 1}
    assert build_datalists(studies, split=(1, 0, 0), value_map=classes)["training"]


def test_datalist_json_with_volumes(studies: Path, tmp_path: Path) -> None:
    write_dicom(studies / "stack.dcm", pictures(3))
    masks = np.stack([draw(number, 24, 40)[1] for number in range(3)])
    write_label(studies / "stack_label.nii.gz", masks)
    make_clip(studies / "clip.mp4", frames=5)
    entries = [
        {"image": "stack.dcm", "label": "stack_label.nii.gz"},
        {"image": "p2.png", "label": "labels/final/p2.nii.gz", "group": "g"},
        {"image": "clip.mp4#3", "label": "stack_label.nii.gz#2"},
    ]
    (studies / "list.json").write_text(json.dumps({"training": entries}))
    pool = expand_media(read_dataset(studies / "list.json"))["pool"]
    found = {item["file"]: item["label"].removeprefix(f"{studies}/") for item in pool}
    assert found == {
        "clip.mp4#3": "stack_label.nii.gz#2",
        "p2.png": "labels/final/p2.nii.gz",
        **{f"stack.dcm#{number}": f"stack_label.nii.gz#{number}" for number in range(3)},
    }
    entries[2] = {"image": "clip.mp4", "label": "stack_label.nii.gz"}
    (studies / "list.json").write_text(json.dumps({"training": entries}))
    with pytest.raises(DatasetError, match=r"stack_label\.nii\.gz has 3 frames, its image .*clip\.mp4 has 5"):
        expand_media(read_dataset(studies / "list.json"))


def test_label_volumes_among_the_masks_of_a_folder(tiny_dataset: Path) -> None:
    """Layout (a): masks/frame_00.nii.gz for images/frame_00.png."""
    mask = read_mask(tiny_dataset / "masks/frame_00.png")
    (tiny_dataset / "masks/frame_00.png").unlink()
    write_label(tiny_dataset / "masks/frame_00.nii.gz", mask[None])
    item = expand_media(read_dataset(tiny_dataset))["pool"][0]
    assert item["label"].endswith("masks/frame_00.nii.gz")
    np.testing.assert_array_equal(read_mask(item["label"]), mask)


def test_studies_below_images_do_not_become_pictures(tiny_dataset: Path) -> None:
    """A server that was started on images/ leaves its list and its labels there."""
    (tiny_dataset / "images/datastore_v2.json").write_text("{}")
    (tiny_dataset / "images/labels/original").mkdir(parents=True)
    Image.fromarray(draw(0)[1]).save(tiny_dataset / "images/labels/original/frame_00.png")
    assert len(read_dataset(tiny_dataset)["pool"]) == 12


def test_studies_of_the_server(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("MONAI_LABEL_STUDIES", str(studies))
    for nothing in ("", None):
        sections = build_datalists(nothing, split=(0.5, 0.25, 0.25), manifest_path=tmp_path / "m.json")
        assert sum(len(sections[name]) for name in ("training", "validation", "test")) == 4
    assert f"using {studies}, the folder that MONAI_LABEL_STUDIES names" in caplog.text
    assert read_manifest(tmp_path / "m.json")["sample"] is False


def test_studies_elsewhere_and_a_given_folder(
    studies: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DICOMweb address is no folder: the sample set is used; a given dataset_dir always wins."""
    monkeypatch.setenv("MONAI_LABEL_STUDIES", "http://127.0.0.1:8042/dicom-web")
    build_datalists("", sample_dir=tmp_path / "sample", manifest_path=tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json")["sample"] is True
    monkeypatch.setenv("MONAI_LABEL_STUDIES", str(studies))
    sections = build_datalists(tiny_dataset)
    assert all(item["image"].startswith(str(tiny_dataset)) for item in sections["training"])
