"""Knowledge mining by its configs: one round, pre-annotation, and training on what was mined."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scripts.data.errors import DatasetError
from scripts.pseudo_labels import DECISIONS, GIVEN, SegmenterError

MINING = ("inference", "mine_pseudo_labels")
#: what a barely trained student of 64 px sees is taken as it is
LENIENT: dict[str, Any] = {
    "rules#predicted_iou": 0.0,
    "rules#agreement": 0.0,
    "rules#expected_iou": 0.0,
    "rules#healthy_probability": 1.0,
    "rules#largest_share": 1.0,
    "image_size": 64,
}


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "pseudo_labels.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def mine(run_config: Any, student: Path, dataset: Path, output: Path, **changes: Any) -> Path:
    options = {
        "dataset_dir": str(dataset),
        "output_dir": str(output),
        "checkpoint": str(student / "model.pt"),
        "split": [0.5, 0.25, 0.25],
    }
    run_config(*MINING, **{**options, **LENIENT, **changes})
    return output


@pytest.fixture(scope="module")
def mined(trained_run: Path, frames_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One round on the six frames without masks. Read only."""
    from whole_run import run_layers

    return mine(run_layers, trained_run, frames_dir, tmp_path_factory.mktemp("mined") / "out", student_masks=True)


def test_one_round_writes_what_is_needed_to_train_and_to_look_at(mined: Path, trained_run: Path) -> None:
    rows = rows_of(mined)
    assert len(rows) == 6 and all(row["decision"] in DECISIONS for row in rows.values())
    summary = json.loads((mined / "mining.json").read_text())
    assert summary["segmenter"] == "GrabCut" and summary["frames"] == 6
    assert summary["decisions"] == {name: sum(row["decision"] == name for row in rows.values()) for name in DECISIONS}
    assert sum(summary["decisions"][name] for name in GIVEN) == summary["pseudo_labels"] > 0
    assert len(summary["student_sha256"]) == 64
    sections = json.loads((mined / "pseudo_labels.json").read_text())
    counted = {name: len(entries) for name, entries in sections.items()}
    assert counted == {"training": 8, "validation": 4, "test": 4, "unlabeled": 6}
    manifest = json.loads((trained_run / "manifest.json").read_text())
    in_training = {Path(one["file"]).name for one in manifest["files"] if one["section"] == "training"}
    assert {Path(entry["image"]).name for entry in sections["training"]} == in_training, "the student's own split"
    for entry in sections["unlabeled"]:
        row = rows[Path(entry["image"]).relative_to(Path(entry["image"]).parents[1]).as_posix()]
        assert ("pseudo_label" in entry) == (row["decision"] in GIVEN)
        assert "label" not in entry
        if "pseudo_label" in entry:
            mask = Image.open(mined / entry["pseudo_label"])
            assert mask.size == Image.open(entry["image"]).size
            assert np.mean(np.asarray(mask) > 0) == pytest.approx(float(row["lesion_share"]), abs=1e-6)
            assert entry["weight"] == pytest.approx(float(row["weight"]), abs=1e-6)
            assert (mined / "student_masks" / Path(entry["pseudo_label"]).relative_to("masks")).is_file()
    assert Image.open(mined / "pseudo_labels.png").size[0] > 256


