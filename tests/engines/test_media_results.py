"""What is kept of frames until their file ends, and the clip that is drawn beside."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from make_dicom import pictures, write_dicom
from make_video import decode_all, make_clip, read_number

from scripts.engines.dicom_results import DicomSegResults, PackedFrames
from scripts.engines.frame_result import FrameResult
from scripts.engines.overlay_clip import OverlayClip
from scripts.engines.video_results import VideoResults, frame_rate
from scripts.io.dicom_codes import SegAlgorithm
from scripts.io.errors import MediaError
from scripts.io.provenance import Provenance
from scripts.io.writers import OutputError

ALGORITHM = SegAlgorithm("bundle", "0.1.0", "0" * 64, 0.5)


def test_packed_frames() -> None:
    random = np.random.default_rng(0)
    masks = {5: random.random((7, 9)) > 0.5, 2: np.zeros((3, 5), bool)}
    shares = random.random((4, 4)).astype(np.float32)
    packed = PackedFrames()
    for frame, mask in masks.items():
        packed.add(frame, mask)
    packed.add(9, shares)
    assert list(packed) == [5, 2, 9] and len(packed) == 3
    for frame, mask in masks.items():
        assert packed[frame].dtype == bool and np.array_equal(packed[frame], mask)
    assert np.abs(packed[9] - shares).max() <= 0.5 / 255 + 1e-6


def test_a_mask_costs_little() -> None:
    packed = PackedFrames()
    rows, columns = np.mgrid[:720, :1280]
    packed.add(0, (rows - 300) ** 2 + (columns - 500) ** 2 < 200**2)
    assert len(packed._packed[0][0]) < 8000  # of 921,600 pixels


def test_segmentation_settings() -> None:
    with pytest.raises(ValueError, match="'labelmap'; expected one of binary, fractional, none"):
        DicomSegResults(ALGORITHM, kind="labelmap")
    assert not DicomSegResults(ALGORITHM, kind="none").takes("DICOM")
    assert DicomSegResults(ALGORITHM).takes("DICOM video") and not DicomSegResults(ALGORITHM).takes("video")


def test_overlay_clip(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", 12)
    clip = OverlayClip(tmp_path / "out.mp4", 25.0)
    mask = np.zeros((64, 96), bool)
    for number in range(0, 12, 2):
        clip.add(f"{source}#{number}", mask, "", number / 25)
    assert not (tmp_path / "out.mp4").exists(), "not under its name before it is whole"
    clip.close()
    assert [read_number(frame) for frame in decode_all(tmp_path / "out.mp4")] == list(range(0, 12, 2))


def test_a_frame_that_the_clip_cannot_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_clip(tmp_path / "in.mp4", 4)
    clip = OverlayClip(tmp_path / "out.mp4", 25.0)
    for number in (0, 99, 2):
        clip.add(f"{source}#{number}", np.zeros((64, 96), bool), "", number / 25)
    clip.close()
    assert [read_number(frame) for frame in decode_all(tmp_path / "out.mp4")] == [0, 2]
    assert "left out of the overlay clip" in caplog.text and "frame 99" in caplog.text


def test_an_overlay_clip_that_fails(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", 4)
    mask = np.zeros((64, 96), bool)
    (tmp_path / "file").touch()
    clip = OverlayClip(tmp_path / "file" / "out.mp4", 25.0)
    with pytest.raises(OutputError, match="cannot"):
        for number in range(4):
            clip.add(f"{source}#{number}", mask, "", number / 25)
        clip.close()
    clip = OverlayClip(tmp_path / "aborted.mp4", 25.0)
    clip.add(f"{source}#0", mask, "", 0.0)
    clip.abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "in.mp4"]


def result_of(source: Path, frame: int, share: float, seconds: float = 1 / 25) -> FrameResult:
    """Frame of a file whose frames are so many seconds apart."""
    mask = np.zeros((10, 10), bool)
    mask.flat[: round(100 * share)] = True
    figures = {"lesion_px": int(mask.sum()), "lesion_share": share, "mean_confidence": 0.9, "agreement": None,
               "quality": "check"}  # fmt: skip
    address = f"{source}#{frame}"
    return FrameResult(f"{source.name}#{frame}", source.name, "video", frame, frame * seconds, address, mask * 1.0,
                       mask, figures)  # fmt: skip


def test_a_video_with_frames_that_failed(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip.mp4", 40, size=(16, 16))
    writer = VideoResults(overlays=False)
    writer.start(tmp_path / "out")
    for frame in range(40):
        if frame in (3, 4):
            item = {"source": "clip.mp4", "path": f"{source}#{frame}", "frame": frame, "time_s": frame / 25}
            writer.failed(item, "damaged")
        else:
            writer.add(result_of(source, frame, 0.2 if 10 <= frame < 30 else 0.0))
    writer.finish_source()
    writer.finish()
    (row,) = writer.videos.rows
    assert (row["frames"], row["failed_frames"], row["episodes"]) == (38, 2, 1)
    assert row["longest_s"] == pytest.approx(20 / 25) and row["peak_share"] == pytest.approx(0.2)
    lines = (tmp_path / "out/videos/clip/timeline.csv").read_text().splitlines()
    assert len(lines) == 41 and lines[4].endswith("damaged")
    episodes = (tmp_path / "out/videos/clip/episodes.csv").read_text().splitlines()
    assert len(episodes) == 2 and episodes[1].startswith("clip.mp4,1,0.4")


def test_a_video_of_which_nothing_could_be_read(tmp_path: Path) -> None:
    writer = VideoResults(overlays=False)
    writer.start(tmp_path / "out")
    writer.failed({"source": "a.mp4", "path": "a.mp4", "frame": 0, "time_s": float("nan")}, "no video")
    writer.finish_source()
    writer.finish()
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_an_earlier_run_of_a_video_that_cannot_be_read(tmp_path: Path) -> None:
    source, out = make_clip(tmp_path / "a.mp4", 4, size=(16, 16)), tmp_path / "out"
    writer = VideoResults(overlays=False, masks=True)
    writer.start(out)
    for frame in range(2):
        writer.add(result_of(source, frame, 0.2))
    writer.finish_source()
    masks = [out / f"masks/a/{frame:06d}.png" for frame in range(2)]
    assert all(mask.is_file() for mask in masks)
    for name in ("overlay.mp4", "overlay.mp4.json", "timeline.png", "notes.txt"):  # the last is somebody's own
        (out / "videos/a" / name).touch()
    assert len(list((out / "videos/a").iterdir())) == 6
    writer.start(out)
    nothing_known = {"time_s": float("nan"), "path": str(source), "source": "a.mp4"}
    writer.failed({**nothing_known, "file": "a.mp4#1", "frame": 1}, "damaged")
    writer.finish_source()
    assert [path.name for path in (out / "videos/a").iterdir()] == ["notes.txt"]
    assert [mask.is_file() for mask in masks] == [True, False]


def test_records_are_beside_what_this_run_wrote(tmp_path: Path) -> None:
    """An overlay of other weights would get this run's record, and so speak for it."""
    source, out = make_clip(tmp_path / "a.mp4", 4, size=(16, 16)), tmp_path / "out"
    (out / "videos/a").mkdir(parents=True)
    (out / "videos/a/overlay.mp4").write_bytes(b"of other weights")
    writer = VideoResults(overlays=False, masks=True, provenance=Provenance("0.1.0", "0" * 64, "1" * 64, 0.5))
    writer.start(out)
    writer.add(result_of(source, 0, 0.2))
    writer.finish_source()
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    names = ("masks/a/000000.png", "videos/a/episodes.csv", "videos/a/timeline.csv")
    assert written == sorted([*names, *(f"{name}.json" for name in names)])


