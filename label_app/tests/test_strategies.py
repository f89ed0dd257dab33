"""The right image next: made-up scores in, the best come back in order, which 0.8.5's own choice does not do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesion_label.datastore import LesionDatastore
from lesion_label.scoring import LesionScoring, Scores
from lesion_label.strategies import LesionStrategy
from lesion_label.weights import WeightsStore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.tasks.activelearning.epistemic import Epistemic
from PIL import Image

from scripts.data.errors import DatasetError

SCORES = {0: 0.2, 1: 0.9, 2: 0.4, 3: 0.8, 4: 0.1, 5: 0.7, 6: 0.3, 7: 0.6, 8: 0.5, 9: 0.05}
IN_ORDER = [f"image_{number}" for number in sorted(SCORES, key=SCORES.get, reverse=True)]


@pytest.fixture
def datastore(studies: Path) -> LesionDatastore:
    return LesionDatastore(str(studies), auto_reload=False)


@pytest.fixture
def scoring(tmp_path: Path) -> LesionScoring:
    """Scores as a network with the released weights would have left them; features along one line."""
    release = tmp_path / "model.pt"
    release.write_bytes(b"weights")
    store = WeightsStore(tmp_path / "rounds", release)
    scoring = LesionScoring(None, store)
    rows = {
        f"image_{number}": row(score, [np.cos(number / 5), np.sin(number / 5)], "lesion" if number % 2 else "clear")
        for number, score in SCORES.items()
    }
    Scores(scoring.weights_id(), rows).write(scoring.path)
    return scoring


def row(score: float, features: list[float], stratum: str = "lesion") -> dict[str, Any]:
    return {"score": score, "stratum": stratum, "lesion_share": 0.1, "features": np.array(features), "error": ""}


def ask(kind: str, scoring: LesionScoring, datastore: LesionDatastore, **request: Any) -> dict[str, Any]:
    found = LesionStrategy(kind, scoring)({"strategy": kind, **request}, datastore)
    assert found is not None
    return found


@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_best_come_back_in_order(count: int, scoring: LesionScoring, datastore: LesionDatastore) -> None:
    found = ask("uncertainty", scoring, datastore, n=count, noise=0, strata=False, group_cap=0)
    assert found["choices"] == IN_ORDER[:count]
    assert found["id"] == "image_1" and found["score"] == 0.9


def test_epistemic_of_monailabel_does_not(datastore: LesionDatastore) -> None:
    """Why this app has strategies of its own. If this fails, MONAI Label has been mended."""
    for number, score in SCORES.items():
        datastore.update_image_info(f"image_{number}", {"epistemic_entropy": score})
    datastore.update_image_info("image_1", {"strategy": {"epistemic": {"ts": int(time.time())}}})
    found = Epistemic(k=2)({"strategy": "epistemic"}, datastore)
    assert found is not None and found["id"] != "image_1"  # served before: falls behind
    datastore.update_image_info("image_3", {"strategy": {"epistemic": {"ts": int(time.time())}}})
    found = Epistemic(k=2)({"strategy": "epistemic"}, datastore)
    assert found is not None and found["id"] not in IN_ORDER[:2]  # and leaves the two best, although k is 2


def test_labelled_images_are_not_offered(scoring: LesionScoring, datastore: LesionDatastore, studies: Path) -> None:
    datastore.save_label("image_1", str(studies / "image_0.png"), "final", {})
    for kind in ("random", "first", "uncertainty", "diversity"):
        assert "image_1" not in ask(kind, scoring, datastore, n=9)["choices"]


def test_nothing_left_is_none(scoring: LesionScoring, datastore: LesionDatastore, studies: Path) -> None:
    for number in range(10):
        datastore.save_label(f"image_{number}", str(studies / "image_0.png"), "final", {})
    assert LesionStrategy("uncertainty", scoring)({}, datastore) is None


def test_strata_and_cap_change_the_order(scoring: LesionScoring, datastore: LesionDatastore, studies: Path) -> None:
    lines = ["file,group", *(f"image_{number}.png,{'video' if number in (1, 3, 5) else number}" for number in SCORES)]
    (studies / "groups.csv").write_text("\n".join(lines) + "\n")
    plain = ask("uncertainty", scoring, datastore, n=3, noise=0, strata=False, group_cap=0)["choices"]
    assert plain == ["image_1", "image_3", "image_5"]
    capped = ask("uncertainty", scoring, datastore, n=3, noise=0, strata=False, group_cap=1)["choices"]
    assert capped == ["image_1", "image_7", "image_8"]
    mixed = ask("uncertainty", scoring, datastore, n=4, noise=0, group_cap=0)["choices"]
    assert {int(name[-1]) % 2 for name in mixed} == {0, 1}  # both strata


def test_scores_of_other_weights_are_not_used(scoring: LesionScoring, datastore: LesionDatastore) -> None:
    scoring.store.publish(scoring.store.release, {})
    (scoring.store.folder / "round_001.pt").write_bytes(b"other weights")
    assert scoring.missing(datastore) == sorted(datastore.list_images(), key=datastore.list_images().index)
    found = ask("uncertainty", scoring, datastore)
    assert "nothing is scored yet" in found["reason"]
    scoring.store.use("release")
    assert ask("uncertainty", scoring, datastore, noise=0, strata=False)["id"] == "image_1"


def test_without_a_network_uncertainty_becomes_diversity_and_says_so(
    scoring: LesionScoring, datastore: LesionDatastore
) -> None:
    scoring.store.release.unlink()
    rows = {name: {**one, "score": float("nan"), "stratum": ""} for name, one in Scores.read(scoring.path).rows.items()}
    Scores(scoring.weights_id(), rows).write(scoring.path)
    found = ask("uncertainty", scoring, datastore, n=2)
    assert found["score"] is None and "no network was trained yet" in found["reason"]
    assert found["choices"] == ask("diversity", scoring, datastore, n=2)["choices"]


def many_kinds(folder: Path, scoring: LesionScoring, lesions: bool = False) -> LesionDatastore:
    """A hundred pictures of ten kinds, three in four of the first; with `lesions`, one in five likely shows one."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(10, 16))
    folder.mkdir()
    rows = {}
    for number in range(100):
        kind = number % 10 if number < 25 else 0
        name = f"kind{kind}_{number:02d}"
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{name}.png")
        stratum = ("lesion" if number % 5 == 0 else "clear") if lesions else ""
        rows[name] = row(float("nan"), centres[kind] + 0.1 * draw.normal(size=16), stratum)
    Scores(scoring.weights_id(), rows).write(scoring.path)
    return LesionDatastore(str(folder), auto_reload=False)


