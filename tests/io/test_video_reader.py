"""Frames of good clips by their number, whatever the container, codec, rate, geometry and colours."""

from __future__ import annotations

import io
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from make_video import decode_all, make_clip, numbered_frame, read_number

from scripts.io.video_decoder import FrameDecoder
from scripts.io.video_reader import VideoFile

CLIPS = {
    "h264 b-frames.mp4": {},
    "sound.mp4": {"audio": True},
    "open gop.mp4": {"options": {"x264-params": "open-gop=1"}},
    "intra refresh.mp4": {"options": {"x264-params": "intra-refresh=1"}, "b_frames": 0, "frames": 40},
    "mpeg4.mov": {"codec": "mpeg4"},
    "mpeg4 b-frames.avi": {"codec": "mpeg4"},
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 0},
    "h264 b-frames.avi": {"frames": 12},  # the AVI demuxer's time stamps are wrong: frames count by order
    "h264.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "transport.ts": {},
    "motion jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "b_frames": 0},
    "wmv2.wmv": {"codec": "wmv2", "b_frames": 0},
    "raw.h264": {"frames": 12},  # no time stamps and no index at all
    "odd size.mp4": {"size": (63, 97), "pix_fmt": "yuv444p"},
    "variable rate.mp4": {"times_ms": [0, 40, 90, 200, 210, 500, 520, *range(1000, 1520, 40)]},
    "starts before 0.mp4": {"times_ms": list(range(-120, 680, 40))},  # an edit list leaves frames out
    "Größe 内視鏡.mp4": {},
}


@pytest.mark.parametrize("name", CLIPS)
def test_any_order_equals_plain_decoding(tmp_path: Path, name: str) -> None:
    path = make_clip(tmp_path / name, **{"frames": 20, **CLIPS[name]})
    expected = decode_all(path)
    with VideoFile(path) as video:
        assert len(video) == video.info.frames == len(expected)
        assert (video.info.height, video.info.width) == expected[0].shape[:2]
        assert not video.info.warnings
        last = len(expected) - 1
        forwards, backwards = range(len(expected)), range(last, -1, -3)
        for index in (*forwards, *backwards, last, 0, 7, 7, 5, last, 9, 1):
            np.testing.assert_array_equal(video.frame(index), expected[index], err_msg=f"frame {index}")


def test_frames_show_what_was_written(tmp_path: Path) -> None:
    with VideoFile(make_clip(tmp_path / "a.mp4", 20)) as video:
        assert [read_number(video.frame(index)) for index in range(20)] == list(range(20))
        difference = np.abs(video.frame(5).astype(int) - numbered_frame(5))
        assert difference.mean() < 4


