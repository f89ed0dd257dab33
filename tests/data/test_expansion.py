"""Videos among the items become frames."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from make_video import make_clip, numbered_frame, read_number
from PIL import Image

from scripts.data.datalists import build_datalists
from scripts.data.errors import DatasetError
from scripts.data.expansion import choose_frames, expand_media
from scripts.data.layouts import read_dataset
from scripts.data.manifest import read_manifest
from scripts.io.image_reader import read_rgb

UNREADABLE = [path for path in Path("/sys/bus").glob("*/drivers_probe") if path.stat().st_mode & 0o777 == 0o200]


class Greys:
    """A file whose frames are of one grey each; None = does not decode."""

    def __init__(self, *levels: int | None) -> None:
        self.levels = levels

    def __len__(self) -> int:
        return len(self.levels)

    def frame(self, index: int) -> np.ndarray:
        from scripts.io.errors import MediaError

        if self.levels[index] is None:
            raise MediaError("broken")
        return np.full((20, 30, 3), self.levels[index], np.uint8)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("levels", "near_duplicate", "chosen", "doubles"),
    [
        ((10, 12, 16, 10, 30), 4.0, [0, 2, 4], 2),  # 12 is 2 from 10; 10 comes back
        ((10, 13, 16, 19), 4.0, [0, 2], 2),  # 16 is 6 from 10, the last one taken; 19 is 3 from 16
        ((10, 14), 4.0, [0, 1], 0),  # 4 is not below 4
        ((10, 10), 0.0, [0, 1], 0),
    ],
)
def test_near_duplicates_by_hand(
    levels: tuple[int, ...], near_duplicate: float, chosen: list[int], doubles: int
) -> None:
    assert choose_frames(Greys(*levels), 1, near_duplicate) == (chosen, doubles, 0)


def test_stride_broken_and_labelled_frames() -> None:
    media = Greys(10, 200, None, 90, 11, 150, None)
    assert choose_frames(media, 2, 4.0) == ([0], 1, 2)  # looks at 0, 2, 4, 6
    # a labelled frame is taken even as a double (4), and even when broken (6): the check of all files names it
    assert choose_frames(media, 2, 4.0, {3, 4, 6}) == ([0, 3, 4, 6], 0, 1)


def clip_of(path: Path, numbers: list[int]) -> Path:
    return make_clip(path, len(numbers), pictures=[numbered_frame(n) for n in numbers], fps=4)


def test_a_video_in_unlabeled(tiny_dataset: Path, tmp_path: Path) -> None:
    clip_of(tiny_dataset / "unlabeled" / "clip.mp4", [0, 0, 255, 255, 1, 1, 0, 0])
    found = build_datalists(tiny_dataset, manifest_path=tmp_path / "manifest.json")
    frames = [item for item in found["unlabeled"] if "clip" in item["file"]]
    # every second frame (2 of 4 a second) is looked at: 0, 255, 1 and 0 again
    assert [item["file"] for item in frames] == [f"unlabeled/clip.mp4#{n}" for n in (0, 2, 4)]
    assert {item["group"] for item in frames} == {"unlabeled/clip.mp4"}
    assert [read_number(read_rgb(item["image"])) for item in frames] == [0, 255, 1]
    assert all("label" not in item and "frame_labels" not in item for item in frames)
    rows = [row for row in read_manifest(tmp_path / "manifest.json")["files"] if "clip" in row["file"]]
    assert len(rows) == 3 and len({row["sha256"] for row in rows}) == 1, "the hash of the clip's file"


def test_all_frames_of_a_video(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "unlabeled" / "clip.mp4", [0, 0, 255, 255])
    options = {"video_frames_per_second": 100.0, "near_duplicate": 0.0}
    found = build_datalists(tiny_dataset, unlabeled_data=True, **options)
    # leaks: the same picture twice among unlabelled frames is no leak
    assert sum("clip" in item["file"] for item in found["unlabeled"]) == 4


def test_masks_of_frames(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "images" / "clip.mp4", [0, 0, 255, 255, 1, 1])
    (tiny_dataset / "masks" / "clip").mkdir()
    for number in (1, 4):
        Image.new("L", (96, 64), 0).save(tiny_dataset / "masks" / "clip" / f"{number:06d}.png")
    pool = expand_media(read_dataset(tiny_dataset))["pool"]
    frames = {item["file"]: item.get("label") for item in pool if "clip" in item["file"]}
    # 0 is a double of the labelled 1 only when it comes after it: frame 0 is looked at first and kept
    assert frames == {
        "images/clip.mp4#0": None,
        "images/clip.mp4#1": str(tiny_dataset / "masks/clip/000001.png"),
        "images/clip.mp4#2": None,
        "images/clip.mp4#4": str(tiny_dataset / "masks/clip/000004.png"),
    }
    assert {item["group"] for item in pool if "clip" in item["file"]} == {"images/clip.mp4"}


def test_masks_of_frames_that_are_not_there(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "images" / "clip.mp4", [0, 1, 2])
    (tiny_dataset / "masks" / "clip").mkdir()
    Image.new("L", (96, 64), 0).save(tiny_dataset / "masks" / "clip" / "000003.png")
    with pytest.raises(DatasetError, match=r"(?s)clip\.mp4 has 3 frames \(0 to 2\).*frame 3: .*000003\.png"):
        expand_media(read_dataset(tiny_dataset))


def test_one_mask_for_a_whole_video(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "images" / "clip.mp4", [0, 1, 2])
    Image.new("L", (96, 64), 0).save(tiny_dataset / "masks" / "clip.png")
    with pytest.raises(DatasetError, match=r"clip\.png: a mask for .*clip\.mp4, which has 3 frames; say which"):
        expand_media(read_dataset(tiny_dataset))


def test_frames_in_a_datalist(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "clip.mp4", [0, 255, 3])
    Image.new("L", (96, 64), 0).save(tiny_dataset / "empty.png")
    entries = [{"image": "clip.mp4#1", "label": "empty.png"}, "clip.mp4#2"]
    (tiny_dataset / "list.json").write_text(json.dumps({"training": entries, "unlabeled": ["images/frame_00.png"]}))
    pool = expand_media(read_dataset(tiny_dataset / "list.json"))["pool"]
    assert [(item["file"], item["group"], "label" in item) for item in pool] == [
        ("clip.mp4#1", "clip.mp4", True),
        ("clip.mp4#2", "clip.mp4", False),
    ]
    (tiny_dataset / "list.json").write_text(json.dumps({"training": [{"image": "clip.mp4", "label": "empty.png"}]}))
    with pytest.raises(DatasetError, match=r"clip\.mp4: a video has many frames and a label belongs to one"):
        read_dataset(tiny_dataset / "list.json")


def test_a_broken_video_is_reported_with_the_other_files(tiny_dataset: Path) -> None:
    (tiny_dataset / "unlabeled" / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    (tiny_dataset / "images" / "frame_00.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"(?s)2 files cannot be used.*frame_00\.png.*broken\.mp4"):
        build_datalists(tiny_dataset)


@pytest.mark.skipif(not UNREADABLE, reason="needs a file of Linux's /sys that nobody can read")
def test_files_that_may_not_be_read_are_reported_together(tiny_dataset: Path) -> None:
    for name in ("cine.dcm", "stack.nii.gz"):
        (tiny_dataset / "unlabeled" / name).symlink_to(UNREADABLE[0])
    picture = tiny_dataset / "images" / "frame_01.png"
    picture.unlink()
    picture.symlink_to(UNREADABLE[0])  # whose orientation is asked for, since its label is a volume
    (tiny_dataset / "masks" / "frame_01.png").unlink()
    nib.save(nib.Nifti1Image(np.zeros((72, 72, 1), np.uint8), np.eye(4)), tiny_dataset / "masks" / "frame_01.nii.gz")
    with pytest.raises(DatasetError, match=r"(?s)3 files cannot be used.*frame_01\.png.*cine\.dcm.*stack\.nii\.gz"):
        build_datalists(tiny_dataset)


def test_numbers_without_sense() -> None:
    for options in ({"frames_per_second": 0.0}, {"near_duplicate": -1.0}):
        with pytest.raises(ValueError, match="expected above 0"):
            expand_media({}, **options)


def test_several_masks_of_one_picture_are_no_frames(tiny_dataset: Path) -> None:
    """masks/case/1.png and 2.png, one a lesion, beside images/case.png: not to be taken for a frame without masks"""
    mask = tiny_dataset / "masks" / "frame_00.png"
    (tiny_dataset / "masks" / "frame_00").mkdir()
    for number in (1, 2):
        (tiny_dataset / "masks" / "frame_00" / f"{number}.png").write_bytes(mask.read_bytes())
    mask.unlink()
    with pytest.raises(DatasetError, match=r"(?s)frame_00.png is one picture.*several masks.*frame_00/1.png.*/2.png"):
        build_datalists(tiny_dataset)


def test_two_masks_for_one_frame_are_refused(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "images" / "clip.mp4", [0, 1, 2])
    (tiny_dataset / "masks" / "clip").mkdir()
    for name in ("1.png", "000001.png"):
        Image.new("L", (96, 64), 0).save(tiny_dataset / "masks" / "clip" / name)
    with pytest.raises(DatasetError, match=r"clip/000001\.png and clip/1\.png are both masks of frame 1 of clip\.mp4"):
        read_dataset(tiny_dataset)


def test_a_label_volume_beside_masks_of_single_frames_is_refused(tiny_dataset: Path) -> None:
    clip_of(tiny_dataset / "images" / "clip.mp4", [0, 1, 2])
    (tiny_dataset / "masks" / "clip").mkdir()
    Image.new("L", (96, 64), 255).save(tiny_dataset / "masks" / "clip" / "000001.png")
    nib.save(nib.Nifti1Image(np.zeros((96, 64, 3), np.uint8), np.eye(4)), tiny_dataset / "masks" / "clip.nii.gz")
    with pytest.raises(DatasetError, match=r"(?s)clip\.nii\.gz: a label volume.*keep one of both.*000001\.png"):
        expand_media(read_dataset(tiny_dataset))
