"""Masks and overlays are written whole or not at all, under names that do not collide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.io.writers import (
    OutputError,
    OutputNamer,
    ensure_writable,
    write_bytes,
    write_mask_png,
    write_overlay_png,
)

linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where nobody can make files")


def test_mask_by_hand(tmp_path: Path) -> None:
    write_mask_png(tmp_path / "sub" / "m.png", np.array([[True, False, False], [False, True, True]]))
    picture = Image.open(tmp_path / "sub" / "m.png")
    assert picture.mode == "L" and picture.size == (3, 2)  # Pillow: width, height
    assert np.asarray(picture).tolist() == [[255, 0, 0], [0, 255, 255]]


def test_class_index_mask(tmp_path: Path) -> None:
    write_mask_png(tmp_path / "m.png", np.array([[0, 1, 2]], np.int64))
    assert np.asarray(Image.open(tmp_path / "m.png")).tolist() == [[0, 255, 255]]


@pytest.mark.parametrize("mask", [np.zeros((1, 4, 4), bool), np.zeros((4, 4), np.float32), np.zeros(4, bool)])
def test_not_a_mask(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"m\.png.*expected \(H, W\)"):
        write_mask_png(tmp_path / "m.png", mask)
    assert list(tmp_path.iterdir()) == []


def test_overlay_keeps_the_size_and_marks_the_lesion(tmp_path: Path) -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:30] = True
    write_overlay_png(tmp_path / "o.png", image, mask)
    drawn = np.asarray(Image.open(tmp_path / "o.png"))
    assert drawn.shape == (40, 60, 3)
    changed = (drawn != 100).any(axis=2)
    assert changed[8:32, 8:32].any() and not changed[:, 45:].any()


def test_overlay_refuses_what_does_not_fit(tmp_path: Path) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match=r"mask is \(6, 4\), the image \(4, 6\)"):
        write_overlay_png(tmp_path / "o.png", image, np.zeros((6, 4), bool))
    with pytest.raises(ValueError, match="truth is"):
        write_overlay_png(tmp_path / "o.png", image, np.zeros((4, 6), bool), truth=np.zeros((4, 5), bool))
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        write_overlay_png(tmp_path / "o.png", image.astype(np.float32), np.zeros((4, 6), bool))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        write_bytes(tmp_path / "f", content)
    assert (tmp_path / "f").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["f"]


def test_a_folder_in_place_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "m.png").mkdir()
    with pytest.raises(OutputError, match=r"m\.png: cannot be written.*stands in its place"):
        write_mask_png(tmp_path / "m.png", np.ones((2, 2), bool))
    assert os.listdir(tmp_path) == ["m.png"] and os.listdir(tmp_path / "m.png") == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """The process may write no file of more than 1 KB; the kernel then stops the write half way, as on a full disk."""
    (tmp_path / "f").write_bytes(b"old")
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from scripts.io.writers import OutputError, write_bytes;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "try: write_bytes(sys.argv[1], bytes(5000))\n"
        "except OutputError as error: print(error); sys.exit(7)"
    )
    bundle = Path(__file__).parents[2] / "bundle"
    command = [sys.executable, "-B", "-c", program, str(tmp_path / "f")]
    result = subprocess.run(command, cwd=bundle, capture_output=True, text=True)
    assert result.returncode == 7, result.stderr
    assert "disk is not full" in result.stdout
    assert os.listdir(tmp_path) == ["f"] and (tmp_path / "f").read_bytes() == b"old"


def test_ensure_writable(tmp_path: Path) -> None:
    assert ensure_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir() and list((tmp_path / "a" / "b").iterdir()) == []


def test_ensure_writable_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputError, match="file.*give another output_dir"):
            ensure_writable(path)


@linux
def test_unwritable_folder() -> None:
    with pytest.raises(OutputError, match="/proc/results: cannot write.*give another output_dir"):
        ensure_writable("/proc/results")
    with pytest.raises(OutputError, match="/proc/self: cannot write"):  # exists, only the probe can tell
        ensure_writable("/proc/self")
    with pytest.raises(OutputError, match=r"/proc/self/m\.png: cannot be written"):
        write_mask_png("/proc/self/m.png", np.ones((2, 2), bool))


def test_names_mirror_folders() -> None:
    namer = OutputNamer()
    assert namer("a/x.png") == "a/x.png"
    assert namer("b/x.jpeg") == "b/x.png"
    assert namer("Bild äöü 内視鏡 1.tif") == "Bild äöü 内視鏡 1.png"


def test_same_input_same_name() -> None:
    namer = OutputNamer()
    assert [namer("x.jpg"), namer("x.jpg")] == ["x.png", "x.png"]


def test_names_that_differ_in_suffix_or_case_only() -> None:
    namer = OutputNamer()
    assert [namer(f) for f in ("x.png", "x.jpg", "X.png", "x.JPG")] == [
        "x.png",
        "x_jpg.png",
        "X_png.png",
        "x_JPG_2.png",
    ]


def test_announced_names_do_not_depend_on_order() -> None:
    files = ["x.png", "x.jpg", "y.png", "x_png.bmp"]
    expected = {"x.png": "x_png_2.png", "x.jpg": "x_jpg.png", "y.png": "y.png", "x_png.bmp": "x_png.png"}
    for order in (files, files[::-1]):
        namer = OutputNamer(order)
        assert {file: namer(file) for file in order} == expected


def test_frames_of_a_file_have_no_name_of_a_picture_in_a_folder() -> None:
    """cine.dcm#0 and cine/000000.png would both be masks/cine/000000.png."""
    files = ["cine.dcm", "cine/000000.png", "clip.mp4", "Clip/000012.jpg", "IM1", "IM1/000000.dcm"]
    files += ["a.dcm", "a/frame 1.png", "b.png", "b/000001.png", "c.dcm", "c.png", "c_dcm/000003.png"]
    expected = {"cine.dcm": "cine_dcm", "clip.mp4": "clip_mp4", "IM1": "IM1_2", "c.dcm": "c_dcm_2", "c.png": "c_png"}
    for order in (files, files[::-1]):
        namer = OutputNamer(order, suffix="")
        assert {file: namer(file) for file in order} == {
            file: expected.get(file, file.rpartition(".")[0]) for file in files
        }
    namer = OutputNamer(suffix="")  # not announced
    assert [namer("cine.dcm"), namer("cine/000000.png")] == ["cine", "cine/000000_png"]


