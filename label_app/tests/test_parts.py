"""Weights, polygons, percent-encoding, training options: what can be checked by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lesion_label.bundle import Bundle, BundleNotFoundError, find_bundle
from lesion_label.datastore import LesionDatastore
from lesion_label.label_volume import read_label
from lesion_label.polygons import annotations, mask_polygons
from lesion_label.security import plain
from lesion_label.train import STATE, LesionTrain, read_round, value_map_of
from lesion_label.weights import WeightsError, WeightsStore
from monailabel.interfaces.exception import MONAILabelException

from scripts.data.manifest import KEYS
from scripts.io.errors import MediaError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_rounds_are_kept_chosen_and_left(tmp_path: Path) -> None:
    release = tmp_path / "model.pt"
    store = WeightsStore(tmp_path / "rounds", release)
    assert store.current() is None and store.names() == []
    with pytest.raises(WeightsError, match="there are no weights yet"):
        store.path()
    release.write_bytes(b"release")
    assert store.current() == "release"
    trained = tmp_path / "trained.pt"
    for number in (1, 2):
        trained.write_bytes(b"round %d" % number)
        assert store.publish(trained, {"labels": number}) == f"round_00{number}" == store.current()
    assert store.names() == ["round_002", "round_001", "release"]
    assert store.path().read_bytes() == b"round 2" and store.path("round_001").read_bytes() == b"round 1"
    store.use("round_001")
    assert store.path().read_bytes() == b"round 1"
    assert store.publish(trained, {}) == "round_003"  # no number twice
    store.use("release")
    assert store.path() == release and release.read_bytes() == b"release"
    assert [one["name"] for one in store.describe()["available"]] == ["round_003", "round_002", "round_001", "release"]
    for name in ("round_009", "../model", ""):
        if name:
            with pytest.raises(WeightsError, match="there are current, round_003"):
                store.use(name)
    (tmp_path / "rounds" / "current.json").write_text("{broken")
    assert store.current() == "round_003"


def test_a_copy_in_the_folder_is_no_round(tmp_path: Path) -> None:
    store, trained = WeightsStore(tmp_path, tmp_path / "model.pt"), tmp_path / "trained.pt"
    trained.write_bytes(b"weights")
    for name in ("round_001", "round_001_best", "round_", "round_999", "round_1000"):
        (tmp_path / f"{name}.pt").write_bytes(b"a copy")
    assert store.names() == ["round_1000", "round_999", "round_001"]
    assert store.publish(trained, {}) == "round_1001" == store.current()


def manifest(folder: Path, training: str, validation: str) -> Path:
    """The manifest of a run on pictures of one letter each, and its model.pt beside it -> that."""
    folder.mkdir()
    sections = {"training": training, "validation": validation}
    files = [
        {"section": name, "file": f"{one}.png", "sha256": one} for name, found in sections.items() for one in found
    ]
    (folder / "manifest.json").write_text(json.dumps(dict.fromkeys(KEYS, 0) | {"warnings": [], "files": files}))
    (folder / "model.pt").write_bytes(b"weights")
    return folder / "model.pt"


def test_a_round_measured_on_what_earlier_ones_have_learnt_says_so(task: LesionTrain, tmp_path: Path) -> None:
    store = task.store
    store.publish(manifest(tmp_path / "first", "abc", "d"), {"start_from": "none"})
    more_labels = manifest(tmp_path / "second", "abce", "df")
    assert task._warnings("round_001", more_labels.with_name("manifest.json")) == {}, "an ordinary round"
    store.publish(more_labels, {"start_from": "round_001"})
    other_seed = manifest(tmp_path / "third", "cdef", "ab")
    ((warning,),) = task._warnings("round_002", other_seed.with_name("manifest.json")).values()
    assert warning.startswith("2 of the images held out for val_dice have trained round_002 or a round before it")
    assert "a.png, now validation, was training; b.png" in warning
    assert task._warnings("none", other_seed.with_name("manifest.json")) == {}
    store.publish(other_seed, {"start_from": "round_002"})
    ((warning,),) = task._warnings(
        "round_003", manifest(tmp_path / "fourth", "f", "ax").parent / "manifest.json"
    ).values()
    assert "a.png, now validation, was earlier training." in warning, "round_003 itself has not trained on it"
    assert store.names() == ["round_003", "round_002", "round_001"], "manifests are no rounds"


def test_polygon_of_a_rectangle() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:11, 8:21] = 1
    mask[7:9, 12:15] = 0  # a hole: filled
    mask[15, 2] = 1  # a speck: left out
    assert [sorted(outline) for outline in mask_polygons(mask)] == [[[8, 5], [8, 10], [20, 5], [20, 10]]]


@pytest.mark.parametrize("seed", range(5))
def test_polygons_filled_again_are_the_mask(seed: int) -> None:
    import cv2

    random = np.random.default_rng(seed)
    mask = cv2.GaussianBlur(random.random((90, 120)).astype(np.float32), (0, 0), 6)
    mask = (mask > np.quantile(mask, 0.7)).astype(np.uint8)
    drawn = np.zeros_like(mask)
    for outline in mask_polygons(mask, smallest_area=1):
        cv2.fillPoly(drawn, [np.array(outline)], 1)
    filled = np.zeros_like(mask)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    both = 2 * (drawn & filled).sum() / (drawn.sum() + filled.sum())
    assert both > 0.97


def test_annotations_name_the_frame() -> None:
    masks = np.zeros((2, 20, 20), np.uint8)
    masks[1, 3:9, 3:9] = 1
    empty, full = annotations(masks)
    assert empty["frame"] == 0 and empty["annotation"]["elements"] == []
    assert full["frame"] == 1 and len(full["annotation"]["elements"][0]["contours"][0]) == 4


@pytest.mark.parametrize(
    ("given", "expected"), [("a%2fb", "a/b"), ("%252e%252e", ".."), ("%25252525252e", "\x00"), ("100%", "100%")]
)
def test_percent_encoding_is_undone_to_the_end(given: str, expected: str) -> None:
    assert plain(given) == expected


def test_the_bundle_is_found_or_where_it_was_looked_for_is_said(tmp_path: Path) -> None:
    assert find_bundle(REPOSITORY / "label_app", {}).root == REPOSITORY / "bundle"
    with pytest.raises(BundleNotFoundError, match="expected a folder with configs/inference.json"):
        find_bundle(tmp_path / "app", {})
    with pytest.raises(BundleNotFoundError, match="serves endoscopic_lesion_segmentation alone"):
        find_bundle(REPOSITORY / "label_app", {"models": "spleen_ct_segmentation"})


@pytest.fixture
def task(tmp_path: Path) -> LesionTrain:
    return LesionTrain(Bundle(REPOSITORY / "bundle"), WeightsStore(tmp_path / "rounds", tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_epochs": 0}, "max_epochs 0"),
        ({"max_epochs": "4"}, "max_epochs '4'"),
        ({"seed": -1}, "seed -1"),
        ({"objective": "magic"}, "objective 'magic'"),
        ({"start_from": "round_007"}, "no weights"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_bad_training_options(task: LesionTrain, params: dict, message: str) -> None:
    with pytest.raises(MONAILabelException) as raised:
        task.options(params)
    assert message in raised.value.msg


def test_the_first_round_starts_from_the_encoder(task: LesionTrain) -> None:
    options = task.options({"objective": ["supervised", "weak_to_strong"]})
    assert options["start_from"] == "none" and options["objective"] == "supervised"
    command = task._command(options, "studies", Path("runs/run_1"))
    assert "configs/train_supervised.json" in command[5] and "--init_checkpoint" not in command
    task.store.release.write_bytes(b"x")
    options = task.options({})
    assert options["start_from"] == "release"
    assert str(task.store.release) == task._command(options, "studies", Path("r"))[-1]


def test_a_round_by_a_config_of_its_own(task: LesionTrain, tmp_path: Path) -> None:
    path = tmp_path / "round.json"
    path.write_text('{"max_epochs": 7}')
    own = LesionTrain(task.bundle, task.store, round_config=path)
    assert own.options({})["max_epochs"] == 7
    assert str(path) in own._command(own.options({}), "studies", Path("runs/run_1"))[5]
    assert value_map_of(task.bundle, path) is value_map_of(task.bundle, None) is None
    path.write_text('{"max_epochs": 7, "value_map": {"0": 0, "1": 1, "2": 1}}')
    assert value_map_of(task.bundle, path) == {"0": 0, "1": 1, "2": 1}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "no such file"),
        ("max_epochs: 3", ValueError, "not a JSON file"),
        ('{"max_epoch": 3}', ValueError, "no max_epochs"),
    ],
)
def test_a_round_config_that_is_none(content: str | None, error: type[Exception], message: str, tmp_path: Path) -> None:
    path = tmp_path / "round.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message):
        read_round(path)


def test_stats_of_a_round_whose_process_is_gone(task: LesionTrain, tmp_path: Path) -> None:
    assert task.stats() == {}
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.csv").write_text("epoch,loss,val_dice\n1,0.9,\n2,0.5,0.61\n3,0.4,0.58\n")
    state = {"run_dir": str(run), "max_epochs": 8, "started": 1000.0, "status": "RUNNING", "pid": 2**22 + 1}
    task.store.folder.mkdir()
    (task.store.folder / STATE).write_text(json.dumps({**state, "labels": 5, "unlabeled": 7}))
    stats = task.stats()
    assert stats["status"] == "STOPPED" and stats["epoch"] == 3 and stats["total_epochs"] == 8
    assert stats["best_metric"] == 0.61 and stats["eval"]["metrics"]["val_dice"] == 0.58
    assert stats["train"]["metrics"]["loss"] == 0.4


class WithoutResult(LesionTrain):
    """A training that ends well and leaves nothing."""

    def _command(self, options: dict, dataset: str, run_dir: Path) -> list[str]:
        return [sys.executable, "-c", ""]


def test_a_round_that_fails_after_its_training_is_no_running_one(task: LesionTrain, studies: Path) -> None:
    datastore = LesionDatastore(str(studies), auto_reload=False)
    for number in range(3):
        datastore.save_label(f"image_{number}", str(studies / "image_0.png"), "final", {})
    broken = WithoutResult(task.bundle, task.store)
    with pytest.raises(FileNotFoundError, match="test_metrics.json"):
        broken({"device": "cpu"}, datastore)
    assert broken.stats()["status"] == "ERROR" and task.store.names() == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        # ITK would read the numbers of the file that the header names, and the error told them.
        ("a.nrrd", b"NRRD0004\ntype: short\ndimension: 1\nsizes: 2\ndata file: /etc/passwd\n\n", "in another file"),
        ("a.mha", b"ObjectType = Image\nElementDataFile = /etc/passwd\n", "expected .nii.gz, .nrrd"),
    ],
)
def test_a_label_that_names_another_file_is_not_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaError, match=message):
        read_label(path, None)


def test_several_values_are_counted_and_not_told(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    np.array([0, 77, 99, 99], np.uint8).tofile(path)
    series = SimpleNamespace(shape=(1, 2, 2), uid="1.2")
    with pytest.raises(MediaError, match="2 values beside 0; expected 0 and one other") as caught:
        read_label(path, series)
    assert "77" not in str(caught.value)
