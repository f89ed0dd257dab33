"""Two processes by torchrun, gloo on the CPU: training ends, evaluation gives the figures of one process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from make_video import make_clip
from PIL import Image

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
pytestmark = pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes cannot share one GPU by nccl")


def torchrun(*layers: str, **overrides: Any) -> None:
    files = str([f"configs/{layer}.json" for layer in layers])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "monai.bundle", "run", "--config_file", files]
    command += [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
    done = subprocess.run(
        command, cwd=BUNDLE, capture_output=True, text=True, timeout=540, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-6000:]


def test_training_in_two_processes(tiny: dict[str, Any], frames_dir: Path, tmp_path: Path) -> None:
    options = tiny | {"split": [0.5, 0.1875, 0.3125], "dataset_dir": str(frames_dir), "output_dir": str(tmp_path)}
    torchrun("train", "weak_to_strong", "multi_gpu_train", **options, run_name="two")
    run = tmp_path / "two"
    with (run / "metrics.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"], "one process writes"
    metrics = json.loads((run / "test_metrics.json").read_text())
    with (run / "per_image.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    # five test frames in two processes: none is lost, none counts twice
    assert len({row["file"] for row in found}) == len(found) == 5
    mean = sum(float(row["dice"]) for row in found) / 5
    assert metrics["best"]["figures"]["dice"]["value"] == pytest.approx(mean, abs=1e-5)
    assert len(list((run / "predictions").rglob("*.png"))) == 5
    assert (run / "report.html").is_file() and (run / "model.pt").is_file()


def test_two_processes_need_no_test_part(tiny: dict[str, Any], frames_dir: Path, tmp_path: Path) -> None:
    options = tiny | {"split": [0.75, 0.25, 0.0], "max_epochs": 1}
    options |= {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path)}
    torchrun("train", "train_supervised", "multi_gpu_train", **options, run_name="two")
    metrics = json.loads((tmp_path / "two" / "test_metrics.json").read_text())
    assert "best" not in metrics and metrics["validation"]["figures"]["dice"]["value"] is not None


def test_evaluation_in_two_processes_gives_the_same_figures(
    tiny: dict[str, Any], trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    torchrun(
        "train", "evaluate", "multi_gpu_evaluate", **tiny, dataset_dir=str(frames_dir),
        checkpoint=str(trained_run / "model.pt"), evaluation_dir=str(out),
    )  # fmt: skip
    expected, found = (json.loads((folder / "test_metrics.json").read_text()) for folder in (trained_run, out))
    assert found["temperature"] == pytest.approx(expected["temperature"], rel=1e-4)
    for part in ("best", "validation"):
        for name, figure in expected[part]["figures"].items():
            for key in ("value", "low", "high"):
                assert found[part]["figures"][name][key] == pytest.approx(figure[key], abs=1e-6), f"{part} {name} {key}"
    assert (out / "per_image.csv").read_text() == (trained_run / "per_image.csv").read_text()


def results_of(folder: Path) -> dict[str, bytes]:
    """Every file of an inference by its name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_in_shards_is_what_one_process_makes_of_it(
    run_config: Any, trained_run: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    """Pictures in sub-folders that differ by their suffix alone, a broken one, and a clip, which stays whole."""
    archive = tmp_path / "archive"
    for number, path in enumerate(sorted((tiny_dataset / "images").iterdir())[:5]):
        (archive / f"visit {number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, archive / f"visit {number % 2}" / path.name)
    first = next(path for path in sorted(archive.rglob("*")) if path.is_file())
    Image.open(first).convert("RGB").save(first.with_suffix(".bmp"))
    (archive / "broken.png").write_bytes(first.read_bytes()[:300])
    make_clip(archive / "clip.mp4", 6)
    options = {"dataset_dir": str(archive), "checkpoint": str(trained_run / "model.pt"), "image_size": 64}
    run_config("inference", **options, output_dir=str(tmp_path / "one"), batch_size=1, allow_failures=True)
    torchrun("inference", "multi_gpu_inference", **options, output_dir=str(tmp_path / "two"), batch_size=1)
    parts = sorted(path.name for path in (tmp_path / "two" / "shards").iterdir())
    assert parts == ["0000_of_0002", "0001_of_0002"]
    with pytest.raises(SystemExit) as ended:
        run_config("merge_shards", output_dir=str(tmp_path / "two"))
    assert ended.value.code == 3, "the broken one"
    one, two = results_of(tmp_path / "one"), results_of(tmp_path / "two")
    assert sorted(one) == sorted(two) and "results.csv" in one and "videos/clip/timeline.csv" in one
    # JSON files say when and by which config; a clip's encoder may write its own time.
    assert [name for name in one if one[name] != two[name] and not name.endswith((".json", ".mp4"))] == []
