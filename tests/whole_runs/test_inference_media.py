"""Pictures, clips and DICOM in one folder: what each gets back, and that one frame is one frame whatever holds it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from dicom_sources import PATIENT, make_source
from make_video import decode_all, make_clip
from PIL import Image
from pydicom import dcmread
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, VLEndoscopicImageStorage

from scripts.io.dicom_seg_reader import read_seg

FRAMES = 30
SECRETS = [value for key, value in PATIENT.items() if key != "PatientSex"]  # "F" is in every text
SIZE = (64, 96)


def scene(number: int) -> np.ndarray:
    """A pink frame with a dark red disc that moves to the right by a pixel a frame."""
    frame = np.array([200, 130, 110]) + np.random.default_rng(0).integers(-10, 10, (*SIZE, 3))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    frame[(rows - 32) ** 2 + (columns - 30 - number) ** 2 < 15**2] = [120, 20, 20]
    return frame.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, a clip with two damaged files beside it, a single-frame and a multi-frame DICOM file."""
    root = tmp_path_factory.mktemp("in") / "Fälle 1"
    (root / "sub dir").mkdir(parents=True)
    Image.fromarray(scene(0)).save(root / "sub dir" / "Größe.png")
    clip = make_clip(root / "clip é.mp4", FRAMES, pictures=[scene(n) for n in range(FRAMES)])
    (root / "cut.mp4").write_bytes(clip.read_bytes()[:400])
    single = make_source(scene(3)[None], VLEndoscopicImageStorage)
    single.save_as(root / "IM0001", enforce_file_format=True)
    cine = make_source(np.stack([scene(n) for n in (0, 9)]), MultiFrameTrueColorSecondaryCaptureImageStorage)
    cine.save_as(root / "cine.dcm", enforce_file_format=True)
    (root / "broken.dcm").write_bytes((root / "cine.dcm").read_bytes()[:2000])
    return root


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def infer(run_config: Any, folder: Path, out: Path, run: Path, *layers: str, **changes: Any) -> None:
    overrides = {"dataset_dir": str(folder), "output_dir": str(out), "checkpoint": str(run / "model.pt")}
    run_config("inference", *layers, **(overrides | {"image_size": 64, "batch_size": 4} | changes))


def mask_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)) > 0


