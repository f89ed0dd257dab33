"""Label volumes give the mask of each frame upright; what is no label map is refused with its cure."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_env import run_in_label_env
from monai.transforms import LoadImaged

from scripts.io.errors import MediaError
from scripts.io.label_volume import LabelVolume
from scripts.io.mask_reader import MaskReader, read_mask
from scripts.io.media import close_media

# 3 frames of 2 rows and 4 columns, none a mirror of another
TRUTH = np.array(
    [[[0, 1, 1, 0], [0, 0, 0, 1]], [[0, 0, 0, 0], [0, 0, 0, 0]], [[1, 0, 0, 0], [0, 0, 1, 0]]], np.uint8
)  # (D, H, W)
ARRAY = TRUTH.transpose(2, 1, 0)  # (W, H, D)


def write_nifti(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([-1, -1, 1, 1])), path)
    return path


def write_nrrd(path: Path, array: np.ndarray, lines: str = "", kind: str = "unsigned char") -> Path:
    header = f"NRRD0004\ntype: {kind}\ndimension: {array.ndim}\nsizes: {' '.join(map(str, array.shape))}\n{lines}"
    path.write_bytes(f"{header}endian: little\nencoding: raw\n\n".encode() + array.tobytes(order="F"))
    return path


@pytest.mark.parametrize("high", [1, 2, 255])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, suffix: str, kind: type, high: int) -> None:
    path = write_nifti(tmp_path / f"ein Label ä{suffix}", (ARRAY * np.uint8(high)).astype(kind))
    for index in (2, 0, 1):
        found = read_mask(f"{path}#{index}")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, TRUTH[index])


def test_a_forked_worker_removes_its_own_unpacked_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As workers of a data loader do, that are forked while the parent has the volume open."""
    unpacked = tmp_path / "tmp"
    unpacked.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(unpacked))
    close_media()
    path = write_nifti(tmp_path / "a.nii.gz", ARRAY)
    read_mask(f"{path}#0")
    worker = multiprocessing.get_context("fork").Process(target=read_mask, args=(f"{path}#1",))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    np.testing.assert_array_equal(read_mask(f"{path}#2"), TRUTH[2])
    assert len(list(unpacked.iterdir())) == 1
    close_media()
    assert not list(unpacked.iterdir())


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nrrd", "unsigned char"), ("a.seg.nrrd", "unsigned char"), ("b.nrrd", "short")]
)
def test_nrrd(tmp_path: Path, name: str, kind: str) -> None:
    array = ARRAY.astype(np.int16 if kind == "short" else np.uint8)
    path = write_nrrd(tmp_path / name, array, "kinds: domain domain domain\n", kind)
    for index in range(3):
        np.testing.assert_array_equal(read_mask(f"{path}#{index}"), TRUTH[index])


def test_one_frame_needs_no_number(tmp_path: Path) -> None:
    flat = ARRAY[:, :, 2]
    for path in (
        write_nifti(tmp_path / "a.nii.gz", flat),
        write_nifti(tmp_path / "b.nii.gz", flat[:, :, None]),
        write_nifti(tmp_path / "c.nii.gz", flat[:, :, None, None]),
        write_nrrd(tmp_path / "a.nrrd", flat),
        write_nrrd(tmp_path / "b.nrrd", flat[:, :, None]),
    ):
        np.testing.assert_array_equal(read_mask(path), TRUTH[2])
        np.testing.assert_array_equal(read_mask(f"{path}#0"), TRUTH[2])
        with pytest.raises(MediaError, match=rf"{path.name}: frame 1 was asked for"):
            read_mask(f"{path}#1")
    whole = write_nifti(tmp_path / "whole.nii.gz", ARRAY)
    with pytest.raises(MediaError, match=r"whole\.nii\.gz: a label volume of 3 frames .* whole\.nii\.gz#0 to #2"):
        read_mask(whole)


