"""A final label that training could not read is refused when it is saved, not when everybody's next round starts."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from lesion_label.datastore import LesionDatastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from PIL import Image

from scripts.data.datalists import build_datalists

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:5, 3:7] = 1


@pytest.fixture
def datastore(studies: Path) -> LesionDatastore:
    """image_0 to image_9; turned.jpg, which its EXIF orientation turns; stack.nrrd (RGB) and scan.nrrd (grey)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(studies / "turned.jpg", exif=exif)
    colours = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colours, isVector=True), str(studies / "stack.nrrd"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colours[..., 0].astype(np.int16)), str(studies / "scan.nrrd"))
    return LesionDatastore(str(studies), auto_reload=False)


def picture(folder: Path, values: np.ndarray, name: str = "label.png") -> str:
    Image.fromarray(values).save(folder / name)
    return str(folder / name)


def volume(folder: Path, frames: np.ndarray, spacing: float = 1.0, name: str = "label.nrrd") -> str:
    """(D, H, W) -> a label volume."""
    image = SimpleITK.GetImageFromArray(frames)
    image.SetSpacing((spacing, 1.0, 1.0))
    SimpleITK.WriteImage(image, str(folder / name))
    return str(folder / name)


def refusal(datastore: LesionDatastore, image: str, label: str) -> str:
    """What is said; nothing may be kept."""
    with pytest.raises(MONAILabelException) as caught:
        datastore.save_label(image, label, "final", {})
    assert caught.value.error == MONAILabelError.INVALID_INPUT  # answered with 400
    assert datastore.get_labeled_images() == []
    folder = Path(datastore._datastore.label_path("final"))
    assert not folder.exists() or not list(folder.iterdir())
    said = caught.value.msg
    assert said.startswith(f"the label of image {image} is not saved") and str(Path(label).parent) not in said
    return said


def test_a_mask_that_training_cannot_read(datastore: LesionDatastore, tmp_path: Path) -> None:
    several = SQUARE.copy()
    several[6, 6] = 2
    said = refusal(datastore, "image_1", picture(tmp_path, several))
    assert "the mask has 3 values (0, 1, 2)" in said and "save the mask with 0 and 255 only" in said
    said = refusal(datastore, "image_1", picture(tmp_path, SQUARE[:6]))
    assert "the mask is 8x6 pixels (width x height), its image image_1.png is 8x8; export the mask at" in said
    (tmp_path / "half.png").write_bytes(Path(picture(tmp_path, SQUARE)).read_bytes()[:50])
    assert "the label" in refusal(datastore, "image_1", str(tmp_path / "half.png"))
    (tmp_path / "seg.DCM").write_bytes(b"\0" * 128 + b"DICM")
    said = refusal(datastore, "image_1", str(tmp_path / "seg.DCM"))
    assert "a DICOM file; expected a mask (.png) or a label volume" in said


@pytest.mark.parametrize("image", ["stack", "scan"])
def test_a_label_of_several_frames(datastore: LesionDatastore, image: str, tmp_path: Path) -> None:
    frames = np.stack([SQUARE, 0 * SQUARE, SQUARE, SQUARE])
    said = refusal(datastore, image, volume(tmp_path, frames[:2]))
    assert f"the label has 2 frames, its image {image}.nrrd has 4" in said
    said = refusal(datastore, image, picture(tmp_path, SQUARE))
    assert "which has 4 frames" in said and "Save the label of all its frames as one label volume" in said
    said = refusal(datastore, image, volume(tmp_path, frames[:, :6]))
    assert "the mask is 8x6 pixels" in said
    frames[2, 0, 0] = 2
    said = refusal(datastore, image, volume(tmp_path, frames))
    assert "has the values 0, 1, 2, expected 0 and one other" in said and "export one segment alone" in said


def test_the_geometry_of_a_label_counts_where_that_of_the_image_does(
    datastore: LesionDatastore, tmp_path: Path
) -> None:
    frames = np.stack([SQUARE] * 4)
    assert "its affine differs" in refusal(datastore, "scan", volume(tmp_path, frames, spacing=0.5))
    assert datastore.save_label("stack", volume(tmp_path, frames, spacing=0.5), "final", {}) == "stack"


def test_what_is_kept_can_be_trained_on(datastore: LesionDatastore, studies: Path, tmp_path: Path) -> None:
    slicer = nib.Nifti1Image(SQUARE.T[..., None], np.diag([-1.0, -1.0, 1.0, 1.0]))  # of a picture, as Slicer saves it
    nib.save(slicer, tmp_path / "label.nii.gz")
    assert "turned by its EXIF orientation" in refusal(datastore, "turned", str(tmp_path / "label.nii.gz"))
    datastore.save_label("image_1", str(tmp_path / "label.nii.gz"), "final", {})
    datastore.save_label("image_2", picture(tmp_path, SQUARE * 255), "final", {})
    datastore.save_label("image_3", picture(tmp_path, 0 * SQUARE), "final", {})  # no lesion
    datastore.save_label("turned", picture(tmp_path, SQUARE), "final", {})
    datastore.save_label("stack", volume(tmp_path, np.stack([SQUARE] * 4), name="label.nii"), "final", {})
    datastore.save_label("scan", volume(tmp_path, np.stack([SQUARE] * 4)), "final", {})
    sections = build_datalists(str(studies), split=(0.5, 0.5, 0.0))
    labelled = sections["training"] + sections["validation"]
    assert sum("label" in item for item in labelled) == 4 + 2 * 4


def test_a_refused_label_leaves_the_one_before_it(datastore: LesionDatastore, tmp_path: Path) -> None:
    datastore.save_label("image_1", picture(tmp_path, SQUARE), "final", {})
    kept = Path(datastore.get_label_uri("image_1", "final")).read_bytes()
    with pytest.raises(MONAILabelException):
        datastore.save_label("image_1", volume(tmp_path, SQUARE[None, :6]), "final", {})
    assert Path(datastore.get_label_uri("image_1", "final")).read_bytes() == kept


def test_proposals_and_labels_of_named_values_pass(studies: Path, tmp_path: Path) -> None:
    several = SQUARE.copy()
    several[6, 6] = 2
    label = picture(tmp_path, several)
    named = LesionDatastore(str(studies), auto_reload=False, value_map={"0": 0, "1": 1, "2": 1})
    named.save_label("image_1", label, "final", {})
    LesionDatastore(str(studies), auto_reload=False).save_label("image_2", label, "original", {})
    assert named.get_labeled_images() == ["image_1"]