@pytest.fixture(scope="module")
def result(folder: Path, trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder's results, with a mask of every frame; the command ends with exit code 3."""
    from whole_run import run_layers

    out = tmp_path_factory.mktemp("out")
    with pytest.raises(SystemExit) as stop:
        infer(run_layers, folder, out, trained_run, video_masks=True)
    assert stop.value.code == 3
    return out


def test_each_file_is_listed_once(result: Path) -> None:
    rows = {row["file"]: row for row in table(result / "results.csv")}
    assert sorted(rows) == ["IM0001", "cine.dcm#0", "cine.dcm#1", "sub dir/Größe.png"]
    assert {row["mask"] for row in rows.values()} == {
        *("masks/IM0001.png", "masks/cine/000000.png", "masks/cine/000001.png", "masks/sub dir/Größe.png"),
    }
    failures = {row["file"]: row["error"] for row in table(result / "failures.csv")}
    assert sorted(failures) == ["broken.dcm", "cut.mp4"]
    assert "truncated" in failures["broken.dcm"]
    (video,) = table(result / "videos.csv")
    assert (video["file"], video["frames"], video["failed_frames"]) == ("clip é.mp4", str(FRAMES), "0")
    assert float(video["seconds"]) == pytest.approx(FRAMES / 25)


def test_what_a_video_gets(result: Path) -> None:
    out = result / "videos" / "clip é"
    rows = table(out / "timeline.csv")
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES))
    for row in rows:
        mask = mask_of(result / "masks" / "clip é" / f"{int(row['frame']):06d}.png")
        assert mask.shape == SIZE and mask.sum() == int(row["lesion_px"])
        assert float(row["time_s"]) == pytest.approx(int(row["frame"]) / 25, abs=1e-6)
    frames = decode_all(out / "overlay.mp4")
    assert len(frames) == FRAMES and frames[0].shape == (*SIZE, 3)
    with av.open(str(out / "overlay.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert float(container.streams.video[0].average_rate) == pytest.approx(25)
    assert Image.open(out / "timeline.png").size == (1200, 400)
    assert len(table(out / "episodes.csv")) == int(table(result / "videos.csv")[0]["episodes"])
    assert sorted(path.name for path in out.iterdir() if path.suffix != ".json") == [
        *("episodes.csv", "overlay.mp4", "timeline.csv", "timeline.png"),
    ]


def test_a_frame_is_a_frame(result: Path, folder: Path, run_config: Any, trained_run: Path, tmp_path: Path) -> None:
    """The same pixels as PNG, as DICOM and in a clip have the same mask."""
    assert np.array_equal(mask_of(result / "masks/sub dir/Größe.png"), mask_of(result / "masks/cine/000000.png"))
    (tmp_path / "in").mkdir()
    Image.fromarray(decode_all(folder / "clip é.mp4")[7]).save(tmp_path / "in" / "seven.png")
    infer(run_config, tmp_path / "in", tmp_path / "out", trained_run)
    assert np.array_equal(mask_of(tmp_path / "out/masks/seven.png"), mask_of(result / "masks/clip é/000007.png"))


def test_dicom_segmentations(result: Path, folder: Path) -> None:
    for name, masks in (("IM0001", ["IM0001"]), ("cine.dcm", ["cine/000000", "cine/000001"])):
        path = result / "segmentations" / f"{Path(name).stem}.dcm"
        seg, source = dcmread(path), dcmread(folder / name)
        assert seg.Modality == "SEG" and seg.StudyInstanceUID == source.StudyInstanceUID
        assert str(seg.PatientID) == PATIENT["PatientID"]
        found = read_seg(path)
        for number, mask in enumerate(masks):
            expected = mask_of(result / "masks" / f"{mask}.png")
            assert np.array_equal(found.get(number, np.zeros(SIZE)) > 0, expected)
    assert {path.name for path in (result / "segmentations").glob("*.dcm")} == {"IM0001.dcm", "cine.dcm"}


def test_provenance_beside_each_output(result: Path, trained_run: Path) -> None:
    outputs = [*(result / "segmentations").glob("*.dcm"), *(result / "videos/clip é").glob("*.mp4")]
    outputs += [result / row["mask"] for row in table(result / "results.csv")]
    assert len(outputs) == 7
    for path in outputs:
        record = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        text = json.dumps(record, ensure_ascii=False)
        assert record["threshold"] == 0.5 and len(record["weights_sha256"]) == 64
        assert not any(value in text for value in SECRETS)


def test_smoothing_is_reported_beside_what_it_replaces(
    folder: Path, run_config: Any, trained_run: Path, tmp_path: Path
) -> None:
    infer(run_config, folder / "clip é.mp4", tmp_path, trained_run, "inference_video", stride=2, start_s=0.2)
    (video,) = table(tmp_path / "videos.csv")
    rows = table(tmp_path / "videos/clip é/timeline.csv")
    assert [int(row["frame"]) for row in rows] == list(range(5, FRAMES, 2))
    assert video["consistency"] and video["consistency_unsmoothed"] and video["episodes_unsmoothed"]
    first = rows[0]
    # nothing before the first frame; without smoothing the share is taken on the network's grid
    assert float(first["lesion_share"]) == pytest.approx(float(first["lesion_share_smoothed"]), abs=0.02)
    assert any(row["lesion_share"] != row["lesion_share_smoothed"] for row in rows[1:])
    assert not (tmp_path / "masks").exists() and len(decode_all(tmp_path / "videos/clip é/overlay.mp4")) == len(rows)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"stride": 0}, ValueError, "stride is 0"),
        ({"end_s": 0.0}, ValueError, "start_s is 0"),
        ({"smoothing": 1.0}, ValueError, "momentum is 1.0"),
        ({"segmentation": "binery"}, ValueError, "'binery'; expected one of binary, fractional, none"),
        ({"finding": "tumour"}, ValueError, "'tumour' has no code"),
        ({"episode#enter": 0.001}, ValueError, "leave"),
    ],
)
def test_settings_without_sense_fail_before_work_starts(
    folder: Path, run_config: Any, trained_run: Path, tmp_path: Path, changes: Any, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        infer(run_config, folder / "clip é.mp4", tmp_path / "out", trained_run, **changes)
    assert not (tmp_path / "out").exists()


def test_a_clip_outside_the_window_is_listed_and_an_earlier_table_goes(
    folder: Path, run_config: Any, trained_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "videos.csv").write_text("of an earlier run")
    with pytest.raises(RuntimeError, match="none of 1 frames could be written"):
        infer(run_config, folder / "clip é.mp4", tmp_path, trained_run, "inference_video", start_s=2)
    (failed,) = table(tmp_path / "failures.csv")
    assert failed["file"] == "clip é.mp4"
    assert "no frame between start_s 2 and the end (seconds); its 30 frames are shown at 0 to 1.16 s" in failed["error"]
    assert not (tmp_path / "videos.csv").exists() and not table(tmp_path / "results.csv")


def test_the_command(folder: Path, trained_run: Path, tmp_path: Path) -> None:
    """As a person types it: exit code and no patient data in what is printed."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--meta_file", "configs/metadata.json", "--logging_file", "configs/logging.conf"]
    command += ["--dataset_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--image_size", "64"]
    command += ["--checkpoint", str(trained_run / "model.pt"), "--segmentation", "fractional", "--overlays", "False"]
    bundle = Path(__file__).resolve().parents[2] / "bundle"
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr[-2000:]
    printed = done.stdout + done.stderr
    assert "failures.csv" in printed and "cut.mp4" in printed
    assert not any(value in printed for value in SECRETS)
    assert not (tmp_path / "out/videos/clip é/overlay.mp4").exists()
    probability = read_seg(tmp_path / "out/segmentations/IM0001.dcm")[0]
    assert probability.dtype.kind == "f" and 0 <= probability.min() and probability.max() <= 1
