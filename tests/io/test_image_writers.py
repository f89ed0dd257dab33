"""MONAI's SaveImaged with our writers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_sources import make_source
from monai.data import MetaTensor
from monai.transforms import LoadImaged, SaveImaged
from PIL import Image
from pydicom import dcmread
from pydicom.uid import VideoEndoscopicImageStorage

from scripts.io.dicom_codes import SegAlgorithm
from scripts.io.dicom_seg_reader import read_seg
from scripts.io.image_writers import DicomSegWriter, MaskPNGWriter, name_by_address

ALGORITHM = SegAlgorithm("endoscopic_lesion_segmentation", "0.3.0", "ab" * 32, 0.5)
SegWriter = partial(DicomSegWriter, algorithm=ALGORITHM, finding="polyp")


def saver(folder: Path, writer: object, suffix: str) -> SaveImaged:
    return SaveImaged(
        "pred",
        output_dir=folder,
        output_postfix="",
        output_ext=suffix,
        separate_folder=False,
        print_log=False,
        resample=True,
        writer=writer,
        output_name_formatter=name_by_address,
    )


def item(data: np.ndarray, source: object, shape: tuple[int, int] | None = None) -> dict:
    meta = {"filename_or_obj": str(source), "spatial_shape": np.array(shape or data.shape[-2:]), "affine": np.eye(4)}
    return {"pred": MetaTensor(torch.as_tensor(data), meta=meta)}


MASK = np.array([[0, 1, 0, 0], [1, 1, 0, 1]], np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_mask_png(tmp_path: Path, dtype: type) -> None:
    saver(tmp_path, MaskPNGWriter, ".png")(item(MASK[None].astype(dtype), "in/Bild 1 ü.jpg"))
    assert [path.name for path in tmp_path.iterdir()] == ["Bild 1 ü.png"]
    with Image.open(tmp_path / "Bild 1 ü.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), MASK * 255)


def test_mask_png_is_brought_to_the_size_of_the_picture(tmp_path: Path) -> None:
    saver(tmp_path, MaskPNGWriter, ".png")(item(MASK[None], "a.jpg", shape=(4, 8)))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.array(image), MASK.repeat(2, 0).repeat(2, 1) * 255)


def test_frames_of_a_file_get_names_of_their_own(tmp_path: Path) -> None:
    save = saver(tmp_path, MaskPNGWriter, ".png")
    for index in (3, 12):
        save(item(MASK[None], f"in/clip.mp4#{index}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip_frame000003.png", "clip_frame000012.png"]


def test_seg_of_a_frame_that_loadimaged_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 2, 4, 3), np.uint8)
    source = make_source(pixels, VideoEndoscopicImageStorage)
    source.save_as(tmp_path / "cine.dcm", enforce_file_format=True)
    load = LoadImaged("image", reader="scripts.io.image_reader.RGBReader", ensure_channel_first=True)
    image = load({"image": f"{tmp_path}/cine.dcm#3"})["image"]
    np.testing.assert_array_equal(np.asarray(image).transpose(1, 2, 0), pixels[3])
    pred = MetaTensor(torch.as_tensor(MASK[None]), meta=image.meta)
    saver(tmp_path / "out", SegWriter, ".dcm")({"pred": pred})
    written = tmp_path / "out" / "cine_frame000003.dcm"
    read = read_seg(written)
    assert list(read) == [3]
    np.testing.assert_array_equal(read[3], MASK > 0)
    assert dcmread(written).PatientName == source.PatientName


def test_probability_seg(tmp_path: Path) -> None:
    make_source(shape=(1, 2, 4)).save_as(tmp_path / "still.dcm", enforce_file_format=True)
    probability = np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 2, 4)
    writer = partial(DicomSegWriter, algorithm=ALGORITHM, kind="FRACTIONAL")
    saver(tmp_path / "out", writer, ".dcm")(item(probability, tmp_path / "still.dcm"))
    np.testing.assert_allclose(read_seg(tmp_path / "out" / "still.dcm")[0], probability[0], atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("data", "writer", "complaint"),
    [
        (np.full((1, 2, 4), 0.3), MaskPNGWriter, "probabilities"),
        (np.full((1, 2, 4), 0.3), SegWriter, "probabilities"),
        (np.zeros((2, 2, 4)), MaskPNGWriter, "expected one lesion channel"),
        (np.zeros((1, 3, 4)), SegWriter, "the source"),
    ],
)
def test_data_that_is_no_mask_of_the_picture(tmp_path: Path, data: np.ndarray, writer: object, complaint: str) -> None:
    make_source(shape=(1, 2, 4)).save_as(tmp_path / "still.dcm", enforce_file_format=True)
    with pytest.raises(RuntimeError, match=complaint):  # SaveImage wraps what the writer raises
        saver(tmp_path / "out", writer, ".out")(item(data, tmp_path / "still.dcm"))
    assert not list((tmp_path / "out").glob("*"))


def test_seg_needs_a_dicom_source_and_the_frame(tmp_path: Path) -> None:
    Image.fromarray(MASK).save(tmp_path / "a.png")
    with pytest.raises(RuntimeError, match="a.png: not a DICOM file"):
        saver(tmp_path / "out", SegWriter, ".dcm")(item(MASK[None], tmp_path / "a.png"))
    make_source(shape=(5, 2, 4), sop_class=VideoEndoscopicImageStorage).save_as(
        tmp_path / "cine.dcm", enforce_file_format=True
    )
    with pytest.raises(RuntimeError, match="it holds 5 frames; say which one"):
        saver(tmp_path / "out", SegWriter, ".dcm")(item(MASK[None], tmp_path / "cine.dcm"))
