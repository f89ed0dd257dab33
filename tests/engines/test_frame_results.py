"""The handler that writes frames, in a real MONAI evaluator."""

from __future__ import annotations

import csv
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from PIL import Image

from scripts.engines.frame_results import FrameResultWriter
from scripts.engines.picture_results import PictureResults
from scripts.io.writers import OutputError

COLUMNS = [
    *("file", "width", "height", "lesion_px", "lesion_share", "mean_confidence", "lesion_confidence"),
    *("agreement", "agreement_of", "quality", "mask", "overlay"),
]


class Prediction(torch.nn.Module):
    """Takes the image (1, 3, H, W) for what it is: lesion logit = 20 * (red - 0.5)."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logit = 20.0 * (image[:, :1] - 0.5)
        return torch.cat((-logit / 2, logit / 2), 1)


def save(path: Path, red: np.ndarray) -> dict[str, Any]:
    """Write a picture whose red channel is ``red`` (H, W) in 0..1 and return its item."""
    pixels = np.zeros((*red.shape, 3), np.uint8)
    pixels[..., 0] = np.rint(red * 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return {"path": str(path), "image": torch.as_tensor(pixels).permute(2, 0, 1) / 255.0}


@pytest.fixture
def frames(tmp_path: Path) -> list[dict[str, Any]]:
    half = np.zeros((20, 30))
    half[:, :15] = 1.0
    return [
        {"file": "a/x 1.png", **save(tmp_path / "in/a/x 1.png", half)},
        {"file": "b/x 1.png", **save(tmp_path / "in/b/x 1.png", np.zeros((12, 8)))},
    ]


def results_writer(
    out: Path, files: tuple[str, ...] = (), overlays: bool = True, **options: float
) -> FrameResultWriter:
    return FrameResultWriter(out, [PictureResults(files, overlays)], **options)


def predict(engine: Engine, batch: dict[str, Any]) -> list[dict[str, Any]]:
    with torch.no_grad():
        probability = engine.network(batch["image"]).softmax(1)
        mirrored = engine.network(batch["image"].flip(-1)).softmax(1).flip(-1)
    return [
        {"file": f, "path": p, "pred": a, "pred_flip": b[1]}
        for f, p, a, b in zip(batch["file"], batch["path"], probability, mirrored, strict=True)
    ]


def run(writer: FrameResultWriter, items: list[dict[str, Any]]) -> None:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=Prediction(),
        iteration_update=predict,
        decollate=False,
        val_handlers=[writer],
    )
    evaluator.run()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_in_a_monai_evaluator(tmp_path: Path, frames: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO, logger="scripts.engines.frame_results"):
        run(results_writer(out), frames)
    assert (out / "results.csv").read_text().splitlines()[0].split(",") == COLUMNS
    first, second = rows_of(out / "results.csv")
    assert first["file"] == "a/x 1.png" and (first["width"], first["height"]) == ("30", "20")
    assert first["lesion_px"] == "300" and first["lesion_share"] == "0.500000"
    assert first["agreement"] == "1.000000" and first["agreement_of"] == "network+flip" and first["quality"] == "ok"
    assert first["mask"] == "masks/a/x 1.png" and first["overlay"] == "overlays/a/x 1.png"
    mask = np.asarray(Image.open(out / first["mask"]))
    assert mask.shape == (20, 30) and (mask[:, :15] == 255).all() and (mask[:, 15:] == 0).all()
    assert Image.open(out / first["overlay"]).size == (30, 20)
    assert second["lesion_px"] == "0" and second["lesion_confidence"] == "" and second["agreement"] == "1.000000"
    assert sorted(p.name for p in out.iterdir()) == ["masks", "overlays", "results.csv"]
    messages = [record.getMessage() for record in caplog.records]
    assert any("2 frames: 1 with lesion, 0 to check" in m and "0 failed" in m for m in messages)
    assert len([m for m in messages if "network+flip only" in m]) == 1, "said once, not for every frame"


def output_engine(writer: FrameResultWriter, outputs: list[Any]) -> Engine:
    engine = Engine(lambda _, output: output)
    writer.attach(engine)
    engine.run(outputs)
    return engine


def test_batch_dict_with_all_three(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    same = [frames[0], {**frames[0], "file": "c.png"}]
    network = torch.zeros(2, 2, 20, 30)
    network[:, 0] = 0.8
    network[:, 1] = 0.2
    network[0, 1, :10] = 0.7  # 300 px
    companion = torch.zeros(2, 20, 30)
    companion[0, :5] = 0.9  # 150 px of those
    batch = {
        "file": [item["file"] for item in same],
        "path": [item["path"] for item in same],
        "pred": MetaTensor(network),
        "pred_companion": companion,
        "pred_flip": network[:, 1:].clone(),
    }
    output_engine(results_writer(tmp_path / "out", overlays=False), [batch])
    first, second = rows_of(tmp_path / "out/results.csv")
    # network and companion 2*150/450, network and flip 1, companion and flip 2*150/450
    assert float(first["agreement"]) == pytest.approx((2 / 3 + 1 + 2 / 3) / 3, abs=1e-6)
    assert first["agreement_of"] == "network+companion+flip" and first["quality"] == "check"
    assert second["quality"] == "ok" and second["overlay"] == ""
    assert not (tmp_path / "out/overlays").exists()


def test_failing_frames_are_listed_and_the_others_written(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    good = {"file": frames[0]["file"], "path": frames[0]["path"], "pred": torch.zeros(20, 30)}
    (tmp_path / "in/broken.png").write_bytes(b"not a picture")
    bad = [
        {**good, "file": "size.png", "pred": torch.zeros(30, 20)},
        {**good, "file": "nan.png", "pred": torch.full((20, 30), torch.nan)},
        {**good, "file": "logits.png", "pred": torch.full((20, 30), -4.0)},
        {**good, "file": "classes.png", "pred": torch.zeros(3, 20, 30)},
        {**good, "file": "flip.png", "pred_flip": torch.zeros(20, 29)},
        {**good, "file": "broken.png", "path": str(tmp_path / "in/broken.png")},
        {**good, "file": "gone.png", "path": str(tmp_path / "in/gone.png")},
        {**good, "file": "../outside.png"},
    ]
    out = tmp_path / "out"
    output_engine(results_writer(out), [[item] for item in [*bad[:4], good, *bad[4:]]])
    assert [row["file"] for row in rows_of(out / "results.csv")] == [good["file"]]
    failures = {row["file"]: row["error"] for row in rows_of(out / "failures.csv")}
    assert list(failures) == [item["file"] for item in bad]
    for file, words in (
        ("size.png", "(30, 20), the picture (20, 30)"),
        ("nan.png", "not finite"),
        ("logits.png", "apply the softmax"),
        ("classes.png", "(3, 20, 30)"),
        ("flip.png", "flip probability is (20, 29)"),
        ("broken.png", "broken.png"),
        ("gone.png", "gone.png"),
        ("../outside.png", "stays inside"),
    ):
        assert words in failures[file]
    assert [str(p.relative_to(out)) for p in sorted(out.rglob("*.png"))] == ["masks/a/x 1.png", "overlays/a/x 1.png"]

    output_engine(results_writer(out), [[good]])
    assert not (out / "failures.csv").exists(), "an earlier run's failures must not look like this one's"


def test_nothing_is_left_of_an_earlier_run_where_a_frame_fails(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    """A mask of another network, or of a frame that was there before, must not pass for this run's."""
    out = tmp_path / "out"
    good = {"file": "a/x 1.png", "path": frames[0]["path"], "pred": torch.zeros(20, 30)}
    for error in ("", "damaged"):
        record = out / "masks/b/x 1.png.json"
        second = {"file": "b/x 1.png", "path": frames[1]["path"], "pred": torch.zeros(12, 8), "error": error}
        output_engine(results_writer(out), [[good, second]])
        kept = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.png"))]
        if not error:
            assert kept == [f"{folder}/{name}/x 1.png" for folder in ("masks", "overlays") for name in "ab"]
            record.write_text("{}")
    assert kept == ["masks/a/x 1.png", "overlays/a/x 1.png"] and not record.exists()


