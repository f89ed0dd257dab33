"""Clips that are cut off, damaged, empty, or no clips: what is there is read, what is made up is not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_video import decode_all, make_audio_only, make_clip, numbered_frame, read_number
from PIL import Image

from scripts.io.errors import MediaError
from scripts.io.video_reader import VideoFile


def cut(path: Path, share: float) -> Path:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


def damage(path: Path, number: int, noise: bool) -> Path:
    """Overwrite one packet, in the order of decoding: its second half by noise, or all but its start by zeros."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = places[number]
    start, size = (start + size // 2, size - size // 2) if noise else (start + 8, size - 8)
    data = bytearray(path.read_bytes())
    filling = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8) if noise else np.zeros(size, np.uint8)
    data[start : start + size] = filling.tobytes()
    path.write_bytes(data)
    return path


def readable(video: VideoFile) -> dict[int, np.ndarray]:
    """Every frame that is read, by its number; the others must raise MediaError with number and time."""
    frames = {}
    for index in range(len(video)):
        try:
            frames[index] = video.frame(index)
        except MediaError as error:
            assert f"frame {index} (at {video.time(index):.2f} s) does not decode" in str(error)
    return frames


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "number", "lost"),
    [
        ("p-frame.mp4", {"b_frames": 0}, 10, range(10, 16)),
        ("key frame.mp4", {"b_frames": 0}, 8, range(8, 16)),
        ("b-frame.mp4", {}, 3, (2, 4, 5, 6, 7)),  # decoded fourth, shown third; 3 was decoded before it
        ("mpeg4.avi", {"codec": "mpeg4", "b_frames": 0}, 10, range(10, 16)),
        ("mpeg4.mov", {"codec": "mpeg4", "b_frames": 0}, 10, range(10, 16)),
        ("mkv.mkv", {"b_frames": 0}, 10, range(10, 16)),
        ("by order.avi", {}, 9, range(9, 16)),
    ],
)
def test_damage_reaches_to_the_next_key_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, options: dict, number: int, lost: range, noise: bool
) -> None:
    path = make_clip(tmp_path / name, 24, gop=8, **options)
    whole = decode_all(path)
    with VideoFile(damage(path, number, noise)) as video:
        assert len(video) == 24
        frames = readable(video)
        for index, frame in frames.items():
            np.testing.assert_array_equal(frame, whole[index], err_msg=f"frame {index} is not what was recorded")
        missing = set(range(24)) - set(frames)
        assert set(lost) <= missing | set(range(number)), "pixels that were made up came out"
        # FFmpeg may drop the two frames that wait for their turn when a key frame turns out broken.
        assert missing <= set(range(min(lost) - 2, max(lost) + 1))
        for index in (23, *lost, 1, max(lost) + 1):  # in another order it is the same
            if index in frames:
                np.testing.assert_array_equal(video.frame(index), whole[index])
            else:
                with pytest.raises(MediaError, match=rf"frame {index} .*copy the clip again"):
                    video.frame(index)


def test_b_frames_before_a_damaged_reference_do_not_come_out(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 24, gop=24, b_frames=2, options={"x264-params": "b-adapt=0:b-pyramid=none"})
    whole = decode_all(path)
    with av.open(str(path)) as container:
        order = [packet.pts for packet in container.demux(video=0) if packet.size]
    stamps = sorted(order)
    number = next(n for n in range(8, 24) if order[n + 1] < order[n])  # a P frame, and B frames shown before it
    with VideoFile(damage(path, number, noise=True)) as video:
        frames = readable(video)
    assert stamps.index(order[number]) not in frames
    assert stamps.index(order[number + 1]) not in frames
    for index, frame in frames.items():
        np.testing.assert_array_equal(frame, whole[index])


def test_cut_off_with_the_header_in_front(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_clip(tmp_path / "a.mp4", 40, b_frames=0, container_options={"movflags": "faststart"})
    whole = decode_all(path)
    with VideoFile(cut(path, 0.8)) as video:
        found = len(video)
        assert 1 < found < 40
        assert video.info.declared_frames == 40
        warning = f"truncated: it holds {found} frames, its header says 40"
        assert video.info.warnings == (warning,)
        assert any(warning in record.message for record in caplog.records)
        frames = readable(video)
        assert len(frames) >= found - 1  # the last one may be cut
        for index, frame in frames.items():
            np.testing.assert_array_equal(frame, whole[index])


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.avi", {"codec": "mpeg4", "b_frames": 0}), ("a.mkv", {"b_frames": 0}), ("a.webm", {"codec": "libvpx-vp9"})],
)
def test_cut_off_without_a_count_in_front(tmp_path: Path, name: str, options: dict) -> None:
    path = make_clip(tmp_path / name, 60, **options)
    with VideoFile(cut(path, 0.8)) as video:
        assert 1 < len(video) < 60
        assert video.info.warnings[0].startswith(f"truncated: it holds {len(video)} frames")
        assert "its header says" in video.info.warnings[0]
        assert read_number(video.frame(len(video) - 2)) == len(video) - 2