def test_nothing_is_left_of_an_earlier_segmentation_of_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    old = tmp_path / "segmentations/a.dcm"
    old.parent.mkdir()
    old.write_bytes(b"of an earlier run")
    old.with_name("a.dcm.json").write_text("{}")
    writer = DicomSegResults(ALGORITHM)
    writer.start(tmp_path)
    writer.failed({"source": "a.dcm"}, "damaged")
    assert old.is_file()
    writer.finish_source()
    assert list(old.parent.iterdir()) == []


def test_a_clip_that_breaks_off_is_written_and_reported(tmp_path: Path) -> None:
    whole = make_clip(tmp_path / "whole.avi", 60, codec="mpeg4", b_frames=0)
    source = tmp_path / "cut.avi"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    writer = VideoResults(overlays=False)
    writer.start(tmp_path / "out")
    writer.add(result_of(source, 0, 0.0))
    with pytest.raises(MediaError, match=r"cut\.avi: truncated: it holds \d+ frames"):
        writer.finish_source()
    assert (tmp_path / "out/videos/cut/timeline.csv").is_file() and "truncated" in writer.videos.rows[0]["warnings"]


def test_frame_rate(tmp_path: Path) -> None:
    assert frame_rate(str(make_clip(tmp_path / "a.mp4", 10, fps=10))) == pytest.approx(10)


def test_a_cine_is_counted_by_its_times_and_shown_at_its_display_rate(tmp_path: Path) -> None:
    """10 frames of 0.2 s: a lesion in the last five lasts a second, though a viewer is to show 20 frames a second."""
    elements = {"FrameTime": "200", "RecommendedDisplayFrameRate": "20"}
    source = write_dicom(tmp_path / "cine.dcm", pictures(10, 10, 10), **elements)
    writer = VideoResults()
    writer.start(tmp_path / "out")
    for frame in range(10):
        writer.add(result_of(source, frame, 0.2 if frame >= 5 else 0.0, seconds=0.2))
    writer.finish_source()
    (row,) = writer.videos.rows
    assert (row["seconds"], row["episodes"], row["longest_s"]) == (pytest.approx(2), 1, pytest.approx(1))
    assert row["episodes_per_minute"] == pytest.approx(30)
    with av.open(str(tmp_path / "out/videos/cine/overlay.mp4")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown == pytest.approx([number / 20 for number in range(10)], abs=1e-4)


def test_frames_of_one_time_are_shown_after_each_other(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", 4)
    clip = OverlayClip(tmp_path / "out.mp4", 25.0)
    for number, time_s in enumerate((0.0, 0.04, 0.04, 0.03)):
        clip.add(f"{source}#{number}", np.zeros((64, 96), bool), "", time_s)
    clip.close()
    assert [read_number(frame) for frame in decode_all(tmp_path / "out.mp4")] == [0, 1, 2, 3]


def test_a_frame_that_was_measured_may_fail_afterwards(tmp_path: Path) -> None:
    """An overlay that cannot be written: the frame is in the timeline once, with the reason."""
    source = make_clip(tmp_path / "clip.mp4", 3, size=(16, 16))
    writer = VideoResults(overlays=False)
    writer.start(tmp_path / "out")
    for frame in range(3):
        writer.add(result_of(source, frame, 0.1))
        if frame == 1:
            item = {"source": "clip.mp4", "path": f"{source}#1", "frame": 1, "time_s": 1 / 25}
            writer.failed(item, "no overlay")
    writer.finish_source()
    lines = (tmp_path / "out/videos/clip/timeline.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[2].endswith("no overlay")
