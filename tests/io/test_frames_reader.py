"""All frames of a file, upright and in order, with metadata as annotation tools index volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from label_env import run_in_label_env
from make_dicom import make_clip, pictures, write_dicom
from monai.transforms import LoadImaged
from PIL import Image
from pydicom.uid import MPEG4HP41, JPEG2000Lossless, generate_uid

from scripts.io.errors import MediaError
from scripts.io.frames_reader import FramesReader, read_frames

IDENTITY_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def test_picture(tmp_path: Path) -> None:
    rgb = pictures()[0]
    Image.fromarray(rgb).save(tmp_path / "a b.png")
    pixels, affine = read_frames(tmp_path / "a b.png")
    np.testing.assert_array_equal(pixels, rgb[None])
    np.testing.assert_array_equal(affine, IDENTITY_LPS)


@pytest.mark.parametrize("frames", [1, 3])
def test_dicom(tmp_path: Path, frames: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", pictures(frames), syntax=JPEG2000Lossless)
    pixels, affine = read_frames(path)
    np.testing.assert_array_equal(pixels, pictures(frames))
    np.testing.assert_array_equal(affine, IDENTITY_LPS)


def test_volumes(tmp_path: Path) -> None:
    rgb = pictures(3)
    array = rgb.transpose(2, 1, 0, 3)
    structured = np.zeros(array.shape[:3], RGB24)
    for index, channel in enumerate("RGB"):
        structured[channel] = array[..., index]
    place = np.array([[0, -3, 0, 7], [2, 0, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1.0]])
    for name, values in (("a.nii", structured), ("a.nii.gz", structured), ("b.nii.gz", array[:, :, :, None])):
        nib.save(nib.Nifti1Image(values, place), tmp_path / name)
        pixels, affine = read_frames(tmp_path / name)
        np.testing.assert_array_equal(pixels, rgb)
        np.testing.assert_allclose(affine, place)
        one, moved = read_frames(f"{tmp_path / name}#2")
        np.testing.assert_array_equal(one, rgb[2:])
        np.testing.assert_allclose(moved @ [0, 0, 0, 1], [7, 8, 9 + 2 * 4, 1])
    header = "NRRD0004\ntype: unsigned char\ndimension: 4\nsizes: 3 40 24 3\nkinds: vector domain domain domain\n"
    path = tmp_path / "a.nrrd"
    path.write_bytes(f"{header}encoding: raw\n\n".encode() + np.moveaxis(array, -1, 0).tobytes(order="F"))
    np.testing.assert_array_equal(read_frames(path)[0], rgb)


WRITE_AS_MONAI_LABEL = """
import SimpleITK
for source, target in argument:
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(source)
    SimpleITK.WriteImage(reader.Execute(), target)