def asked_singly(scoring: LesionScoring, datastore: LesionDatastore, count: int) -> list[str]:
    """Images that diversity names one after the other, each labelled before the next is asked for."""
    named = []
    for _ in range(count):
        named.append(ask("diversity", scoring, datastore)["id"])
        datastore.save_label(named[-1], datastore.get_image_uri(named[-1]), "final", {})
    return named


def test_diversity_asked_singly_shows_as_many_kinds_as_one_lot(scoring: LesionScoring, tmp_path: Path) -> None:
    datastore = many_kinds(tmp_path / "kinds", scoring)
    lot = {name[:5] for name in ask("diversity", scoring, datastore, n=10)["choices"]}
    drawn = {name[:5] for name in ask("random", scoring, datastore, n=10)["choices"]}
    singly = {name[:5] for name in asked_singly(scoring, datastore, 10)}
    assert len(singly) >= len(lot) - 1 >= 8 and len(singly) > len(drawn)


def test_half_of_those_that_diversity_names_singly_are_likely_lesions(scoring: LesionScoring, tmp_path: Path) -> None:
    named = asked_singly(scoring, many_kinds(tmp_path / "kinds", scoring, lesions=True), 10)
    assert sum(int(name[-2:]) % 5 == 0 for name in named) == 5


def test_random_is_drawn_anew_after_each_label(
    scoring: LesionScoring, datastore: LesionDatastore, studies: Path
) -> None:
    first = ask("random", scoring, datastore, n=9)["choices"]
    assert first == ask("random", scoring, datastore, n=9)["choices"]
    assert first != sorted(first)
    datastore.save_label(first[-1], str(studies / "image_0.png"), "final", {})
    assert ask("random", scoring, datastore, n=9)["choices"][:8] != first[:8]


@pytest.mark.parametrize("count", [0, -1, True, "3", 2.5])
def test_bad_counts(count: Any, scoring: LesionScoring, datastore: LesionDatastore) -> None:
    with pytest.raises(MONAILabelException):
        LesionStrategy("first", scoring)({"n": count}, datastore)


@pytest.mark.parametrize(
    ("kind", "request_", "message"),
    [
        ("random", {"seed": "x"}, "seed 'x': expected a whole number, 0 or more"),
        ("diversity", {"seed": -1}, "seed '-1'"),
        ("first", {"seed": [1]}, "seed"),
        ("uncertainty", {"noise": "loud"}, "noise 'loud': expected a number, 0 or more"),
        ("uncertainty", {"noise": float("nan")}, "noise 'nan'"),
        ("uncertainty", {"group_cap": "many"}, "group_cap 'many'"),
        ("uncertainty", {"group_cap": -2}, "group_cap '-2'"),
        ("uncertainty", {"strata": {"lesion": -1}}, "strata {'lesion': -1}: expected true, false or shares"),
        ("uncertainty", {"strata": {"lesion": None}}, "strata {'lesion': None}"),
        ("uncertainty", {"strata": {}}, "strata {}"),
    ],
)
def test_bad_parameters_are_named(
    kind: str, request_: dict[str, Any], message: str, scoring: LesionScoring, datastore: LesionDatastore
) -> None:
    with pytest.raises(MONAILabelException) as raised:
        LesionStrategy(kind, scoring)(request_, datastore)
    assert raised.value.error is MONAILabelError.INVALID_INPUT and message in raised.value.msg


def test_parameters_that_are_left_open_have_their_defaults(scoring: LesionScoring, datastore: LesionDatastore) -> None:
    nothing = dict.fromkeys(("seed", "noise", "group_cap"))
    assert ask("uncertainty", scoring, datastore, **nothing) == ask("uncertainty", scoring, datastore)


def test_a_groups_csv_that_is_wrong_is_said(scoring: LesionScoring, datastore: LesionDatastore, studies: Path) -> None:
    (studies / "groups.csv").write_text("file,group\nother.png,a\n")
    with pytest.raises(DatasetError, match="none of its 1 rows names a picture"):
        ask("uncertainty", scoring, datastore)


def test_scores_survive_the_file(tmp_path: Path) -> None:
    rows = {"a": row(0.5, [1.0, 2.0]), "b": {**row(float("nan"), []), "error": "broken"}}
    Scores("id", rows).write(tmp_path / "scores.npz")
    again = Scores.read(tmp_path / "scores.npz")
    assert again.weights == "id" and again.rows["a"]["score"] == 0.5 and again.rows["b"]["error"] == "broken"
    np.testing.assert_array_equal(again.rows["a"]["features"], [1, 2])
    (tmp_path / "scores.npz").write_bytes(b"half a fi")
    assert Scores.read(tmp_path / "scores.npz").rows == {}
