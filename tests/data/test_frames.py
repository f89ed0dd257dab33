"""The list of frames that inference runs on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from make_video import make_clip
from PIL import Image

from scripts.data.earlier_outputs import TABLES
from scripts.data.errors import DatasetError
from scripts.data.frames import FrameList, Source, list_frames
from scripts.engines.frame_results import FAILURE_COLUMNS, FAILURES_FILE
from scripts.engines.picture_results import RESULT_COLUMNS, RESULTS_FILE
from scripts.engines.video_results import VIDEO_COLUMNS, VIDEOS_FILE
from scripts.io.errors import MediaError
from scripts.io.media import open_media
from scripts.io.table import Table

UNREADABLE = [path for path in Path("/sys/bus").glob("*/drivers_probe") if path.stat().st_mode & 0o777 == 0o200]


def test_a_list_of_many_files() -> None:
    frames = FrameList(
        [Source("/d/a.png", "a.png", "picture"), Source("/d/b.mp4", "b.mp4", "video", range(2, 9, 3)),
         Source("/d/c.mp4", "c.mp4", "video", range(0)), Source("/d/z.png", "z.png", "picture")]
    )  # fmt: skip
    assert len(frames) == 5
    assert [item["image"] for item in frames] == ["/d/a.png", "/d/b.mp4#2", "/d/b.mp4#5", "/d/b.mp4#8", "/d/z.png"]
    assert frames[3] == {"image": "/d/b.mp4#8", "file": "b.mp4#8", "source": "b.mp4", "kind": "video", "frame": 8}
    assert frames[-1]["file"] == "z.png"
    with pytest.raises(IndexError):
        frames[5]
    assert len(FrameList([])) == 0


def test_an_hour_of_video_costs_no_memory() -> None:
    frames = FrameList([Source("/d/b.mp4", "b.mp4", "video", range(10**9))])
    assert len(frames) == 10**9 and frames[10**9 - 1]["frame"] == 10**9 - 1


def folder_of_anything(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "b.png")
    make_clip(root / "sub" / "a.mkv", 10, fps=5)
    (root / "sub" / "broken.mp4").write_bytes(b"x")
    (root / "notes.txt").write_text("no frame")
    (root / ".hidden.png").write_bytes(b"x")
    return root


def test_a_folder(tmp_path: Path) -> None:
    frames = list_frames(folder_of_anything(tmp_path))
    assert [(source.file, source.kind, len(source)) for source in frames.sources] == [
        ("b.png", "picture", 1), ("sub/a.mkv", "video", 10), ("sub/broken.mp4", "video", 1)
    ]  # fmt: skip
    assert frames[11]["image"] == str(tmp_path / "sub/broken.mp4"), "reported when it is read"


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"stride": 4}, [0, 4, 8]),
        ({"start_s": 1.0}, [5, 6, 7, 8, 9]),  # 5 frames a second: frame 5 is shown at 1.0 s
        ({"start_s": 0.5, "end_s": 1.2}, [3, 4, 5]),  # frame 6, at 1.2 s, is outside
    ],
)
def test_window(tmp_path: Path, window: dict[str, float], expected: list[int]) -> None:
    path = make_clip(tmp_path / "a.mp4", 10, fps=5)
    assert [item["frame"] for item in list_frames(path, **window)] == expected


def test_a_clip_outside_the_window_is_one_frame_that_fails(tmp_path: Path) -> None:
    """Left out it would be in no table, its shard without a frame would never finish, nor the merge."""
    for name in ("a.mp4", "b.mp4"):
        make_clip(tmp_path / name, 10, fps=5)
    make_clip(tmp_path / "long.mp4", 60, fps=5)
    frames = list_frames(tmp_path, start_s=9.0)
    assert [item["file"] for item in islice(frames, 2)] == ["a.mp4", "b.mp4"]
    assert frames[0]["error"] == (
        f"{tmp_path}/a.mp4: no frame between start_s 9 and the end (seconds); its 10 frames are shown at 0 to 1.80 s: "
        "give another window, or take the clip out"
    )
    assert frames[2]["image"] == f"{tmp_path}/long.mp4#45" and "error" not in frames[2]
    assert len(list_frames(tmp_path / "a.mp4", start_s=0.41, end_s=0.59)) == 1, "between frames 2 and 3"
    shards = [list_frames(tmp_path, start_s=9.0, shard=number, shards=3) for number in range(3)]
    assert sorted(len(shard) for shard in shards) == [1, 1, 15]


@pytest.mark.parametrize("window", [{"stride": 0}, {"stride": 1.5}, {"start_s": -1.0}, {"start_s": 2.0, "end_s": 2.0}])
def test_senseless_windows(tmp_path: Path, window: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        list_frames(tmp_path, **window)


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for path, message in (("", "dataset_dir is empty"), (tmp_path / "gone", "does not exist"), (tmp_path, "holds no")):
        with pytest.raises(DatasetError, match=message):
            list_frames(path)
    assert list_frames(tmp_path / "notes.txt")[0]["kind"] == "picture", "named by the person: its reader explains"


def test_labels_of_a_studies_folder_are_not_looked_at(tmp_path: Path) -> None:
    """inference.json on the folder that a MONAI Label server works on."""
    for name in ("a.png", "b.png", "labels/final/a.png", "labels/original/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert [item["file"] for item in list_frames(tmp_path)] == ["a.png", "b.png"]
    (tmp_path / "images").mkdir()  # layout (a), of which labels/ holds masks too
    assert len(list_frames(tmp_path)) == 2


def of_lengths(*lengths: int) -> FrameList:
    """Clips a.mp4, b.mp4, ... of so many frames."""
    names = [f"{letter}.mp4" for letter, _ in zip("abcdefgh", lengths, strict=False)]
    sources = [Source(f"/d/{name}", name, "video", range(count)) for name, count in zip(names, lengths, strict=True)]
    return FrameList(sources)


def test_shards_hold_whole_files_in_order_and_about_as_many_frames() -> None:
    frames = of_lengths(10, 90, 20, 30, 40)
    shards = [frames.shard(number, 2) for number in range(2)]
    # 90 | 40, then 30 and 20 to the emptier one: 90 | 90, then 10 to the first
    assert [[source.file for source in shard.sources] for shard in shards] == [
        ["a.mp4", "b.mp4"],
        ["c.mp4", "d.mp4", "e.mp4"],
    ]
    assert [len(shard) for shard in shards] == [100, 90]
    assert all(shard.files == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"] for shard in shards), "names are of all"
    assert sorted(item["file"] for shard in shards for item in shard) == sorted(item["file"] for item in frames)
    assert list(frames.shard(0, 1)) == list(frames)


@pytest.mark.parametrize(
    ("number", "count", "message"),
    [
        (2, 2, "shard is 2 of 2; expected 0 to 1"),
        (-1, 2, "shard is -1"),
        (0, 4, "4 shards of 3 files; expected at most"),
    ],
)
def test_shards_that_cannot_be(number: int, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of_lengths(1, 2, 3).shard(number, count)


@pytest.mark.skipif(not UNREADABLE, reason="needs a file of Linux's /sys that nobody can read")
@pytest.mark.parametrize("name", ["a.dcm", "a.nii.gz", "a.nii", "a.nrrd", "a.mp4"])
def test_a_file_that_may_not_be_read_stays_in(tmp_path: Path, name: str) -> None:
    """One such file in an archive must not end the night's work; it is reported when it is its turn."""
    (tmp_path / name).symlink_to(UNREADABLE[0])
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    assert [item["file"] for item in list_frames(tmp_path)] == [name, "b.png"]
    with pytest.raises(MediaError, match=name):
        open_media(tmp_path / name)


