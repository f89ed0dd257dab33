"""The DICOMweb datastore where a server gives some series and not others, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lesion_label.bundle import Bundle
from lesion_label.dicomweb import LesionDICOMWebDatastore, open_dicomweb
from lesion_label.scoring import LesionScoring, Scores
from lesion_label.strategies import DESCRIPTIONS, LesionStrategy
from lesion_label.train import _local_copy
from lesion_label.weights import WeightsStore
from small_archive import SmallArchive

from scripts.io.errors import MediaError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def archive() -> Iterator[SmallArchive]:
    started = SmallArchive()
    yield started
    started.stop()


@pytest.fixture
def datastore(archive: SmallArchive, tmp_path: Path) -> LesionDICOMWebDatastore:
    return open_dicomweb(archive.url, str(tmp_path / "cache"))


@pytest.fixture
def scoring(tmp_path: Path) -> LesionScoring:
    return LesionScoring(
        Bundle(REPOSITORY / "bundle"), WeightsStore(tmp_path / "rounds", tmp_path / "model.pt"), "none"
    )


def test_a_series_without_files_keeps_no_other_from_its_score(
    archive: SmallArchive, datastore: LesionDICOMWebDatastore, scoring: LesionScoring
) -> None:
    good, dead = archive.add(), archive.add()
    archive.without_files.add(dead)
    result = scoring({"device": "cpu"}, datastore)
    assert result["failed"] == [dead] and result["scored"] == 2
    rows = Scores.read(scoring.path).rows
    assert len(rows[good]["features"]) and "does not give its files (status 500)" in rows[dead]["error"]
    assert scoring.missing(datastore) == [], "or scoring would be started after every sample"
    archive.without_files.clear()  # mended on the server: the next scoring finds it
    assert scoring({"device": "cpu"}, datastore)["failed"] == []


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_series_without_files_is_passed_over(
    kind: str, archive: SmallArchive, datastore: LesionDICOMWebDatastore, scoring: LesionScoring
) -> None:
    series = sorted(archive.add() for _ in range(4))
    archive.without_files.update(series[:3])
    strategy = LesionStrategy(kind, scoring)
    for _ in range(2):
        assert strategy({"strategy": kind}, datastore)["id"] == series[3]


def test_where_no_series_can_be_fetched_it_is_said(
    archive: SmallArchive, datastore: LesionDICOMWebDatastore, scoring: LesionScoring
) -> None:
    archive.without_files.update(archive.add() for _ in range(2))
    for _ in range(2):
        with pytest.raises(MediaError, match="the DICOM server does not give its files"):
            LesionStrategy("random", scoring)({}, datastore)


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_what_scoring_could_not_read_is_not_offered(
    kind: str, archive: SmallArchive, datastore: LesionDICOMWebDatastore, scoring: LesionScoring
) -> None:
    series = sorted(archive.add() for _ in range(3))
    bad = {"score": float("nan"), "stratum": "", "lesion_share": float("nan"), "features": np.zeros(0)}
    rows = {uid: {**bad, "error": "broken"} for uid in series[:2]}
    Scores(scoring.weights_id(), rows).write(scoring.path)
    assert LesionStrategy(kind, scoring)({"n": 3}, datastore)["choices"] == [series[2]]


def test_patients_are_those_of_the_server_not_of_the_last_training(
    archive: SmallArchive, datastore: LesionDICOMWebDatastore, scoring: LesionScoring
) -> None:
    old = archive.add(patient="A")
    datastore.datalist()
    del archive.series[old]  # now groups.csv names no series that is listed
    series = [archive.add(patient=patient) for patient in "BBC"]
    rows = {}
    for number, uid in enumerate(series):
        vector = np.eye(3)[number]
        rows[uid] = {"score": float("nan"), "stratum": "", "lesion_share": 0.0, "features": vector, "error": ""}
    Scores(scoring.weights_id(), rows, "random").write(scoring.path)
    choices = LesionStrategy("diversity", scoring)({"n": 2}, datastore)["choices"]
    assert series[2] in choices, "one of each patient"


def test_training_goes_on_without_what_cannot_be_fetched(
    archive: SmallArchive, datastore: LesionDICOMWebDatastore
) -> None:
    good, dead, damaged = (archive.add() for _ in range(3))
    archive.add(of=dead)
    archive.add(of=damaged)  # a SEG without pixels
    archive.without_files.add(dead)
    folder = Path(_local_copy(datastore))
    assert {path.name for path in folder.glob("*.nii.gz")} == {f"{good}.nii.gz", f"{damaged}.nii.gz"}
    assert datastore.datalist() == []


@pytest.mark.parametrize("page", [1, 2, 3, 100])
def test_a_server_of_small_pages_is_listed_whole(page: int, archive: SmallArchive, tmp_path: Path) -> None:
    archive.page = page
    series = {archive.add() for _ in range(6)}
    assert set(open_dicomweb(archive.url, str(tmp_path / "cache")).list_images()) == series


def test_a_seg_without_header_keeps_no_other_from_the_list(
    archive: SmallArchive, datastore: LesionDICOMWebDatastore, caplog: pytest.LogCaptureFixture
) -> None:
    image, other = archive.add(), archive.add()
    archive.add(of=image)
    archive.without_header.add(archive.add(of=other))
    assert datastore.get_labeled_images() == [image] and datastore.get_unlabeled_images() == [other]
    assert "does not give its header (status 500)" in caplog.text
    begun = time.monotonic()
    for _ in range(20):
        datastore.get_labeled_images()
    assert time.monotonic() - begun < 5, "it is not asked for each time, with all its retries"
