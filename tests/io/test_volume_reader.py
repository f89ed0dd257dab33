"""RGB volumes of every encoding give the same upright frames; what is neither RGB nor intensities is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.io.errors import MediaError
from scripts.io.volume_reader import VolumeFile

# 3 frames of 4 rows and 5 columns, no two values alike: any flip, turn or channel swap shows
FRAMES = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
ARRAY = FRAMES.transpose(2, 1, 0, 3)  # (W, H, D, 3)
RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA32 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])


def structured(array: np.ndarray, kind: np.dtype) -> np.ndarray:
    """(..., 3) uint8 -> (...) of RGB24 or RGBA32."""
    result = np.zeros(array.shape[:-1], kind)
    for index, channel in enumerate("RGB"):
        result[channel] = array[..., index]
    return result


def write_nifti(path: Path, array: np.ndarray) -> Path:
    image = nib.Nifti1Image(array, np.diag([-1, -1, 1, 1]))
    image.header.set_data_dtype(array.dtype)
    nib.save(image, path)
    return path


def write_nrrd(path: Path, array: np.ndarray, kinds: str = "", kind: str = "unsigned char") -> Path:
    """`array`: the fastest axis first, as NRRD counts them."""
    header = f"NRRD0004\ntype: {kind}\ndimension: {array.ndim}\nsizes: {' '.join(map(str, array.shape))}\n"
    header += f"kinds: {kinds}\n" if kinds else ""
    path.write_bytes(f"{header}endian: little\nencoding: raw\n\n".encode() + array.tobytes(order="F"))
    return path


ENCODINGS = {
    "RGB24": structured(ARRAY, RGB24),
    "RGBA32": structured(ARRAY, RGBA32),
    "(W, H, D, 3)": ARRAY,
    "(W, H, D, 1, 3)": ARRAY[:, :, :, None],
    "float32 as MONAI writes it": ARRAY.astype(np.float32),
    "int16": ARRAY.astype(np.int16),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nifti(tmp_path: Path, encoding: str, suffix: str) -> None:
    path = write_nifti(tmp_path / f"drei Bilder ä{suffix}", ENCODINGS[encoding])
    with VolumeFile(path) as volume:
        assert (len(volume), volume.height, volume.width) == (3, 4, 5)
        for index in (2, 0, 1):
            assert volume.frame(index).dtype == np.uint8
            np.testing.assert_array_equal(volume.frame(index), FRAMES[index])


@pytest.mark.parametrize(
    "array",
    [ARRAY[:, :, 0], ARRAY[:, :, :1, None], structured(ARRAY[:, :, 0], RGB24), structured(ARRAY[:, :, :1], RGB24)],
)
def test_nifti_of_one_picture(tmp_path: Path, array: np.ndarray) -> None:
    volume = VolumeFile(write_nifti(tmp_path / "a.nii.gz", array))
    assert len(volume) == 1
    np.testing.assert_array_equal(volume.frame(0), FRAMES[0])


def test_nifti_unpacked_copy_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    volume = VolumeFile(write_nifti(tmp_path / "a.nii.gz", ARRAY))
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    volume.close()
    VolumeFile(write_nifti(tmp_path / "grey.nii.gz", ARRAY[:, :, :2, 0])).frame(0)
    with pytest.raises(MediaError, match="2 time points"):
        VolumeFile(write_nifti(tmp_path / "film.nii.gz", ARRAY[..., :2]))
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("encoding", ["RGB-color", "vector", "no kinds", "channels last", "one picture"])
def test_nrrd(tmp_path: Path, encoding: str) -> None:
    first = np.moveaxis(ARRAY, -1, 0)  # (3, W, H, D)
    path = {
        "RGB-color": lambda p: write_nrrd(p, first, "RGB-color domain domain domain"),
        "vector": lambda p: write_nrrd(p, first, "vector domain domain domain"),
        "no kinds": lambda p: write_nrrd(p, first),
        "channels last": lambda p: write_nrrd(p, ARRAY, "domain domain domain RGB-color"),
        "one picture": lambda p: write_nrrd(p, first[..., 0], "vector domain domain"),
    }[encoding](tmp_path / "a.nrrd")
    volume = VolumeFile(path)
    frames = FRAMES[:1] if encoding == "one picture" else FRAMES
    assert (len(volume), volume.height, volume.width) == (len(frames), 4, 5)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(volume.frame(index), frame)


def test_nrrd_that_itk_wrote(tmp_path: Path) -> None:
    import itk

    itk.imwrite(itk.image_from_array(FRAMES, is_vector=True), str(tmp_path / "a.nrrd"), compression=True)
    np.testing.assert_array_equal(VolumeFile(tmp_path / "a.nrrd").frame(2), FRAMES[2])


def test_nrrd_bad(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path / "cut.nrrd", np.moveaxis(ARRAY, -1, 0), "vector domain domain domain")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MediaError, match=r"cut\.nrrd: not an NRRD file that can be read"):
        VolumeFile(path)
    with pytest.raises(MediaError, match=r"\(2, 5, 4, 3\) and type uint8 holds neither RGB pictures nor intensities"):
        VolumeFile(write_nrrd(tmp_path / "two.nrrd", np.moveaxis(ARRAY, -1, 0)[:2], "vector domain domain domain"))
    (tmp_path / "text.nrrd").write_text("hello")
    with pytest.raises(MediaError, match=r"text\.nrrd"):
        VolumeFile(tmp_path / "text.nrrd")


@pytest.mark.parametrize("array", [np.zeros((5, 4, 2, 2, 3)), np.zeros(5)])
def test_neither_rgb_nor_intensities(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"a\.nii: NIfTI of shape .* neither RGB pictures nor intensities"):
        VolumeFile(write_nifti(tmp_path / "a.nii", array))


@pytest.mark.parametrize(
    ("scale", "found"), [(1 / 255, "0.470588..0.701961"), (257, "46003"), (-1, "-179"), (np.nan, "nan")]
)
def test_values_that_are_no_8_bit_colours(tmp_path: Path, scale: float, found: str) -> None:
    volume = VolumeFile(write_nifti(tmp_path / "a.nii", ARRAY.astype(np.float32) * np.float32(scale)))
    with pytest.raises(MediaError, match=rf"a\.nii: frame 2: values .*{found}.*expected whole numbers 0\.\.255"):
        volume.frame(2)


def test_frame_outside(tmp_path: Path) -> None:
    volume = VolumeFile(write_nifti(tmp_path / "a.nii", ARRAY))
    for index in (-1, 3):
        with pytest.raises(MediaError, match=rf"frame {index} was asked for; the file has frames 0\.\.2"):
            volume.frame(index)


def test_missing_empty_and_foreign(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        VolumeFile(tmp_path / "gone.nii")
    with pytest.raises(MediaError, match="found a folder"):
        VolumeFile(tmp_path)
    (tmp_path / "empty.nii").touch()
    with pytest.raises(MediaError, match=r"empty\.nii: the file is empty"):
        VolumeFile(tmp_path / "empty.nii")
    (tmp_path / "text.nii").write_text("x" * 1000)
    with pytest.raises(MediaError, match=r"text\.nii: not a NIfTI file"):
        VolumeFile(tmp_path / "text.nii")
    (tmp_path / "text.nii.gz").write_text("x" * 1000)
    with pytest.raises(MediaError, match=r"text\.nii\.gz: truncated, damaged or not packed by gzip"):
        VolumeFile(tmp_path / "text.nii.gz")


def test_truncated(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 40, 3, 3), np.uint8)
    content = write_nifti(tmp_path / "a.nii", noise).read_bytes()
    (tmp_path / "cut.nii").write_bytes(content[:-1])
    with pytest.raises(MediaError, match=rf"cut\.nii: truncated: {len(content)} bytes expected, {len(content) - 1}"):
        VolumeFile(tmp_path / "cut.nii")
    (tmp_path / "head.nii").write_bytes(content[:200])
    with pytest.raises(MediaError, match=r"head\.nii"):
        VolumeFile(tmp_path / "head.nii")
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(content)[:-500])
    with pytest.raises(MediaError, match=r"cut\.nii\.gz: truncated"):
        VolumeFile(tmp_path / "cut.nii.gz")


@pytest.mark.parametrize("field", ["data file: other.raw", "datafile: LIST", "Data File: other.raw"])
def test_nrrd_whose_numbers_lie_elsewhere(tmp_path: Path, field: str) -> None:
    """Such a header could name any file of this machine."""
    (tmp_path / "other.raw").write_bytes(bytes(2 * 3 * 4))
    header = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n{field}\n\n"
    (tmp_path / "x.nrrd").write_text(header)
    with pytest.raises(MediaError, match=r"x.nrrd: its numbers lie in another file"):
        VolumeFile(tmp_path / "x.nrrd")
