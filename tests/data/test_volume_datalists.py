"""Volumes with several classes as a data set: every slice an item, and what is wrong is said before work starts."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from make_volumes import CLASSES, VALUE_MAP, affine, draw_volume, write_volume, write_volumes

from scripts.data import DatasetError, LeakError, build_datalists
from scripts.io.image_reader import read_rgb
from scripts.io.mask_reader import read_mask

SMALL = {"side": 16, "depth": 5}


def build(root: Path, **options: Any) -> dict[str, list[dict[str, Any]]]:
    settings = {"split": (0.6, 0.2, 0.2), "value_map": VALUE_MAP, "classes": CLASSES, "near_duplicate": 0.0}
    return build_datalists(root, **(settings | options))


def test_every_slice_is_an_item_and_no_volume_is_divided(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_volumes(tmp_path / "data", **SMALL)
    with caplog.at_level(logging.INFO):
        sections = build(root, manifest_path=tmp_path / "manifest.json")
    assert {name: len(items) for name, items in sections.items()} == {
        "training": 20, "unlabeled": 0, "validation": 5, "test": 5,
    }  # fmt: skip
    volumes = [{item["group"] for item in items} for items in sections.values()]
    assert len(set.union(*volumes)) == sum(map(len, volumes)) == 6
    for item in sections["training"]:
        number, index = item["file"].removeprefix("images/v").split(".nii.gz#")
        _, labels = draw_volume(int(number), **SMALL)
        assert np.array_equal(read_mask(item["label"], VALUE_MAP), labels[..., int(index)].T)
        assert read_rgb(item["image"]).shape == (12, 16, 3)
    assert "images/v0.nii.gz: " not in caplog.text, "no line for each of hundreds of volumes"


def test_labelled_fraction_is_of_volumes(tmp_path: Path) -> None:
    sections = build(write_volumes(tmp_path, **SMALL), label_fraction=0.5)
    assert len({item["group"] for item in sections["training"]}) == 2
    assert len({item["group"] for item in sections["unlabeled"]}) == 2


def test_blank_slices_are_no_leak_but_volumes_are(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, **SMALL)  # the last slice of each is blank: the same picture in all six
    manifest = root / "manifest.json"
    build(root, manifest_path=manifest)
    assert "occur more than once" not in manifest.read_text()
    shutil.copy(root / "images/v0.nii.gz", root / "images/w.nii.gz")
    shutil.copy(root / "labels/v0.nii.gz", root / "labels/w.nii.gz")
    with pytest.raises(LeakError, match=r"4 pictures are on two sides of the split.*\n.*(v0|w)\.nii\.gz#0 = "):
        for seed in range(20):  # until the two fall apart
            build(root, seed=seed)


def test_one_slice_volumes(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, side=16, depth=1)
    sections = build(root)
    assert sorted(item["file"] for items in sections.values() for item in items) == [
        f"images/v{number}.nii.gz" for number in range(6)
    ]


def test_unknown_class(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, **SMALL)
    values, labels = draw_volume(3, **SMALL)
    labels[0, 0, 2] = 7
    write_volume(root, 3, values, labels)
    with pytest.raises(DatasetError, match=r"1 files .*\n.*v3\.nii\.gz: the mask has values 7 that value_map \{0: 0,"):
        build(root)


def test_label_of_another_shape(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, **SMALL)
    values, labels = draw_volume(3, **SMALL)
    write_volume(root, 3, values, labels[:-1])
    with pytest.raises(DatasetError, match=r"v3\.nii\.gz#0: the mask is 15x12 pixels .*v3\.nii\.gz#0 is 16x12"):
        build(root)
    write_volume(root, 3, values, labels[..., :-1])
    with pytest.raises(DatasetError, match=r"v3\.nii\.gz has 4 frames, its image .*v3\.nii\.gz has 5"):
        build(root)


def test_label_of_another_affine(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, **SMALL)
    near, far = affine(3), affine(3)
    near[1, 3] += 0.0005
    far[1, 3] += 0.5
    write_volume(root, 3, *draw_volume(3, **SMALL), of_label=near)
    build(root)
    write_volume(root, 3, *draw_volume(3, **SMALL), of_label=far)
    with pytest.raises(
        DatasetError, match=r"1 files .*\n.*labels/v3\.nii\.gz: its affine .*row 1, column 3: -2\.5, .*has -3 "
    ):
        build(root)


def test_affines_of_rgb_volumes_do_not_matter(tmp_path: Path) -> None:
    """annotation tools make them up; the order of the numbers counts"""
    for number in range(3):
        _, labels = draw_volume(number, **SMALL)
        colours = np.random.default_rng(number).integers(0, 255, (*labels.shape, 3)).astype(np.uint8)
        write_volume(tmp_path, number, colours, labels, of_label=np.eye(4))
    build(tmp_path)


def test_voxels_that_are_not_finite(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, **SMALL)
    values, labels = draw_volume(3, **SMALL)
    values[:2, 0, 0] = np.nan
    write_volume(root, 3, values, labels)
    with pytest.raises(DatasetError, match=r"v3\.nii\.gz: 2 of 960 voxels are NaN or infinite"):
        build(root)


def test_classes_and_value_map_must_agree(tmp_path: Path) -> None:
    root = write_volumes(tmp_path, **SMALL)
    with pytest.raises(DatasetError, match=r"has class 2, classes \['background', 'lesion'\] names 2 \(0 to 1\)"):
        build(root, classes=["background", "lesion"])
    with pytest.raises(DatasetError, match=r"no mask can hold the class 'posterior' .*binary masks; give a value_map"):
        build(root, value_map=None)


def test_the_real_data_set(shared_dir: Path, tmp_path: Path) -> None:
    """ten of its volumes, every slice"""
    source = shared_dir / "data/hippocampus_msd"
    files = sorted(path.name for path in (source / "images").glob("*.nii.gz"))[:10]
    items = [{"image": str(source / "images" / name), "label": str(source / "labels" / name)} for name in files]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": items}))
    sections = build(tmp_path)
    slices = sum(nib.load(source / "images" / name).shape[2] for name in files)
    assert sum(map(len, sections.values())) == slices