def test_two_rounds_of_the_same_student_are_equal(
    mined: Path, run_config: Any, trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    again = mine(run_config, trained_run, frames_dir, tmp_path / "again")
    assert rows_of(again) == rows_of(mined)
    for path in (mined / "masks").rglob("*.png"):
        assert path.read_bytes() == (again / path.relative_to(mined)).read_bytes()


def test_training_takes_the_pseudo_labels(mined: Path, run_config: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    options = {"dataset_dir": str(mined / "pseudo_labels.json"), "output_dir": str(tmp_path), "run_name": "run"}
    run_config("train", "pseudo_labels", **tiny, **options)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    named = [entry for entry in manifest["files"] if "pseudo_label" in entry]
    assert named and all(entry["section"] == "unlabeled" and entry["label"] is None for entry in named)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["loss_unsupervised"]) > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{len(named)} of the unlabelled frames; nobody drew them" in page
    assert "Not drawn" not in page, "the datalist names pictures outside of its folder"
    assert (tmp_path / "run" / "test_metrics.json").is_file()


def test_training_without_pseudo_labels_is_refused(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="none has a pseudo-label.*mine_pseudo_labels.json"):
        run_config("train", "pseudo_labels", **tiny, dataset_dir=str(frames_dir), output_dir=str(tmp_path))


def test_a_folder_is_annotated_for_correction(
    run_config: Any, trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    output = mine(
        run_config,
        trained_run,
        frames_dir / "unlabeled",
        tmp_path / "out",
        pre_annotate=True,
        **{"rules#predicted_iou": 1.0, "rules#agreement": 1.0, "rules#student_confidence": 1.0},
    )
    rows = rows_of(output)
    assert len(rows) == 6
    for file, row in rows.items():
        mask = Image.open(output / "masks" / file)
        assert mask.size == Image.open(frames_dir / "unlabeled" / file).size, "dropped ones too"
        assert (output / "overlays" / file).is_file() and row["mask"] == f"masks/{file}"
    assert any(row["decision"].startswith("dropped") for row in rows.values())
    assert not (output / "pseudo_labels.json").exists(), "there are no labels to train with"


def test_the_student_sees_no_mirrored_frame_where_there_is_a_left_and_a_right(
    run_config: Any, trained_run: Path, frames_dir: Path, mined: Path, tmp_path: Path
) -> None:
    alone = rows_of(mine(run_config, trained_run, frames_dir, tmp_path / "out", student_masks=True, flip=False))
    shares = [{file: row["student_share"] for file, row in rows.items()} for rows in (alone, rows_of(mined))]
    assert shares[0].keys() == shares[1].keys() and shares[0] != shares[1]


def test_broken_frames_are_listed_and_the_others_mined(
    run_config: Any, trained_run: Path, frames_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for path in sorted((frames_dir / "unlabeled").iterdir())[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    options = {"pre_annotate": True, "allow_failures": True}
    output = mine(run_config, trained_run, folder, tmp_path / "out", **options)
    assert len(rows_of(output)) == 2
    assert "broken.png" in (output / "failures.csv").read_text()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"segmenter": "grabcat"}, SegmenterError, "did you mean 'grabcut'"),
        ({"segmenter": "sam"}, SegmenterError, "needs --sam_weights"),
        ({"sam_weights": "facebook/sam-vit-base"}, SegmenterError, "give --segmenter sam"),
        ({"rules#agreement": 1.5}, ValueError, "agreement is 1.5"),
        ({"unlabeled_data": False}, DatasetError, "no unlabelled frame to mine"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    run_config: Any,
    trained_run: Path,
    frames_dir: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        mine(run_config, trained_run, frames_dir, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_the_chain_of_rounds_in_processes_of_their_own(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    """By knowledge_mining.json, the published student; one round, since each part takes seconds to start."""
    small = {
        key: tiny[key] for key in ("max_epochs", "iterations_per_epoch", "labeled_batch_size", "warmup_iterations")
    }
    small["network_def::features"] = [8, 8, 8, 8, 8, 8]
    lenient = {key.replace("#", "::"): value for key, value in LENIENT.items() if key != "image_size"}
    run_config(
        "knowledge_mining",
        dataset_dir=str(frames_dir),
        output_dir=str(tmp_path),
        split=tiny["split"],
        image_size=64,
        encoder_weights="none",
        rounds=1,
        extra_configs=["configs/unet_plus_plus.json"],
        options={
            "train": small,
            "mine": {**lenient, "network_def::features": [8, 8, 8, 8, 8, 8]},
            "fine_tune": {**small, "unlabeled_batch_size": 2},
        },
    )
    folder = tmp_path / "frames_mining_grabcut_labels1_seed0"
    with (folder / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["0", "1"] and int(rows[1]["pseudo_labels"]) > 0
    assert [row["kept"] for row in rows].count("yes") == 1
    stages = json.loads((folder / "stages.json").read_text())["stages"]
    assert list(stages) == ["0_train", "1_mine", "1_fine_tune"] and all(one["finished"] for one in stages.values())
    kept = next(row for row in rows if row["kept"])
    assert (folder / "model.pt").read_bytes() == (Path(kept["run_dir"]) / "model.pt").read_bytes()
