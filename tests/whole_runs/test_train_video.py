"""A training set with a clip and a DICOM cine among its frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from dicom_sources import make_source
from make_video import make_clip, numbered_frame
from PIL import Image
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage


def test_frames_of_videos_are_trained_on(
    run_config: Any, frames_dir: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(frames_dir, data)
    pictures = [numbered_frame(n) for n in (0, 0, 255, 255, 1, 1, 85, 85)]
    make_clip(data / "unlabeled" / "clip.mp4", 8, pictures=pictures, fps=4)
    make_clip(data / "images" / "labelled.mkv", 8, pictures=pictures[::-1], fps=4)
    (data / "masks" / "labelled").mkdir()
    Image.fromarray(np.uint8(255) * (numbered_frame(85)[..., 0] > 200)).save(data / "masks/labelled/000001.png")
    cine = make_source(np.stack(pictures[::2])[..., ::-1].copy(), MultiFrameTrueColorSecondaryCaptureImageStorage)
    cine.save_as(data / "unlabeled" / "IM0001", enforce_file_format=True)
    run_config("train", **tiny, dataset_dir=str(data), output_dir=str(tmp_path), run_name="run")
    files = json.loads((tmp_path / "run" / "manifest.json").read_text())["files"]
    by_group: dict[str, list[str]] = {}
    for entry in files:
        by_group.setdefault(entry["group"], []).append(entry["section"])
    assert by_group["unlabeled/clip.mp4"] == ["unlabeled"] * 4, "4 of 8: two a second, none twice"
    assert by_group["unlabeled/IM0001"] == ["unlabeled"] * 4
    own = [entry for entry in files if entry["group"] == "images/labelled.mkv"]
    assert [entry["file"] for entry in own if entry["label"]] == ["images/labelled.mkv#1"]
    # all frames of a clip are on one side of the split
    assert len({entry["section"] for entry in own} & {"validation", "test"}) + ("training" in by_group[
        "images/labelled.mkv"]) == 1  # fmt: skip
    assert (tmp_path / "run" / "report.html").is_file()