def test_links_are_followed_once_and_broken_ones_reported(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere.png")
    root = tmp_path / "in"
    (root / "a").mkdir(parents=True)
    (root / "a" / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    (root / "a" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (root / "a" / "round").symlink_to(root)
    (tmp_path / "other").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "b.png")
    (root / "z").symlink_to(tmp_path / "other")
    assert list_frames(root).files == ["a/broken.png", "a/linked.png", "z/b.png"]


def test_outputs_of_an_earlier_run_are_no_frames(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "out" / "overlays").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "out" / "overlays" / "a.png")
    assert list_frames(tmp_path, leave_out=tmp_path / "out").files == ["a.png"]
    assert list_frames(tmp_path, leave_out=tmp_path).files == ["a.png", "out/overlays/a.png"]
    assert list_frames(tmp_path / "out", leave_out=tmp_path / "elsewhere").files == ["overlays/a.png"]


def test_outputs_among_the_inputs_are_no_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """--output_dir is --dataset_dir, or lies in it: the second run must see what the first saw."""
    inputs = ["a.png", "masks/of a person.png", "videos/clip.png"]
    for name in (*inputs, *(f"{folder}/a.png" for folder in ("overlays", "segmentations", "videos/clip", "shards/x"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    everything = list_frames(tmp_path).files
    assert len(everything) == 7, "without a table nobody knows that they are outputs"
    table = Table(("file", "error"))
    table.add(file="b.png", error="damaged")
    for name in ("timeline.csv", "episodes.csv", "overlay.mp4", "timeline.png"):
        (tmp_path / "videos/clip" / name).write_bytes(b"x")
    for part in ("shards/0000_of_0002", "earlier"):
        table.write(tmp_path / part / "failures.csv")
        (tmp_path / part / "overlays").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / part / "overlays" / "a.png")
    (tmp_path / "results.csv").write_text("name,score\nsomebody's own\n")
    assert set(list_frames(tmp_path).files) == set(everything) - {"shards/x/a.png"}
    with caplog.at_level("INFO"):
        Table(RESULT_COLUMNS).write(tmp_path / "results.csv")
        assert list_frames(tmp_path).files == ["a.png", "videos/clip/a.png", "videos/clip.png"]
    assert "overlays is of an earlier run and is left out" in caplog.text


def test_tables_are_known_by_their_first_line(tmp_path: Path) -> None:
    written = {RESULTS_FILE: RESULT_COLUMNS, VIDEOS_FILE: VIDEO_COLUMNS, FAILURES_FILE: FAILURE_COLUMNS}
    assert list(TABLES) == list(written)
    for name, columns in written.items():
        Table(columns).write(tmp_path / name)
        assert (tmp_path / name).read_text().startswith(TABLES[name])


def test_a_folder_and_a_link_to_it_have_one_name_on_every_machine(tmp_path: Path) -> None:
    for first in ("folder", "link"):
        root = tmp_path / first
        root.mkdir()
        make = {
            "folder": lambda root=root: (root / "2024").mkdir(),
            "link": lambda root=root: (root / "latest").symlink_to(root / "2024"),
        }
        for name in sorted(make, key=lambda name: name != first):
            make[name]()
        Image.new("RGB", (8, 8)).save(root / "2024" / "a.png")
        assert list_frames(root).files == ["2024/a.png"]


def test_what_is_left_out_is_logged_and_what_no_reader_knows_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("photo.heic", "IM0001", "slide.tga", "notes.txt", "table.csv", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"\0" * 600)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    frames = list_frames(tmp_path)
    assert frames.files == ["a.png", "photo.heic"] and frames[1]["kind"] == "picture"
    assert "2 files in" in caplog.text and "IM0001" in caplog.text and "slide.tga" in caplog.text
    assert "notes.txt" not in caplog.text and "Thumbs" not in caplog.text
