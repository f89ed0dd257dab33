"""Rounds of training through the server: from both kinds of frames, seen, stopped, killed, reverted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from label_app_helpers import MODEL, REPOSITORY, Server, add_labels, make_studies, until
from PIL import Image

from scripts.data.splits import split_by_name

pytestmark = pytest.mark.timeout(900)
#: a round of seconds: what is tested is what becomes of it
SHORT = {
    "split": [0.8, 0.2, 0.0], "stable_split": True, "max_epochs": 2, "iterations_per_epoch": 3, "labeled_batch_size": 2,
    "unlabeled_batch_size": 2, "warmup_iterations": 1, "unsupervised_start": 1, "unsupervised_rampup": 2,
    "image_size": 64, "shipped_epoch": "last",
}  # fmt: skip


@pytest.fixture
def short(tmp_path: Path) -> tuple[str, ...]:
    """--conf of a server whose rounds are short and start from random numbers."""
    path = tmp_path / "short_round.json"
    path.write_text(json.dumps(SHORT))
    return "encoder_weights", "none", "round_config", str(path)


def test_a_sitting_with_the_calls_of_slicer(
    start_server: Callable[..., Server], studies: Path, label_python: Path, short: tuple[str, ...], tmp_path: Path
) -> None:
    """The script that stands for 3D Slicer; labels of three kinds in one datastore; then back to the release."""
    add_labels(studies, range(2))  # PNG labels
    mask = np.asarray(Image.open(studies.parent / "truth" / "frame_02.png")) // 255
    volume = nib.Nifti1Image(mask.T[..., None].astype(np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    nib.save(volume, studies / "labels" / "final" / "frame_02.nii.gz")  # and one of Slicer's
    server = start_server(studies, *short, env={"LESION_LABEL_TOKEN": "a token"})
    server.token = "a token"
    script = [str(label_python), str(REPOSITORY / "label_app" / "examples" / "slicer_calls.py"), "--server", server.url]
    script += ["--truth", str(studies.parent / "truth"), "--labels", "2", "--max_epochs", "2", "--suffix", ".nrrd"]
    script += ["--token", "a token"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr + server.text()[-3000:]
    assert "weights round_001" in done.stdout
    labels = sorted(path.suffix for path in (studies / "labels" / "final").iterdir())
    assert labels == [".gz", ".nrrd", ".nrrd", ".png", ".png"]

    stats = server.get("/info/")[1]["train_stats"][MODEL]
    assert stats["status"] == "DONE" and stats["epoch"] == stats["total_epochs"] == 2 and stats["labels"] == 5
    assert (
        0 <= stats["best_metric"] <= 1 and stats["unlabeled"] == 7 and stats["eval"]["metrics"]["val_dice"] is not None
    )
    manifest = json.loads(next((tmp_path / "rounds" / "runs").glob("*/manifest.json")).read_text())
    used = {one["section"] for one in manifest["files"]}
    assert used == {"training", "validation", "unlabeled"}  # the untouched images take part
    assert sum(one["section"] == "unlabeled" for one in manifest["files"]) == 7

    # The round asked its server for new scores: the next choice is by uncertainty, and of the new weights.
    until(lambda: server.post("/activelearning/uncertainty")[1].get("score") is not None)
    assert server.post("/activelearning/uncertainty")[1]["weights"] == "round_001"
    assert server.infer("frame_09")[1]["weights"] == "round_001"
    first = server.infer("frame_09", output="image")[1]
    assert server.train(max_epochs=1)["status"] == "DONE"
    assert server.infer("frame_09")[1]["weights"] == "round_002"
    assert server.infer("frame_09", model_filename="round_001", output="image")[1] == first
    assert server.ask("PUT", "/weights/round_001")[1]["current"] == "round_001"
    assert server.infer("frame_09", output="image")[1] == first
    facts = json.loads((tmp_path / "rounds" / "round_002.json").read_text())
    assert facts["start_from"] == "round_001" and facts["labels"] == 5 and "warnings" not in facts
    assert "Traceback" not in server.text() and "ERROR" not in server.text()


def test_training_is_stopped_and_the_weights_stay(
    start_server: Callable[..., Server], studies: Path, short: tuple[str, ...]
) -> None:
    add_labels(studies, range(6))
    server = start_server(studies, *short)
    assert server.post(f"/train/{MODEL}", {"max_epochs": 5000})[0] == 200
    stats = _until_trained_an_epoch(server)
    assert stats["status"] == "RUNNING" and stats["total_epochs"] == 5000 and "current_time" in stats
    assert any("training" in line for line in server.get("/train/")[1]["details"])
    assert server.infer("frame_00")[0] == 400  # nothing half trained is served
    assert server.ask("DELETE", "/train/")[0] == 200
    assert server.get("/train/")[1]["status"] == "STOPPED"
    until(lambda: server.get("/info/")[1]["train_stats"][MODEL]["status"] == "STOPPED")
    assert server.get("/weights/")[1] == {"current": None, "available": []}
    assert not _training_processes(studies)


def test_a_killed_server_loses_no_label_and_starts_again(
    start_server: Callable[..., Server], studies: Path, short: tuple[str, ...]
) -> None:
    add_labels(studies, range(3))
    server = start_server(studies, *short)
    assert server.post(f"/train/{MODEL}", {"max_epochs": 5000})[0] == 200
    _until_trained_an_epoch(server)
    mask = studies.parent / "truth" / "frame_05.png"
    assert server.send("PUT", "/datastore/label?image=frame_05", {}, "label", mask)[0] == 200
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(10)
    assert (studies / "labels" / "final" / "frame_05.png").read_bytes() == mask.read_bytes()
    until(lambda: not _training_processes(studies))  # it does not go on without its server
    again = start_server(studies, *short)
    info = again.get("/info/")[1]
    assert info["datastore"]["completed"] == 4 and info["train_stats"][MODEL]["status"] == "STOPPED"
    assert again.train(max_epochs=1)["status"] == "DONE"
    assert again.infer("frame_05")[1]["weights"] == "round_001"


def test_a_failed_round_says_why(start_server: Callable[..., Server], studies: Path, short: tuple[str, ...]) -> None:
    add_labels(studies, range(4))
    wrong = Image.new("L", (10, 10), 255)
    wrong.save(studies / "labels" / "final" / "frame_01.png")
    server = start_server(studies, *short)
    task = server.train(max_epochs=1)
    assert task["status"] == "ERROR"
    assert "frame_01.png" in " ".join(task["details"]), task["details"]
    assert server.get("/info/")[1]["train_stats"][MODEL]["status"] == "ERROR"


def test_a_round_that_is_measured_on_what_it_has_learnt_is_published_with_a_warning(
    start_server: Callable[..., Server], studies: Path, short: tuple[str, ...], tmp_path: Path
) -> None:
    add_labels(studies, range(6))
    server = start_server(studies, *short)
    assert server.train(max_epochs=1)["status"] == "DONE"
    add_labels(studies, range(8))
    until(lambda: server.get("/info/")[1]["datastore"]["completed"] == 8)
    assert server.train(max_epochs=1)["status"] == "DONE"
    stats = server.get("/info/")[1]["train_stats"][MODEL]
    assert stats["weights"] == "round_002" and stats["labels"] == 8 and "warnings" not in stats
    items = [{"file": f"frame_{number:02d}.png", "group": f"frame_{number:02d}.png"} for number in range(8)]

    def held_out(seed: int) -> set[str]:
        return {one["file"] for one in split_by_name(items, (0.8, 0.2, 0.0), seed)["validation"]}

    files = json.loads((tmp_path / "rounds" / "round_002.manifest.json").read_text())["files"]
    assert held_out(0) == {one["file"] for one in files if one["section"] == "validation"}
    seed = next(seed for seed in range(1, 99) if not held_out(seed) & held_out(0))
    assert server.train(max_epochs=1, seed=seed)["status"] == "DONE"
    warning = f"{len(held_out(seed))} of the images held out for val_dice have trained round_002"
    stats = server.get("/info/")[1]["train_stats"][MODEL]
    assert stats["weights"] == "round_003" and stats["warnings"][0].startswith(warning)
    available = server.get("/weights/")[1]["available"]
    assert ["warnings" in one for one in available] == [True, False, False] and warning in server.text()


def test_the_stock_app_serves_and_trains_the_bundle(
    start_server: Callable[..., Server], label_python: Path, random_weights: Path, tmp_path: Path
) -> None:
    """MONAI Label's own monaibundle app, offline, with this bundle as model/endoscopic_lesion_segmentation."""
    studies = make_studies(tmp_path)
    add_labels(studies, range(5))
    app = tmp_path / "apps" / "monaibundle"
    shutil.copytree(label_python.parent.parent / "monailabel" / "sample-apps" / "monaibundle", app)
    bundle = app / "model" / MODEL
    for folder in ("configs", "scripts"):
        shutil.copytree(REPOSITORY / "bundle" / folder, bundle / folder, ignore=shutil.ignore_patterns("__pycache__"))
    train = json.loads((bundle / "configs" / "train.json").read_text())
    (bundle / "configs" / "train.json").write_text(json.dumps(train | SHORT))  # it takes no such numbers in a request
    (bundle / "models").mkdir()
    shutil.copy(random_weights, bundle / "models" / "model.pt")
    released = (bundle / "models" / "model.pt").read_bytes()
    env = {"MONAI_LABEL_RELOAD_APP_LIB": "false"}
    server = start_server(studies, "zoo_source", "ngc", "sam2", "false", app=app, env=env)
    assert list(server.get("/info/")[1]["models"]) == [MODEL]
    status, content, _ = server.infer("frame_07", output="image")
    assert status == 200, server.text()[-3000:]
    (tmp_path / "mask.png").write_bytes(content)
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == (72, 96) and set(np.unique(mask)) <= {0, 1}
    task = server.train(max_epochs=1, val_split=0.2, device="cpu")
    assert task["status"] == "DONE", list(task["details"])
    manifest = json.loads(next((bundle / "runs").glob("*/manifest.json")).read_text())
    assert {Path(one["file"]).name for one in manifest["files"] if one["section"] == "unlabeled"} == {
        f"frame_{number:02d}.png" for number in range(5, 12)
    }
    assert (bundle / "models" / "model.pt").read_bytes() == released


def _until_trained_an_epoch(server: Server) -> dict:
    until(lambda: server.get("/info/")[1]["train_stats"][MODEL].get("epoch", 0) >= 1, 240)
    return server.get("/info/")[1]["train_stats"][MODEL]


def _training_processes(studies: Path) -> list[str]:
    """Commands of processes that train on a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "monai.bundle" in command and str(studies) in command:
            found.append(command)
    return found
