"""One door to every kind of file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from make_video import decode_all, make_clip
from monai.transforms import LoadImaged
from PIL import Image

from scripts.io.errors import MediaError
from scripts.io.image_reader import RGBReader, read_rgb
from scripts.io.media import OPEN_FILES, close_media, media_type, open_media


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.PNG", b"", "picture"),
        ("a.jpeg", b"", "picture"),
        ("a.MP4", b"", "video"),
        ("a.mkv", b"", "video"),
        ("a.dcm", b"", "DICOM"),
        ("a.nii.gz", b"", "volume"),
        ("a.nrrd", b"", "volume"),
        ("IM0001", bytes(128) + b"DICM", "DICOM"),
        ("1.2.840.113", bytes(128) + b"DICM", "DICOM"),
        ("clip", b"\0\0\0\x20ftypisom", "video"),
        ("notes.txt", b"text", None),
        ("table.csv", b"", None),
    ],
)
def test_kinds(tmp_path: Path, name: str, content: bytes, kind: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    assert media_type(tmp_path / name) == kind


def test_a_missing_file_has_the_kind_of_its_name(tmp_path: Path) -> None:
    assert media_type(tmp_path / "gone.mp4") == "video"
    assert media_type(tmp_path / "gone") is None
    for name in ("gone.mp4", "gone.dcm", "gone.png"):
        with pytest.raises(MediaError, match=rf"{name}: no such file"):
            read_rgb(tmp_path / name)


def test_frames_by_address(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "cl ip é.mp4", 6)
    expected = decode_all(path)
    for index in (4, 0, 5):
        np.testing.assert_array_equal(read_rgb(f"{path}#{index}"), expected[index])
    load = LoadImaged("image", reader=RGBReader, ensure_channel_first=True)
    found = load({"image": f"{path}#3"})["image"]
    np.testing.assert_array_equal(np.asarray(found), expected[3].transpose(2, 0, 1))
    assert RGBReader().verify_suffix([f"{path}#3", "a.dcm", "b.png"])


def test_a_video_is_no_picture(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 6)
    with pytest.raises(MediaError, match=r"clip\.mp4: it holds 6 frames; say which one: clip\.mp4#0 to #5"):
        read_rgb(path)
    with pytest.raises(MediaError, match=r"clip\.mp4: frame 6 was asked for, it holds 6"):
        read_rgb(f"{path}#6")


def test_a_picture_has_one_frame(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (1, 2, 3)).save(tmp_path / "a.png")
    assert len(open_media(tmp_path / "a.png")) == 1
    assert read_rgb(f"{tmp_path / 'a.png'}#0").tolist() == [[[1, 2, 3]] * 4] * 3
    with pytest.raises(MediaError, match=r"a\.png: frame 1 was asked for; a picture has frame 0 alone"):
        read_rgb(f"{tmp_path / 'a.png'}#1")


def test_files_are_kept_open_and_few_of_them(tmp_path: Path) -> None:
    close_media()
    paths = [make_clip(tmp_path / f"{n}.mp4", 3) for n in range(OPEN_FILES + 1)]
    first = open_media(paths[0])
    assert open_media(paths[0]) is first
    for path in paths:
        open_media(path)
    assert open_media(paths[0]) is not first, "the oldest was closed"
    with pytest.raises(ValueError, match="closed"):
        first.frame(0)
    close_media()


def test_a_file_that_changed_is_opened_anew(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 3)
    assert len(open_media(path)) == 3
    make_clip(path, 5)
    assert len(open_media(path)) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_opens_its_own(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", 8)
    expected = decode_all(path)
    np.testing.assert_array_equal(read_rgb(f"{path}#1"), expected[1])
    inherited = open_media(path)
    child = os.fork()
    if child == 0:  # pragma: no cover - what it finds out is its exit code
        os._exit(0 if open_media(path) is not inherited else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