def with_dropped_frames(path: Path, codec: str, b_frames: int) -> Path:
    """A clip of 25 frames/s whose recorder dropped frames 4, 5, 10 and 11 of 60: AVI has empty packets for them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = 64, 96
        stream.pix_fmt, stream.codec_context.max_b_frames, stream.codec_context.gop_size = "yuv420p", b_frames, 8
        for number in range(60):
            if number not in (4, 5, 10, 11):
                frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("codec", "b_frames"), [("mpeg4", 0), ("libx264", 0), ("libx264", 2)])
def test_dropped_frames_of_an_avi_are_not_missing(tmp_path: Path, codec: str, b_frames: int) -> None:
    path = with_dropped_frames(tmp_path / "a.avi", codec, b_frames)
    with VideoFile(path) as video:
        assert len(video) == 56 and video.info.declared_frames >= 60 and not video.info.warnings
        assert read_number(video.frame(4)) == 6
        assert b_frames or video.time(4) == pytest.approx(6 / 25)
    with VideoFile(cut(path, 0.8)) as video:
        assert video.info.warnings[0].startswith(f"truncated: it holds {len(video)} frames")


def test_a_whole_clip_has_no_warning(tmp_path: Path) -> None:
    for name, options in (("a.mkv", {}), ("b.webm", {"codec": "libvpx-vp9"}), ("c.mkv", {"audio": True})):
        with VideoFile(make_clip(tmp_path / name, 10, **options)) as video:
            assert not video.info.warnings


def test_cut_off_before_the_header(tmp_path: Path) -> None:
    path = cut(make_clip(tmp_path / "cut off.mp4", 40), 0.6)
    with pytest.raises(MediaError, match=r"cut off\.mp4: not a video .*cut off before its header.*copy it again"):
        VideoFile(path)


def test_no_frame_in_it(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", 3)
    with av.open(str(path)) as container:
        first = next(container.demux(video=0)).pos
    path.write_bytes(path.read_bytes()[:first])
    with pytest.raises(MediaError, match=r"a\.mkv: the video holds no frame"):
        VideoFile(path)


def test_no_frame_decodes(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", 3, b_frames=0)
    for number in range(3):
        damage(path, number, noise=False)
    with pytest.raises(MediaError, match=r"a\.mp4: none of its 3 frames decodes \(.*copy it again"):
        VideoFile(path)


def test_files_that_are_no_video(tmp_path: Path) -> None:
    make_audio_only(tmp_path / "sound.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "letters.mp4").write_text("no film\n" * 500)
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.mp4", "PNG")
    Image.new("RGB", (64, 64)).save(tmp_path / "photograph.mp4", "JPEG")
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/other.ts\n")
    for name, message in {
        "sound.mp4": "sound only, moving pictures were expected",
        "empty.mp4": r"the file is empty \(0 bytes\)",
        "folder.mp4": "expected a video file, found a folder",
        "missing.mp4": "no such file",
        "letters.mp4": "not a video that can be read",
        "picture.mp4": "not a video that can be read",
        "photograph.mp4": "not a video that can be read",
        "list.mp4": "not a video that can be read",
    }.items():
        with pytest.raises(MediaError, match=rf"{name}: {message}"):
            VideoFile(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "codec", "known", "unknown"), [("a.avi", "mpeg4", b"FMP4", b"ZZZZ"), ("a.mp4", "libx264", b"avc", b"evc")]
)
def test_missing_decoder(tmp_path: Path, name: str, codec: str, known: bytes, unknown: bytes) -> None:
    path = make_clip(tmp_path / name, 5, codec=codec)
    path.write_bytes(path.read_bytes().replace(known, unknown))
    said = "ZZZZ" if name == "a.avi" else "evc1"
    with pytest.raises(MediaError, match=rf"no decoder for its codec {said}; convert it .*libx264.*PyAV"):
        VideoFile(path)