def test_dots_that_are_no_suffix() -> None:
    namer = OutputNamer()
    names = [
        namer(f) for f in ("1.2.840.10008", "1.2.840.10009", "clip.mp4#000001", "clip.mp4#000002", "v1.2 scan.png")
    ]
    assert names == [
        "1.2.840.10008.png",
        "1.2.840.10009.png",
        "clip.mp4#000001.png",
        "clip.mp4#000002.png",
        "v1.2 scan.png",
    ]


def test_names_are_unique_over_many() -> None:
    files = [
        f"{d}{s}{e}"
        for d in ("", "a/", "a/b/")
        for s in ("x", "X", "x_png", "x.y", ".png")
        for e in (".png", ".jpg", "")
    ]
    for namer in (OutputNamer(), OutputNamer(files)):
        names = [namer(f) for f in files]
        assert len({name.lower() for name in names}) == len(files)
        assert all(Path(n).parent == Path(f).parent for n, f in zip(names, files, strict=True))


@pytest.mark.parametrize("file", ["/etc/x.png", "../x.png", "a/../../x.png", ""])
def test_names_stay_inside(file: str) -> None:
    with pytest.raises(ValueError, match="stays inside"):
        OutputNamer()(file)


def test_a_suffix_of_two_parts_is_one() -> None:
    """Training looks for the masks of images/mr.nii.gz in masks/mr/."""
    assert OutputNamer(suffix="")("a/mr.nii.gz") == "a/mr"
    namer = OutputNamer(("mr.nii.gz", "mr.NRRD", "mr.seg.nrrd"), suffix="")
    assert [namer(file) for file in ("mr.nii.gz", "mr.NRRD", "mr.seg.nrrd")] == ["mr_nii_gz", "mr_NRRD", "mr_seg_nrrd"]
