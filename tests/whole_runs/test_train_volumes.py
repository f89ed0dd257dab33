"""Volumes of three classes: trained, measured by volume and structure, reported, and measured again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from make_volumes import draw_volume, write_volumes
from monai.metrics import DiceMetric
from torch import as_tensor
from torch.nn.functional import one_hot

from scripts.engines.run_directory import LOCK_FILE

LAYERS = ("train", "train_supervised", "volumes")
FILES = {
    "manifest.json", "environment.json", "config.json", "metrics.csv", "test_metrics.json", "per_volume.csv",
    "predictions", "figures", "report.html", "model.pt", "last.pt", "tensorboard", LOCK_FILE,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("volumes") / "data", 6)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_volumes_from_start_to_report(run_config: Any, tiny: dict[str, Any], data: Path, tmp_path: Path) -> None:
    settings = tiny | {"max_epochs": 1, "iterations_per_epoch": 6, "learning_rate": 0.01, "split": [0.5, 0.2, 0.3]}
    paths = {"dataset_dir": str(data), "output_dir": str(tmp_path)}
    run_config(*LAYERS, **settings, **paths, run_name="v")
    run = tmp_path / "v"
    assert {path.name for path in run.iterdir()} == FILES
    metrics = json.loads((run / "test_metrics.json").read_text())
    assert "temperature" not in metrics
    figures = metrics["best"]["figures"]
    assert list(figures) == ["dice", "iou", "dice_anterior", "dice_posterior", "dice_pooled"]
    log = rows(run / "metrics.csv")[-1]
    for name in ("dice", "dice_anterior", "dice_posterior"):
        assert float(log[f"val_{name}"]) == pytest.approx(metrics["validation"]["figures"][name]["value"], abs=1e-6)

    table = rows(run / "per_volume.csv")
    files = list(dict.fromkeys(row["file"] for row in table))
    dice = DiceMetric(include_background=False, reduction="none")
    for file in files:
        written, source = nib.load(run / "predictions" / file), nib.load(data / file)
        assert written.shape == source.shape and np.allclose(written.affine, source.affine)
        _, truth = draw_volume(int(file.removeprefix("images/v").removesuffix(".nii.gz")))
        pair = (np.asarray(written.dataobj), truth)
        dice(*(one_hot(as_tensor(part).long(), 3).movedim(-1, 0)[None] for part in pair))
    expected = dice.aggregate().numpy()  # of the volumes on disk, by MONAI
    assert [float(row["dice"]) for row in table] == pytest.approx(expected.ravel().tolist(), abs=1e-5)
    assert figures["dice"]["value"] == pytest.approx(float(expected.mean()), abs=1e-6)
    assert 0 < figures["dice"]["value"] < 1, "neither nothing nor all was found"

    page = (run / "report.html").read_text(encoding="utf-8")
    assert "per_image.csv" not in page and "Dice, posterior" in page
    assert page.count('<figure class="case">') == len(files)
    assert "Not drawn" not in page and "inference.json" not in page.split('id="next"')[1]

    check_evaluation(run_config, settings, paths, run, tmp_path)
    check_prediction(run_config, settings, data, run, tmp_path)


def check_evaluation(
    run_config: Any, settings: dict[str, Any], paths: dict[str, str], run: Path, tmp_path: Path
) -> None:
    """evaluate.json may lie below or above volumes.json"""
    for place, layers in enumerate(((*LAYERS, "evaluate"), ("train", "evaluate", *LAYERS[1:]))):
        out = tmp_path / f"evaluation {place}"
        run_config(*layers, **settings, **paths, checkpoint=str(run / "model.pt"), evaluation_dir=str(out))
        assert (out / "per_volume.csv").read_text() == (run / "per_volume.csv").read_text()
        for path in (run / "predictions/images").iterdir():
            assert (out / "predictions/images" / path.name).read_bytes() == path.read_bytes()


def check_prediction(run_config: Any, settings: dict[str, Any], data: Path, run: Path, tmp_path: Path) -> None:
    """A folder without labels, one file of it broken: the others get the masks that the evaluation wrote."""
    kept = {name: settings[name] for name in settings if name.startswith(("network", "image_size"))}
    (tmp_path / "new").mkdir()
    measured = sorted((run / "predictions/images").iterdir())
    for path in measured:
        (tmp_path / "new" / path.name).write_bytes((data / "images" / path.name).read_bytes())
    (tmp_path / "new" / "broken.nii.gz").write_bytes(b"no volume")
    places = {"dataset_dir": str(tmp_path / "new"), "output_dir": str(tmp_path / "out")}
    with pytest.raises(SystemExit) as ended:
        run_config("train", "volumes", "predict_classes", **kept, **places, checkpoint=str(run / "model.pt"))
    assert ended.value.code == 3
    assert [row["file"] for row in rows(tmp_path / "out" / "failures.csv")] == ["broken.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == [path.name for path in measured]
    for path in measured:
        assert (tmp_path / "out" / "masks" / path.name).read_bytes() == path.read_bytes()


def test_pictures_with_several_classes(run_config: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    """no volumes at all: PNG with class indices as masks, and as predictions"""
    from PIL import Image

    root = tmp_path / "data"
    for number in range(8):
        values, labels = draw_volume(number, depth=1)
        for folder, pixels in (("images", values / values.max() * 255), ("masks", labels * 100)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0].T.astype(np.uint8)).save(root / folder / f"p{number}.png")
    settings = tiny | {"max_epochs": 1, "value_map": {"0": 0, "100": 1, "200": 2}}
    run_config(*LAYERS, **settings, dataset_dir=str(root), output_dir=str(tmp_path), run_name="p")
    run = tmp_path / "p"
    table = rows(run / "per_volume.csv")
    assert len(table) == 4 and {row["slices"] for row in table} == {"1"}
    for row in table[::2]:
        classes = np.asarray(Image.open(run / "predictions" / row["file"]))
        assert classes.shape == (60, 64) and set(np.unique(classes)) <= {0, 1, 2}
        assert (classes == 1).sum() == int(row["predicted_voxels"])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Segmentation of pictures" in page and "Not drawn" not in page
