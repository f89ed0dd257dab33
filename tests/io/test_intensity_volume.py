"""Scalar volumes: slices upright, one rule of brightness for the whole volume, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from test_volume_reader import write_nifti, write_nrrd

from scripts.io.errors import MediaError
from scripts.io.image_reader import read_rgb
from scripts.io.volume_reader import VolumeFile

# 1001 x 1 x 1 numbers 0..1000: their 0.5 and 99.5 percentiles are 5 and 995
RAMP = np.arange(1001).reshape(13, 11, 7)


def naive(array: np.ndarray) -> np.ndarray:
    """(W, H, D) -> (D, H, W) uint8, voxel by voxel, percentiles from the sorted list."""
    ordered = sorted(float(value) for value in array.ravel())

    def percentile(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    black, white = percentile(0.005), percentile(0.995)
    result = np.zeros(array.shape[::-1], np.uint8)
    for (i, j, k), value in np.ndenumerate(array):
        result[k, j, i] = round(min(255.0, max(0.0, (float(value) - black) / (white - black) * 255)))
    return result


def test_numbers_a_person_can_check(tmp_path: Path) -> None:
    volume = VolumeFile(write_nifti(tmp_path / "a.nii.gz", RAMP.astype(np.float32)))
    assert volume.scalar and (len(volume), volume.height, volume.width) == (7, 11, 13)
    pixels = {int(RAMP[i, j, k]): volume.frame(k)[j, i] for i, j, k in np.ndindex(RAMP.shape)}
    assert all(len(set(pixel.tolist())) == 1 for pixel in pixels.values()), "grey in three channels"
    assert [int(pixels[value][0]) for value in (0, 5, 500, 995, 1000)] == [0, 0, 128, 255, 255]
    assert int(pixels[5 + 99][0]) == round(99 / 990 * 255)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((".nii", kind) for kind in (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)),
        *((".nii.gz", np.int16), (".nrrd", np.uint8), (".nrrd", np.int16)),
    ],
)
def test_any_number_type_and_container(tmp_path: Path, kind: type, suffix: str) -> None:
    array = np.random.default_rng(0).gamma(2, 20, (5, 4, 6)).astype(kind)
    path = tmp_path / f"a{suffix}"
    names = {np.uint8: "unsigned char", np.int16: "short"}
    write_nrrd(path, array, kind=names[kind]) if suffix == ".nrrd" else write_nifti(path, array)
    expected = naive(array)
    for index in range(6):
        frame = read_rgb(f"{path}#{index}")
        assert frame.dtype == np.uint8 and np.array_equal(frame, np.repeat(expected[index][..., None], 3, axis=2))


def test_scale_and_offset_do_not_matter(tmp_path: Path) -> None:
    """volumes of one scanner differ by orders of magnitude"""
    array = np.random.default_rng(1).normal(100, 20, (8, 9, 5))
    frames = [VolumeFile(write_nifti(tmp_path / f"{k}.nii", array * 10.0**k - k)).frame(2) for k in range(4)]
    for frame in frames[1:]:
        assert np.abs(frame.astype(int) - frames[0]).max() <= 1


def test_the_whole_volume_counts_not_the_slice(tmp_path: Path) -> None:
    array = np.zeros((20, 10, 2))
    array[..., 1] = np.linspace(0, 1000, 200).reshape(20, 10)
    volume = VolumeFile(write_nifti(tmp_path / "a.nii", array))
    assert volume.frame(0).max() == 0 and volume.frame(1).max() == 255


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1), (5, 4, 1, 1)])
def test_one_slice(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(20.0).reshape(shape)
    frame = read_rgb(write_nifti(tmp_path / "a.nii.gz", array))  # without a number: there is one slice alone
    assert np.array_equal(frame[..., 0], naive(array.reshape(5, 4, 1))[0])


def test_trailing_axes_of_length_one(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 4, 6, 1, 1))
    volume = VolumeFile(write_nifti(tmp_path / "a.nii", array))
    assert len(volume) == 6 and np.array_equal(volume.frame(3)[..., 0], naive(array[..., 0, 0])[3])


def test_constant_volume_is_black_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_nifti(tmp_path / "flat.nii", np.full((5, 4, 2), 7.0))
    with caplog.at_level(logging.WARNING):
        assert not VolumeFile(path).frame(1).any() and not VolumeFile(path).frame(0).any()
    assert caplog.text.count("flat.nii: all voxels have the same value") == 1, "once a file"


def test_few_bright_voxels_are_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """both percentiles lie in the background: minimum and maximum take their place"""
    array = np.zeros((20, 20, 5))
    array[3, 4, 1], array[5, 6, 1] = 80.0, 40.0  # 2 of 2000 voxels
    frame = VolumeFile(write_nifti(tmp_path / "few.nii", array)).frame(1)
    assert (frame[4, 3, 0], frame[6, 5, 0], frame.astype(int).sum()) == (255, 128, 3 * (255 + 128))
    assert "few.nii: the 0.5 and 99.5 percentiles are equal" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted(tmp_path: Path, value: float) -> None:
    array = np.ones((5, 4, 6), np.float32)
    array[0, :3, 0] = value
    with pytest.raises(MediaError, match=r"bad\.nii: 3 of 120 voxels are NaN or infinite, expected .*; export"):
        VolumeFile(write_nifti(tmp_path / "bad.nii", array))


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.nii: voxels of type complex64, expected one real number"):
        VolumeFile(write_nifti(tmp_path / "a.nii", np.zeros((5, 4, 6), np.complex64)))
    with pytest.raises(MediaError, match=r"a\.nii: shape \(5, 4, 6, 10\), 10 time points .*save each"):
        VolumeFile(write_nifti(tmp_path / "a.nii", np.zeros((5, 4, 6, 10), np.float32)))
    with pytest.raises(MediaError, match=r"\(5, 4, 6, 2\), 2 time points"):
        VolumeFile(write_nrrd(tmp_path / "a.nrrd", np.zeros((5, 4, 6, 2), np.uint8)))


def test_real_volumes(shared_dir: Path) -> None:
    import nibabel as nib

    for path in sorted((shared_dir / "data/hippocampus_msd/images").glob("*.nii.gz"))[:3]:
        values = np.asarray(nib.load(path).dataobj)
        volume = VolumeFile(path)
        found = np.stack([volume.frame(k)[..., 0] for k in range(len(volume))])
        assert np.array_equal(found, naive(values))