def test_real_clips(shared_dir: Path) -> None:
    for name in ("colonoscopy_polyp.mp4", "nasal/nasal_04.mp4"):
        path = shared_dir / "data" / "video" / name
        expected = decode_all(path)
        with VideoFile(path) as video:
            assert len(video) == len(expected) == video.info.declared_frames
            for index in (*range(len(expected)), 3, len(expected) // 2):
                np.testing.assert_array_equal(video.frame(index), expected[index])


def test_info_and_times(tmp_path: Path) -> None:
    with VideoFile(make_clip(tmp_path / "a.mp4", 20, fps=25)) as video:
        assert video.info.fps == 25
        assert video.info.duration_s == pytest.approx(0.8)
        assert (video.info.codec, video.info.rotation, video.info.pixel_aspect) == ("h264", 0, 1.0)
        assert video.info.declared_frames == 20
        assert video.info.name.endswith("a.mp4")
        assert [video.time(index) for index in (0, 1, 19)] == [0, 0.04, 0.76]
        for index in (-1, 20):
            with pytest.raises(IndexError, match="20 frames"):
                video.frame(index)
            with pytest.raises(IndexError, match="20 frames"):
                video.time(index)
    with pytest.raises(ValueError, match="closed"):
        video.frame(0)


def test_variable_frame_rate(tmp_path: Path) -> None:
    times = [0, 40, 90, 200, 210, 500, 520, 1000]
    with VideoFile(make_clip(tmp_path / "a.mkv", 8, times_ms=times)) as video:
        assert [round(1000 * video.time(index)) for index in range(8)] == times
        assert video.info.fps == pytest.approx(7)  # 7 steps in 1 s


def test_starts_at_zero_seconds(tmp_path: Path) -> None:
    with VideoFile(make_clip(tmp_path / "a.ts", 10)) as video:  # the first stamp of a transport stream is not 0
        assert [video.time(0), video.time(9)] == pytest.approx([0, 0.36])


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_rotation_by_display_matrix(tmp_path: Path, clockwise: int) -> None:
    path = make_clip(tmp_path / "a.mp4", 6, size=(64, 96), clockwise=clockwise)
    with VideoFile(path) as video:
        assert video.info.rotation == clockwise
        assert (video.info.height, video.info.width) == ((64, 96) if clockwise == 180 else (96, 64))
        expected = np.rot90(decode_all(path)[4], -clockwise // 90)
        np.testing.assert_array_equal(video.frame(4), expected)
        assert video.frame(4).flags.c_contiguous


def test_a_turned_recording_is_upright(tmp_path: Path) -> None:
    lying = [np.ascontiguousarray(np.rot90(numbered_frame(number, 96, 64))) for number in range(6)]  # anticlockwise
    path = make_clip(tmp_path / "a.mov", 6, size=(64, 96), pictures=lying, clockwise=90)
    with VideoFile(path) as video:
        assert [read_number(video.frame(index)) for index in range(6)] == list(range(6))


@pytest.mark.parametrize(
    ("aspect", "shape"), [(Fraction(4, 3), (64, 128)), (Fraction(1, 2), (128, 96)), (Fraction(1), (64, 96))]
)
def test_pixels_are_made_square_by_stretching(tmp_path: Path, aspect: Fraction, shape: tuple[int, int]) -> None:
    with VideoFile(make_clip(tmp_path / "a.mp4", 6, size=(64, 96), pixel_aspect=aspect)) as video:
        assert video.info.pixel_aspect == pytest.approx(float(aspect))
        assert (video.info.height, video.info.width) == shape == video.frame(3).shape[:2]
        assert read_number(video.frame(3)) == 3


@pytest.mark.parametrize(
    ("weights", "colour"),
    [
        ((0.2126, 0.0722), {"colorspace": 1, "color_range": 1}),  # BT.709, limited range
        ((0.2126, 0.0722), {"colorspace": 1, "color_range": 2}),  # BT.709, full range
        ((0.299, 0.114), {"colorspace": 6, "color_range": 1}),  # BT.601
        ((0.299, 0.114), {"colorspace": 6, "color_range": 2}),
        ((0.299, 0.114), {}),  # nothing said: BT.601, limited, as FFmpeg has it
    ],
)
def test_colours_by_the_formula(tmp_path: Path, weights: tuple[float, float], colour: dict[str, int]) -> None:
    rgb = np.array([200, 60, 40])
    red, blue = weights
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = (rgb[2] - luma) / (2 * (1 - blue)), (rgb[0] - luma) / (2 * (1 - red))
    if colour.get("color_range") != 2:
        luma, chroma = 16 + luma * 219 / 255, tuple(part * 224 / 255 for part in chroma)
    planes = np.full((96, 96), round(luma), dtype=np.uint8)  # 64 rows of luma, 16 each of Cb and Cr
    planes[64:80], planes[80:] = round(128 + chroma[0]), round(128 + chroma[1])
    path = make_clip(tmp_path / "a.mp4", 2, pictures=[planes] * 2, colour=colour, options={"qp": "0"})
    with VideoFile(path) as video:
        assert np.abs(video.frame(1).reshape(-1, 3).astype(int) - rgb).max() <= 3


def test_binary_stream(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 20)
    expected = decode_all(path)
    stream = io.BytesIO(path.read_bytes())
    stream.seek(100)
    with VideoFile(stream, name="IM0001, encapsulated") as video:
        assert video.info.name == "IM0001, encapsulated"
        for index in (0, 1, 17, 2):
            np.testing.assert_array_equal(video.frame(index), expected[index])


def test_reading_on_never_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mp4", 40, gop=8)
    seeks = []
    seek = FrameDecoder._seek
    monkeypatch.setattr(FrameDecoder, "_seek", lambda self, key: (seeks.append(key), seek(self, key)))
    with VideoFile(path) as video:
        for index in (*range(20), *range(20, 40, 3)):
            video.frame(index)
            video.frame(index)
        assert seeks == [0], "opening stands at the first frame; nothing after it may seek"
        video.frame(0)
        video.frame(39)
        assert seeks == [0, 0, 4], "a far frame is read from the key frame before it, number 4 at frame 32"


def test_memory_is_flat(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 60, size=(240, 320), options={"preset": "ultrafast"})

    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")
    with VideoFile(path) as video:
        sizes = []
        for _ in range(5):
            for index in range(len(video)):
                video.frame(index)
            sizes.append(resident_mb())
    kept = 3 * 60 * 240 * 320 * 1.5 / 2**20  # MB if the decoded frames of three rounds stayed: 20
    assert sizes[4] - sizes[1] < kept / 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_ends_and_opens_its_own(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 20)
    expected = decode_all(path)[3]
    video = VideoFile(path)
    video.frame(1)
    child = os.fork()
    if child == 0:  # pragma: no cover - what it finds out is its exit code
        signal.alarm(60)  # closing the parent's decoder here would wait for its threads for ever
        code = 1
        try:
            try:
                video.frame(2)
            except RuntimeError:
                code = 2
            video.close()
            del video
            with VideoFile(path) as own:
                code = 0 if code == 2 and np.array_equal(own.frame(3), expected) else 3
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(video.frame(3), expected)
    video.close()


@pytest.mark.parametrize("b_frames", [0, 2])
def test_clips_put_one_after_the_other(tmp_path: Path, b_frames: int) -> None:
    parts = [
        make_clip(
            tmp_path / f"{first}.ts", 10, b_frames=b_frames, pictures=[numbered_frame(first + k) for k in range(10)]
        )
        for first in (0, 100)
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with VideoFile(path) as video:
        numbers = [*range(10), *range(100, 110)]
        assert [read_number(video.frame(index)) for index in range(len(video))] == numbers
        assert [read_number(video.frame(index)) for index in (15, 3, 12, 0, 19)] == [105, 3, 102, 0, 109]
        assert video.time(19) == pytest.approx(19 / 25, abs=0.02)
        assert any("time stamps start anew once" in warning for warning in video.info.warnings)
