"""The overlay video: what was added can be watched, and a failure leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from queue import Queue

import av
import numpy as np
import pytest
from make_video import numbered_frame, read_number

from scripts.io.video_reader import VideoFile
from scripts.io.video_writer import OverlayVideo
from scripts.io.writers import OutputError


def test_frames_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "über lay.mp4"
    with OverlayVideo(path, 96, 64, 12.5) as video:
        for number in range(30):
            video.add(numbered_frame(number))
        assert not path.exists(), "it appears when it is whole"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with VideoFile(path) as read:
        assert (read.info.codec, read.info.fps, len(read)) == ("h264", 12.5, 30)
        assert [read_number(read.frame(index)) for index in range(30)] == list(range(30))
        difference = np.abs(read.frame(7).astype(int) - numbered_frame(7))
        assert difference.mean() < 3, "colours survive"
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "playing can begin before all is loaded"


def test_colours_are_said_and_kept(tmp_path: Path) -> None:
    colour = np.array([200, 60, 40])
    with OverlayVideo(tmp_path / "a.mp4", 64, 64, 25) as video:
        for _ in range(3):
            video.add(np.full((64, 64, 3), colour, dtype=np.uint8))
    with VideoFile(tmp_path / "a.mp4") as read:
        assert np.abs(read.frame(1).reshape(-1, 3).astype(int) - colour).max() <= 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)


def test_odd_sizes_repeat_the_edge(tmp_path: Path) -> None:
    with OverlayVideo(tmp_path / "a.mp4", 97, 63, 25) as video:
        video.add(np.full((63, 97, 3), 180, dtype=np.uint8))
    with VideoFile(tmp_path / "a.mp4") as read:
        frame = read.frame(0)
    assert frame.shape == (64, 98, 3)
    assert np.abs(frame.astype(int) - 180).max() <= 3


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.9, 0.91]
    with OverlayVideo(tmp_path / "a.mp4", 96, 64, 25) as video:
        for number, time in enumerate(times):
            video.add(numbered_frame(number), time)
        with pytest.raises(ValueError, match="not after the one before"):
            video.add(numbered_frame(5), 0.91)
    with VideoFile(tmp_path / "a.mp4") as read:
        assert [read.time(index) for index in range(5)] == pytest.approx(times, abs=1e-4)
        assert [read_number(read.frame(index)) for index in range(5)] == list(range(5))


def test_an_added_frame_may_be_changed(tmp_path: Path) -> None:
    frame = np.full((64, 64, 3), 200, dtype=np.uint8)
    with OverlayVideo(tmp_path / "a.mp4", 64, 64, 25) as video:
        for _ in range(5):
            video.add(frame)
        frame[:] = 0
    with VideoFile(tmp_path / "a.mp4") as read:
        assert all(read.frame(index).min() > 190 for index in range(5))


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="elsewhere"), OverlayVideo(path, 96, 64, 25) as video:
        for number in range(20):
            video.add(numbered_frame(number))
        raise RuntimeError("elsewhere")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    video.abort()
    video.close()
    with pytest.raises(ValueError, match="closed"):
        video.add(numbered_frame(0))


def test_an_encoder_that_is_faster_does_not_hide_the_exception(tmp_path: Path) -> None:
    class Emptied(Queue):
        def empty(self) -> bool:
            return False  # as asked just before the encoder took the last frame

    video = OverlayVideo(tmp_path / "a.mp4", 96, 64, 25)
    video._queue.__class__ = Emptied
    with pytest.raises(RuntimeError, match="elsewhere"), video:
        raise RuntimeError("elsewhere")
    assert not list(tmp_path.iterdir())


def test_senseless_input(tmp_path: Path) -> None:
    for size_and_rate in ((0, 64, 25), (64, 1, 25), (64, 64, 0), (64, 64, float("nan"))):
        with pytest.raises(ValueError, match="expected at least 2x2"):
            OverlayVideo(tmp_path / "a.mp4", *size_and_rate)
    with OverlayVideo(tmp_path / "a.mp4", 96, 64, 25) as video:
        for frame in (np.zeros((64, 95, 3), np.uint8), np.zeros((64, 96, 3), np.float32), np.zeros((64, 96), np.uint8)):
            with pytest.raises(ValueError, match=r"expected \(64, 96, 3\) uint8"):
                video.add(frame)
        video.add(numbered_frame(0))


def test_no_frame(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.mp4: .*no frame was added"),
        OverlayVideo(tmp_path / "a.mp4", 96, 64, 25),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_stands_where_the_folder_should(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match=r"a\.mp4: the overlay video cannot be written"):
        OverlayVideo(tmp_path / "out" / "a.mp4", 96, 64, 25)


_FULL_DISK = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from scripts.io.video_writer import OverlayVideo
from scripts.io.writers import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # 12 frames are 50 kB and more, by the encoder's threads
frame = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
try:
    with OverlayVideo(sys.argv[1], 128, 128, 25) as video:
        for _ in range(int(sys.argv[3])):
            video.add(frame)
            frame = np.roll(frame, 17, axis=1) // 2 + frame[::-1] // 2
except OutputError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize(
    "frames", [300, 12]
)  # noticed while frames are added; few frames wait in the encoder until close()
def test_disk_full(tmp_path: Path, frames: int) -> None:
    bundle = Path(__file__).resolve().parents[2] / "bundle"
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path / "a.mp4"), str(bundle), str(frames)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 7, run.stderr
    assert "a.mp4: the overlay video cannot be written (" in run.stdout
    assert "check that the disk is not full" in run.stdout
    assert not list(tmp_path.iterdir())