def test_when_every_frame_fails(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    item = {"file": "x.png", "path": frames[0]["path"], "pred": torch.zeros(5, 5)}
    with pytest.raises(RuntimeError, match=r"none of 1 frames.*failures\.csv"):
        output_engine(results_writer(tmp_path / "out"), [[item]])
    assert len(rows_of(tmp_path / "out/failures.csv")) == 1


def test_a_missing_key_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"lacks \['path', 'pred'\], found \['file'\]"):
        output_engine(results_writer(tmp_path / "out"), [[{"file": "x.png"}]])


def test_unwritable_output_ends_the_run(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    item = {"file": "x.png", "path": frames[0]["path"], "pred": torch.zeros(20, 30)}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="give another output_dir"):
        output_engine(results_writer(tmp_path / "file" / "out"), [[item]])
    out = tmp_path / "out"
    (out / "masks" / "x.png").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"masks/x\.png"):
        output_engine(results_writer(out), [[item]])


def test_masks_of_a_data_set_are_not_written_over(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    """--dataset_dir polyps/images --output_dir polyps."""
    item = {"file": "x.png", "path": frames[0]["path"], "pred": torch.zeros(20, 30)}
    for name in ("images", "masks"):
        (tmp_path / "polyps" / name).mkdir(parents=True)
    drawn = tmp_path / "polyps/masks/x.png"
    drawn.write_bytes(b"drawn by hand")
    with pytest.raises(OutputError, match="holds images/ and masks/, a data set.*another output_dir"):
        output_engine(results_writer(tmp_path / "polyps"), [[item]])
    assert drawn.read_bytes() == b"drawn by hand"
    shutil.rmtree(drawn.parent)
    for _ in range(2):  # predicted the first time, and so the second
        output_engine(results_writer(tmp_path / "polyps"), [[item]])
    assert np.asarray(Image.open(drawn)).shape == (20, 30)


def test_the_same_stem_twice(tmp_path: Path, frames: list[dict[str, Any]]) -> None:
    path = frames[0]["path"]
    items = [{"file": file, "path": path, "pred": torch.zeros(20, 30)} for file in ("x.png", "x.jpg")]
    output_engine(results_writer(tmp_path / "out", files=("x.png", "x.jpg")), [items])
    assert [row["mask"] for row in rows_of(tmp_path / "out/results.csv")] == ["masks/x_png.png", "masks/x_jpg.png"]


@pytest.mark.parametrize("option", [{"threshold": 1.5}, {"lowest_agreement": -0.1}])
def test_options_out_of_range(tmp_path: Path, option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a value in 0..1"):
        results_writer(tmp_path, **option)


def test_tables_of_an_earlier_run_are_gone_when_a_new_one_begins(tmp_path: Path) -> None:
    for name in ("results.csv", "videos.csv", "failures.csv", "notes.csv"):
        (tmp_path / name).write_text("old")
    writer = results_writer(tmp_path)
    writer.start(Engine(lambda engine, batch: None))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.csv"]
