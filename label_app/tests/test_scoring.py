"""What scores belong to, and a file of scores that is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lesion_label.bundle import Bundle
from lesion_label.datastore import LesionDatastore
from lesion_label.scoring import LesionScoring, Scores
from lesion_label.weights import WeightsStore

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def datastore(studies: Path) -> LesionDatastore:
    return LesionDatastore(str(studies), auto_reload=False)


def cold(tmp_path: Path, encoder_weights: str) -> LesionScoring:
    """Scoring as a server without trained weights makes it."""
    store = WeightsStore(tmp_path / "rounds", tmp_path / "model.pt")
    return LesionScoring(Bundle(REPOSITORY / "bundle"), store, encoder_weights)


def encoder_file(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    network = Bundle(REPOSITORY / "bundle").network(None, "cpu", "none")
    torch.save({f"encoder.body.{key}": value for key, value in network.encoder.body.state_dict().items()}, path)
    return str(path)


def features_of(scoring: LesionScoring) -> np.ndarray:
    return np.stack([row["features"] for _, row in sorted(scoring.current().rows.items())])


def test_features_of_other_encoder_weights_are_not_used(datastore: LesionDatastore, tmp_path: Path) -> None:
    without = cold(tmp_path, "none")
    assert without({"device": "cpu"}, datastore)["scored"] == 10
    before = features_of(without)
    assert not cold(tmp_path, "none").missing(datastore)
    given = cold(tmp_path, encoder_file(tmp_path / "encoder.pt", seed=5))
    assert len(given.missing(datastore)) == 10, "a server that is started with a file scores by it"
    assert given({"device": "cpu"}, datastore)["scored"] == 10
    assert np.abs(features_of(given) - before).max() > 1e-3
    encoder_file(tmp_path / "encoder.pt", seed=6)  # another file of the same name
    assert len(given.missing(datastore)) == 10


def test_features_of_a_random_encoder_are_the_same_every_time(datastore: LesionDatastore, tmp_path: Path) -> None:
    first, second = cold(tmp_path / "a", "none"), cold(tmp_path / "b", "none")
    first({"device": "cpu"}, datastore)
    torch.manual_seed(77)
    second({"device": "cpu"}, datastore)
    np.testing.assert_allclose(features_of(first), features_of(second), rtol=1e-4, atol=1e-6)


def test_what_auto_stood_for_is_kept(datastore: LesionDatastore, tmp_path: Path, studies: Path) -> None:
    """Yesterday ImageNet weights could be had, today random numbers take their place."""
    scoring = cold(tmp_path, "none")
    scoring({"device": "cpu"}, datastore)
    kept = scoring.current()
    Scores(kept.weights, kept.rows, "timm/mobilenetv2_100").write(scoring.path)
    assert scoring({"device": "cpu"}, datastore)["scored"] == 0, "nothing is asked of the network"
    datastore.add_image("new", str(studies / "image_0.png"), {})
    assert scoring({"device": "cpu"}, datastore)["scored"] == 11, "vectors of two encoders do not compare"
    assert scoring.current().encoder == "random"


def test_a_missing_file_of_encoder_weights_stops_no_list(datastore: LesionDatastore, tmp_path: Path) -> None:
    assert len(cold(tmp_path, str(tmp_path / "none.pt")).missing(datastore)) == 10


def whole(path: Path) -> bytes:
    """A file of scores of twenty images."""
    row = {"score": 0.5, "stratum": "clear", "lesion_share": 0.0, "features": np.arange(4.0), "error": ""}
    Scores("id", {f"image_{number}": row for number in range(20)}).write(path)
    return path.read_bytes()


def cut(path: Path) -> None:
    path.write_bytes(whole(path)[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros_inside(path: Path) -> None:
    content = whole(path)
    path.write_bytes(content[:200] + bytes(len(content) // 2) + content[200 + len(content) // 2 :])


def zip_of_nothing(path: Path) -> None:
    np.savez(path)


def one_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.arange(3))


@pytest.mark.parametrize("damage", [cut, empty, zeros_inside, zip_of_nothing, one_array])
def test_damaged_scores_are_made_again(
    damage: Callable[[Path], None],
    datastore: LesionDatastore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scoring = cold(tmp_path, "none")
    scoring.path.parent.mkdir()
    damage(scoring.path)
    assert len(scoring.missing(datastore)) == 10  # what a server asks for while it starts
    assert "scores.npz cannot be read" in caplog.text and "images are scored anew" in caplog.text
