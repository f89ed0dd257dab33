"""Predicted classes on disk: the source's shape and affine, and no two volumes under one name."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from scripts.io.class_volume import class_volume_names, write_class_png, write_class_volume
from scripts.io.geometry import read_affine
from scripts.io.label_volume import LabelVolume

AFFINE = np.array([[0.0, -1.5, 0, 3], [1.2, 0, 0, -7], [0, 0, 2.5, 11], [0, 0, 0, 1]])


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 1), (5, 4), (5, 4, 1)])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (0, 0)], ids=str)
def test_it_lies_over_its_source(tmp_path: Path, shape: tuple[int, ...], codes: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    image = nib.Nifti1Image(random.normal(size=shape), AFFINE)
    image.header["descrip"] = b"Doe^Jane"
    for kind, code in zip(("qform", "sform"), codes, strict=True):
        getattr(image, f"set_{kind}")(AFFINE if code else None, code)
    nib.save(image, tmp_path / "mr.nii.gz")
    classes = random.integers(0, 3, (shape[2] if len(shape) > 2 else 1, 4, 5)).astype(np.uint8)
    write_class_volume(tmp_path / "out/mr.nii.gz", dict(enumerate(classes)), tmp_path / "mr.nii.gz")

    written, source = nib.load(tmp_path / "out/mr.nii.gz"), nib.load(tmp_path / "mr.nii.gz")
    assert written.shape == shape and written.get_data_dtype() == np.uint8
    assert np.allclose(written.affine, source.affine, atol=1e-5)
    assert np.allclose(read_affine(tmp_path / "out/mr.nii.gz"), read_affine(tmp_path / "mr.nii.gz"), atol=1e-5)
    for index, expected in enumerate(classes):
        assert np.array_equal(LabelVolume(tmp_path / "out/mr.nii.gz").frame(index), expected), "upright as it was read"
    assert b"Doe" not in written.header.binaryblock, "free text of a header is not copied"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mr.nii.gz"]


def test_slices_that_are_not_there_are_0_and_others_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.arange(120.0).reshape(5, 4, 6), AFFINE), tmp_path / "mr.nii")
    write_class_volume(tmp_path / "o.nii.gz", {1: np.ones((4, 5), np.uint8)}, tmp_path / "mr.nii")
    assert np.asarray(nib.load(tmp_path / "o.nii.gz").dataobj).sum(axis=(0, 1)).tolist() == [0, 20, 0, 0, 0, 0]
    for slices in ({6: np.ones((4, 5), np.uint8)}, {0: np.ones((5, 4), np.uint8)}):
        with pytest.raises(ValueError, match=r"slice \d is .*expected \(4, 5\) .*below 6"):
            write_class_volume(tmp_path / "no.nii.gz", slices, tmp_path / "mr.nii")
    assert not (tmp_path / "no.nii.gz").exists()


def test_names() -> None:
    assert class_volume_names(["a/x.nii.gz", "b/x.nii", "c.nrrd"]) == {
        "a/x.nii.gz": "a/x.nii.gz", "b/x.nii": "b/x.nii.gz", "c.nrrd": "c.nii.gz",
    }  # fmt: skip
    doubled = class_volume_names(["x.nii.gz", "x.nii", "X.nrrd", "x_nii.nii"])
    assert doubled["x.nii.gz"] == "x_nii.gz.nii.gz" and doubled["X.nrrd"] == "X_nrrd.nii.gz"
    assert len({name.lower() for name in doubled.values()}) == 4


def test_png_of_classes(tmp_path: Path) -> None:
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_class_png(tmp_path / "p.png", classes)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "p.png")), classes)
