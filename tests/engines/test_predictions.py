"""Predicted slices are put together again, whatever the order, and over several processes; the validation metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from make_volumes import CLASSES, draw_volume, write_volumes
from PIL import Image

from scripts.engines.predictions import ClassMaps, LesionMasks, predictions_for
from scripts.engines.volume_metric import VolumeDice
from scripts.metrics import LesionEvaluation, VolumeEvaluation

SMALL = {"side": 16, "depth": 5}


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    root = write_volumes(tmp_path / "data", 2, **SMALL)
    files = [f"images/v{number}.nii.gz#{index}" for number in range(2) for index in range(5)]
    return {file: str(root / file) for file in files} | {"a b.png": str(root / "a b.png")}


def stored(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_the_writer_suits_the_evaluation(tmp_path: Path) -> None:
    assert isinstance(predictions_for(LesionEvaluation(), tmp_path, {}), LesionMasks)
    assert isinstance(predictions_for(VolumeEvaluation(CLASSES), tmp_path, {}), ClassMaps)


def test_names_do_not_depend_on_who_comes_first(tmp_path: Path) -> None:
    """Two processes share these frames: neither may write over the other's mask."""
    files, mask = ["a/x.jpg", "a/x.png", "b.png"], np.ones((2, 3), np.uint8)
    for number, file in enumerate(reversed(files)):
        LesionMasks(tmp_path / "lesions", files).add(file, mask)
        ClassMaps(tmp_path / "classes", dict.fromkeys([*files, "v.nii.gz#0"], str(tmp_path))).add(file, mask + number)
    for folder in ("lesions", "classes"):
        found = {path.relative_to(tmp_path / folder).as_posix() for path in (tmp_path / folder).rglob("*.png")}
        assert found == {"a/x_jpg.png", "a/x_png.png", "b.png"}
    assert np.asarray(Image.open(tmp_path / "classes/a/x_jpg.png")).max() == 3


def test_slices_in_any_order(sources: dict[str, str], tmp_path: Path) -> None:
    maps = ClassMaps(tmp_path / "out", sources)
    truth = [draw_volume(number, **SMALL)[1] for number in range(2)]
    for index in (3, 0, 4, 1, 2):
        for number in (1, 0):
            assert not (tmp_path / f"out/images/v{number}.nii.gz").exists(), "not before it is whole"
            maps.add(f"images/v{number}.nii.gz#{index}", truth[number][..., index].T)
    for number in range(2):
        assert np.array_equal(stored(tmp_path / f"out/images/v{number}.nii.gz"), truth[number])
    maps.finish()
    assert len(list((tmp_path / "out/images").iterdir())) == 2


def test_volumes_of_which_slices_are_missing(
    sources: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maps = ClassMaps(tmp_path, sources)
    maps.add("images/v1.nii.gz#2", np.full((12, 16), 2, np.uint8))
    maps.finish()
    assert stored(tmp_path / "images/v1.nii.gz").sum(axis=(0, 1)).tolist() == [0, 0, 2 * 12 * 16, 0, 0]
    assert "images/v1.nii.gz: 1 of 5 slices were predicted; the others are 0" in caplog.text


def test_pictures_of_classes(sources: dict[str, str], tmp_path: Path) -> None:
    classes = np.arange(6, dtype=np.uint8).reshape(2, 3)
    ClassMaps(tmp_path, sources).add("a b.png", classes)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a b.png")), classes)


def test_a_volume_of_unknown_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"v9\.nii\.gz#0: it is not known where this slice lies"):
        ClassMaps(tmp_path, {}).add("v9.nii.gz#0", np.zeros((2, 2), np.uint8))


def _share(rank: int, sources: dict[str, str], folder: str, store: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    maps = ClassMaps(Path(folder), sources)
    truth = [draw_volume(number, **SMALL)[1] for number in range(2)]
    for place, (number, index) in enumerate(np.ndindex(2, 5)):
        if place % 2 == rank:
            maps.add(f"images/v{number}.nii.gz#{index}", truth[number][..., index].T)
    maps.finish()
    torch.distributed.destroy_process_group()


def test_two_processes_share_the_slices(sources: dict[str, str], tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_share, (sources, str(tmp_path / "out"), str(tmp_path / "store")), nprocs=2)
    for number in range(2):
        assert np.array_equal(stored(tmp_path / f"out/images/v{number}.nii.gz"), draw_volume(number, **SMALL)[1])


def run_metric(engine: Engine, batches: list[Any]) -> dict[str, Any]:
    engine.run(batches)
    return dict(engine.state.metrics)


def test_validation_metric_starts_anew_each_time() -> None:
    """a volume of two slices; class 1: tp 1, fp 1, fn 0 -> 2/3; class 2: tp 1, fp 0, fn 1 -> 2/3; then all right"""
    truth = [torch.tensor([[[1, 0, 2, 2]]]), torch.tensor([[[0, 0, 0, 0]]])]
    wrong = [torch.tensor([[[1, 1, 2, 0]]]), torch.tensor([[[0, 0, 0, 0]]])]

    def step(engine: Engine, batch: tuple[int, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        index, predicted = batch
        engine.state.batch = [{"file": f"v.nii.gz#{index}", "group": "g"}]
        return [{"pred": predicted, "label": truth[index]}]

    engine = Engine(step)
    VolumeDice(CLASSES).attach(engine, "val_dice")
    found = run_metric(engine, list(enumerate(wrong)))
    assert found == pytest.approx(
        {"val_dice": 2 / 3, "val_dice_anterior": 2 / 3, "val_dice_posterior": 2 / 3}, abs=1e-6
    )
    assert run_metric(engine, list(enumerate(truth)))["val_dice"] == 1.0


def test_a_slice_of_bad_classes_names_its_file() -> None:
    found = {"pred": torch.ones(1, 2, 2, dtype=torch.uint8), "label": torch.full((1, 2, 2), 9, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"v\.nii#1: label ranges over 9\.\.9"):
        VolumeDice(CLASSES).update(([{"file": "v.nii#1", "group": "g"}], [found]))