answer = True
"""


def test_nifti_that_simple_itk_wrote(tmp_path: Path) -> None:
    """MONAI Label's DICOMweb datastore passes series on as (W, H, D, 1, 3) NIfTI: the same pixels at the same place."""
    geometry = {"ImagePositionPatient": [10, 20, 30], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    geometry |= {"PixelSpacing": [0.5, 0.25]}
    sources = [
        write_dicom(tmp_path / "one.dcm", pictures(1)),
        write_dicom(tmp_path / "three.dcm", pictures(3)),
        write_dicom(tmp_path / "placed.dcm", pictures(3), sop_class="1.2.840.10008.5.1.4.1.1.7", **geometry),
    ]
    pairs = [(str(path), str(path.with_suffix(".nii.gz"))) for path in sources]
    assert run_in_label_env(WRITE_AS_MONAI_LABEL, pairs)
    assert nib.load(pairs[1][1]).shape == (40, 24, 3, 1, 3)
    for source, target in pairs:
        (pixels, affine), (expected, place) = read_frames(target), read_frames(source)
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_allclose(affine, place, atol=1e-5)
    assert place[0, 3] == -10


def write_series(folder: Path, numbers: list[int | None], step: float | None = None) -> np.ndarray:
    """Frame k as a file of its own with Instance Number numbers[k], file names in another order."""
    rgb, series = pictures(len(numbers)), generate_uid()
    folder.mkdir()
    for index, number in enumerate(numbers):
        place = {} if step is None else {"ImagePositionPatient": [0, 0, 5 + step * index]}
        place |= {} if step is None else {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        name = f"IM{9 - index}.dcm"
        elements = {"InstanceNumber": number, "SeriesInstanceUID": series, **place}
        write_dicom(folder / name, rgb[index][None], sop_class="1.2.840.10008.5.1.4.1.1.7", **elements)
    return rgb


@pytest.mark.parametrize("step", [None, 2.5, -1.0])
def test_series_in_a_folder(tmp_path: Path, step: float | None, caplog: pytest.LogCaptureFixture) -> None:
    rgb = write_series(tmp_path / "series", [2, 9, 10, 11], step)
    (tmp_path / "series" / "notes.txt").write_text("x")
    (tmp_path / "series" / ".lock").touch()
    pixels, affine = read_frames(tmp_path / "series")
    np.testing.assert_array_equal(pixels, rgb)
    expected = IDENTITY_LPS.copy()
    if step is not None:
        expected[2, 2:] = step, 5
    np.testing.assert_allclose(affine, expected)
    assert "1 files are not DICOM" in caplog.text


def test_folders_that_are_no_series(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="empty: expected a folder of DICOM files of one series, found none"):
        read_frames(tmp_path / "empty")
    write_series(tmp_path / "two", [1, 2])
    write_dicom(tmp_path / "two" / "other.dcm", pictures(1))
    with pytest.raises(MediaError, match="two: it holds 2 series .* folder of its own"):
        read_frames(tmp_path / "two")
    write_series(tmp_path / "many", [1, 2])
    write_dicom(tmp_path / "many" / "stack.dcm", pictures(3))
    with pytest.raises(MediaError, match=r"stack\.dcm: 3 frames, in a folder"):
        read_frames(tmp_path / "many")
    rgb = write_series(tmp_path / "double", [None, None])
    np.testing.assert_array_equal(read_frames(tmp_path / "double")[0], rgb[::-1])  # by file name
    assert "Instance Numbers are missing or double" in caplog.text


def test_sizes_that_differ(tmp_path: Path) -> None:
    write_series(tmp_path / "series", [1])
    first = next((tmp_path / "series").iterdir())
    import pydicom

    uid = pydicom.dcmread(first).SeriesInstanceUID
    write_dicom(tmp_path / "series" / "b.dcm", pictures(1, 24, 20), SeriesInstanceUID=uid, InstanceNumber=2)
    with pytest.raises(MediaError, match=r"b\.dcm: frame 0 is 20 x 24 pixels, the first of .*series 40 x 24"):
        read_frames(tmp_path / "series")


def test_video_and_its_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(make_clip(pictures(6, 48, 64), MPEG4HP41))
    pixels, affine = read_frames(path)
    assert pixels.shape == (6, 48, 64, 3)
    np.testing.assert_array_equal(affine, IDENTITY_LPS)
    with pytest.raises(MediaError, match=r"a\.mp4: 6 frames, at most 5 are read at once; .*inference\.json"):
        read_frames(path, max_frames=5)
    size = 48 * 64 * 3
    with pytest.raises(MediaError, match=r"a\.mp4: 6 frames of 64 x 48 pixels need .* GiB"):
        read_frames(path, max_bytes=6 * size - 1)
    assert len(read_frames(path, max_frames=6, max_bytes=6 * size)[0]) == 6
    assert len(read_frames(f"{path}#5", max_frames=1)[0]) == 1
    with pytest.raises(MediaError, match="frame 6 was asked for, it holds 6"):
        read_frames(f"{path}#6")


@pytest.mark.parametrize("image_only", [True, False])
def test_load_imaged(tmp_path: Path, image_only: bool) -> None:
    """MONAI Label switches image_only off after the transform was made."""
    path = write_dicom(tmp_path / "a.dcm", pictures(3))
    load = LoadImaged("image", reader=FramesReader, ensure_channel_first=True, dtype=torch.uint8, image_only=True)
    load._loader.image_only = image_only
    found = load({"image": str(path)})
    assert found["image"].shape == (3, 3, 24, 40) and found["image"].dtype == torch.uint8
    np.testing.assert_array_equal(found["image"].numpy(), pictures(3).transpose(3, 0, 1, 2))
    meta = found["image"].meta if image_only else found["image_meta_dict"]
    assert list(meta["spatial_shape"]) == [40, 24, 3]
    np.testing.assert_array_equal(np.asarray(meta["affine"]), IDENTITY_LPS)
    np.testing.assert_array_equal(np.asarray(meta["original_affine"]), IDENTITY_LPS)
    assert meta["filename_or_obj"] == str(path)


def test_load_imaged_by_name_and_its_errors(tmp_path: Path) -> None:
    load = LoadImaged("image", reader="scripts.io.frames_reader.FramesReader", ensure_channel_first=True)
    for name, content in (("a.png", b""), ("b.dcm", b"x" * 200), ("c.nii", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MediaError, match=name):
            load({"image": str(tmp_path / name)})
    with pytest.raises(MediaError, match=r"gone\.png: no such file"):
        load({"image": str(tmp_path / "gone.png")})
    assert FramesReader().verify_suffix([tmp_path, tmp_path / "a.png"])
    assert not FramesReader().verify_suffix(tmp_path / "table.csv")