def test_values_count_over_the_whole_volume(tmp_path: Path) -> None:
    array = ARRAY.copy()
    array[0, 0, 2] = 7  # frame 0 alone would pass
    path = write_nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(MediaError, match=r'a\.nii\.gz: the label volume has the values 0, 1, 7.*value_map.*"2": 1'):
        read_mask(f"{path}#0")
    np.testing.assert_array_equal(read_mask(f"{path}#2", {"0": 0, "1": 0, "7": 1})[:, 0], [1, 0])
    with pytest.raises(MediaError, match="values 7 that value_map"):
        read_mask(f"{path}#2", {0: 0, 1: 1})
    empty = write_nifti(tmp_path / "empty.nii", np.zeros((4, 2, 1), np.uint8))
    full = write_nifti(tmp_path / "full.nii", np.full((4, 2, 1), 3, np.uint8))
    assert read_mask(empty).max() == 0 and read_mask(full).min() == 1


def test_layers_and_colours(tmp_path: Path) -> None:
    layers = np.stack([ARRAY, ARRAY])
    paths = [
        write_nrrd(tmp_path / "layers.seg.nrrd", layers, "kinds: list domain domain domain\n"),
        write_nrrd(tmp_path / "three.seg.nrrd", np.stack([ARRAY] * 3), "kinds: list domain domain domain\n"),
        write_nrrd(tmp_path / "plain.nrrd", layers),
        write_nifti(tmp_path / "layers.nii", np.moveaxis(layers, 0, -1)),
        write_nifti(tmp_path / "colours.nii", np.zeros((4, 2, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
    ]
    for path, count in zip(paths, (2, 3, 2, 2, 3), strict=True):
        with pytest.raises(MediaError, match=rf"{path.name}: {count} layers or colours .*label map.*overlapping"):
            LabelVolume(path)


def test_what_is_no_label(tmp_path: Path) -> None:
    for name, array in (
        ("half.nii", ARRAY * 0.5),
        ("negative.nii", -ARRAY.astype(np.int16)),
        ("nan.nii", np.where(ARRAY, np.nan, 0)),
    ):
        with pytest.raises(MediaError, match=rf"{name}: frame 0: values .*expected labels, whole numbers from 0 on"):
            read_mask(f"{write_nifti(tmp_path / name, array)}#0")
    picture = write_nifti(tmp_path / "picture.nii", np.arange(40 * 50, dtype=np.int16).reshape(40, 50, 1))
    with pytest.raises(MediaError, match=r"picture\.nii: more than 1000 different values"):
        read_mask(picture)
    for name in ("gone.nii.gz", "gone.nrrd"):
        with pytest.raises(MediaError, match=f"{name}: no such file"):
            read_mask(tmp_path / name)
    (tmp_path / "cut.nii.gz").write_bytes(write_nifti(tmp_path / "a.nii.gz", ARRAY).read_bytes()[:-20])
    with pytest.raises(MediaError, match=r"cut\.nii\.gz: truncated"):
        read_mask(tmp_path / "cut.nii.gz")


def test_reader_in_monai(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", ARRAY)
    found = LoadImaged("label", reader=MaskReader, ensure_channel_first=True)({"label": f"{path}#2"})["label"]
    np.testing.assert_array_equal(found, TRUTH[2:])


WRITTEN_BY_MONAI_LABEL = """
import numpy, torch
from monailabel.transform.writer import Writer
from pathlib import Path
mask = numpy.array(argument["mask"], numpy.uint8)  # (W, H, D)
affine = numpy.diag([-1.0, -1.0, 1.0, 1.0])
answer = {}
for suffix in (".nii.gz", ".nrrd"):
    data = {"pred": torch.as_tensor(mask), "pred_meta_dict": {"affine": affine}, "result_extension": suffix}
    data |= {"result_dtype": "uint8", "image_path": "a.png"}
    answer[suffix] = Writer(label="pred")(data)[0]
"""


def test_what_monai_label_writes(tmp_path: Path) -> None:
    """The server's own writer, given a mask with the column first."""
    found = run_in_label_env(WRITTEN_BY_MONAI_LABEL, {"mask": json.loads(json.dumps(ARRAY.tolist()))})
    try:
        for suffix, path in found.items():
            assert path.endswith(suffix)
            for index in range(3):
                np.testing.assert_array_equal(read_mask(f"{path}#{index}"), TRUTH[index])
    finally:
        for path in found.values():
            Path(path).unlink()
