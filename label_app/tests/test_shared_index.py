"""Two processes on one folder: neither loses what the other has written, and the server hears of it at once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from lesion_label.datastore import LesionDatastore
from lesion_label.dicomweb import LesionDICOMWebDatastore, open_dicomweb
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from small_archive import SmallArchive

REPOSITORY = Path(__file__).resolve().parents[2]
SAVE = """
import sys
from lesion_label.datastore import LesionDatastore
LesionDatastore(sys.argv[1], auto_reload=False).save_label(sys.argv[2], sys.argv[3], "final", {"by": "another process"})
"""


def until(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def on_disk(studies: Path) -> dict:
    return json.loads((studies / "datastore_v2.json").read_text())["objects"]


@pytest.mark.parametrize("polling", [False, True])  # as MONAI Label does on mounted folders
def test_the_server_hears_of_a_label_that_another_process_saves(
    polling: bool, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LesionDatastore, "_is_on_mount", lambda *_: polling)
    server = LesionDatastore(str(studies), auto_reload=True)
    try:
        command = [sys.executable, "-c", SAVE, str(studies), "image_4", str(studies / "image_0.png")]
        folders = [str(REPOSITORY / "label_app"), str(REPOSITORY / "bundle")]
        subprocess.run(command, check=True, env={"PYTHONPATH": ":".join(folders), "CUDA_VISIBLE_DEVICES": ""})
        assert until(lambda: server.get_labeled_images() == ["image_4"])
        assert until(lambda: server.get_label_info("image_4", "final").get("by") == "another process")
    finally:
        server._observer.stop()


def test_the_server_hears_of_a_picture_that_is_renamed_into_the_folder(studies: Path, tmp_path: Path) -> None:
    server = LesionDatastore(str(studies), auto_reload=True)
    try:
        (studies / "image_9.png").rename(studies / "copied.tmp")
        assert until(lambda: "image_9" not in server.list_images())
        (studies / "copied.tmp").rename(studies / "new.png")
        assert until(lambda: "new" in server.list_images())
    finally:
        server._observer.stop()


def test_no_process_writes_over_what_another_has_written(studies: Path) -> None:
    label = str(studies / "image_0.png")
    one, two = (LesionDatastore(str(studies), auto_reload=False) for _ in range(2))
    one.save_label("image_1", label, "final", {"by": "one"})
    two.save_label("image_2", label, "final", {"by": "two"})
    one.update_image_info("image_3", {"seen": "one"})
    two.update_image_info("image_4", {"seen": "two"})
    one.update_label_info("image_2", "final", {"checked": True})
    two.add_image("new", label, {"from": "two"})
    one.refresh()
    found = on_disk(studies)
    assert found["image_1"]["labels"]["final"]["info"]["by"] == "one"
    info = found["image_2"]["labels"]["final"]["info"]
    assert info["by"] == "two" and info["checked"]
    assert (found["image_3"]["image"]["info"]["seen"], found["image_4"]["image"]["info"]["seen"]) == ("one", "two")
    assert found["new"]["image"]["info"]["from"] == "two"
    assert two.get_label_info("image_1", "final")["by"] == "one"


def test_what_is_not_there_has_no_info(studies: Path) -> None:
    datastore = LesionDatastore(str(studies), auto_reload=False)
    with pytest.raises(ImageNotFoundException):
        datastore.update_image_info("image_99", {})
    with pytest.raises(LabelNotFoundException):
        datastore.update_label_info("image_1", "final", {})


@pytest.fixture
def archive() -> Iterator[SmallArchive]:
    started = SmallArchive()
    yield started
    started.stop()


def stale(archive: SmallArchive, cache: Path) -> LesionDICOMWebDatastore:
    """A datastore that hears of nothing, as in a process that is busy."""
    found = open_dicomweb(archive.url, str(cache))
    found._observer.unschedule_all()
    return found


def test_no_lesion_stays_the_label_whatever_another_process_fetches(archive: SmallArchive, tmp_path: Path) -> None:
    image, other = archive.add(), archive.add()
    archive.add(of=image)  # an older label, which "no lesion" takes the place of
    server, training = (stale(archive, tmp_path / "cache") for _ in range(2))
    empty = SimpleITK.GetImageFromArray(np.zeros((1, 8, 8), np.uint8))
    SimpleITK.WriteImage(empty, str(tmp_path / "label.nii.gz"))
    server.save_label(image, str(tmp_path / "label.nii.gz"), "final", {})
    training.get_image_uri(other)
    training._forget(other)
    again = stale(archive, tmp_path / "cache")
    assert again.get_label_info(image, "final").keys() >= {"SeriesInstanceUID", "known_segs"}
    assert Path(again.get_label_uri(image, "final")).is_file(), "the old SEG, which has no pixels, is not fetched"
