"""Graded pictures: where the grade comes from, sections by patient, and data that cannot teach an order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.data.datalists import build_datalists
from scripts.data.errors import DatasetError
from scripts.data.graded_lists import AREA, build_graded_lists
from scripts.data.manifest import read_manifest

GRADES = ["healthy", "mild", "severe"]
SPLIT = (0.5, 0.25, 0.25)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)).save(path)


@pytest.fixture
def graded(tmp_path: Path) -> Callable[..., Path]:
    """Make images/p<patient>_<eye>.png and severity.csv -> the folder; each patient has two pictures of one grade."""

    def make(severities: list[str] | None = None, header: str = "file,severity,patient") -> Path:
        severities = severities if severities is not None else ["0", "1", "2"] * 4
        root = tmp_path / "graded"
        rows = [header]
        for patient, severity in enumerate(severities):
            for eye in "LR":
                picture(root / "images" / f"p{patient:02d}_{eye}.png", 2 * patient + (eye == "R"))
                if severity:
                    rows.append(f"p{patient:02d}_{eye}.png,{severity},patient {patient}")
        (root / "severity.csv").write_text("\n".join(rows))
        return root

    return make


def test_sections_by_patient_with_every_grade(graded: Callable[..., Path], tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    found = build_graded_lists(graded(), grades=GRADES, split=SPLIT, manifest_path=manifest)
    assert {name: len(items) for name, items in found.items()} == {
        "training": 12, "unlabeled": 0, "validation": 6, "test": 6,
    }  # fmt: skip
    patients = {name: {item["group"] for item in items} for name, items in found.items()}
    assert not patients["training"] & patients["test"] and not patients["training"] & patients["validation"]
    for name in ("training", "validation", "test"):
        assert {item["severity"] for item in found[name]} == {0.0, 1.0, 2.0}, "each grade on each side"
        assert all(int(item["group"].split()[1]) % 3 == item["severity"] for item in found[name])
    written = read_manifest(manifest)
    assert written["counts"]["training"] == {"images": 12, "groups": 6, "labelled": 12}
    assert {entry["file"]: entry["severity"] for entry in written["files"]}["images/p04_L.png"] == 1.0
    assert not written["warnings"]


def test_ungraded_pictures_and_those_beyond_the_fraction_have_no_severity(graded: Callable[..., Path]) -> None:
    root = graded(["0", "1", "2"] * 4 + ["", ""])
    found = build_graded_lists(root, split=SPLIT)
    assert len(found["unlabeled"]) == 4 and not any("severity" in item for item in found["unlabeled"])
    half = build_graded_lists(root, split=SPLIT, label_fraction=0.5)
    assert (len(half["training"]), len(half["unlabeled"])) == (6, 4 + 6)
    assert not any("severity" in item for item in half["unlabeled"])
    assert half["test"] == found["test"]
    known = {item["file"] for item in found["training"]}
    assert {item["file"] for item in half["training"]} < known
    assert build_graded_lists(root, split=SPLIT, unlabeled_data=False)["unlabeled"] == []


def test_another_table_and_the_word_grade(graded: Callable[..., Path], tmp_path: Path) -> None:
    root = graded(header="file;grade;patient")
    (root / "severity.csv").replace(tmp_path / "mine.csv")
    text = (tmp_path / "mine.csv").read_text().replace(",", ";").replace(".png", "")
    (tmp_path / "mine.csv").write_text(text)
    assert len(build_graded_lists(root, tmp_path / "mine.csv", split=SPLIT)["training"]) == 12
    with pytest.raises(DatasetError, match=r"severity_table .*none.csv does not exist"):
        build_graded_lists(root, tmp_path / "none.csv")


def test_a_datalist_says_it_itself(graded: Callable[..., Path], tmp_path: Path) -> None:
    graded()
    entries = [
        {"image": f"graded/images/p{n:02d}_{eye}.png", "group": f"patient {n}", "severity": n % 3}
        for n in range(12)
        for eye in "LR"
    ]
    content = {"training": entries[:12], "test": entries[12:18], "unlabeled": entries[18:]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    found = build_graded_lists(tmp_path / "list.json", split=(0.8, 0.2, 0.0))
    assert {item["file"] for item in found["test"]} == {entry["image"] for entry in entries[12:18]}
    # without a mask they are in "unlabeled", and graded all the same
    assert len(found["training"]) + len(found["validation"]) == 18 and not found["unlabeled"]
    del content["test"][0]["severity"]
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(
        DatasetError, match=r"(?s)1 pictures of validation or test are not graded.*test: graded/images/p06_L"
    ):
        build_graded_lists(tmp_path / "list.json")


def test_without_grades_the_area_of_the_lesion(tmp_path: Path) -> None:
    root = tmp_path / "masked"
    for number in range(8):
        picture(root / "images" / f"{number}.png", number)
        mask = np.zeros((24, 24), np.uint8)
        mask[:number] = 255
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    found = build_graded_lists(root, split=SPLIT, manifest_path=tmp_path / "manifest.json")
    shares = {Path(item["file"]).stem: item["severity"] for items in found.values() for item in items}
    assert shares == {str(number): number / 24 for number in range(8)}
    assert not any("label" in item for items in found.values() for item in items), "the mask itself is not needed"
    assert read_manifest(tmp_path / "manifest.json")["warnings"] == [AREA]


def test_the_same_pictures_are_held_back_as_for_segmentation(tmp_path: Path) -> None:
    """An encoder pretrained on severities goes into a segmentation: its test frames must be new to it."""
    root = tmp_path / "masked"
    for number in range(12):
        picture(root / "images" / f"{number}.png", number)
        mask = np.zeros((24, 24), np.uint8)
        mask[: number % 4] = 255
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    for seed, stable in [(0, False), (1, False), (2, False), (0, True), (1, True)]:
        needs = "grades" if stable else "order"  # by names alone no healthy picture may fall to the training part
        graded = build_graded_lists(root, seed=seed, stable_split=stable, needs=needs)
        masked = build_datalists(root, seed=seed, stable_split=stable)
        for name in ("training", "validation", "test"):
            assert [item["file"] for item in graded[name]] == [item["file"] for item in masked[name]]


def test_rows_are_named_as_below_images(tmp_path: Path) -> None:
    """Sub-folders by eye, one patient in both, and an unlabelled picture of the same name."""
    root = tmp_path / "by_eye"
    rows = ["file,severity,patient"]
    for patient in range(9):
        for eye in ("left", "right"):
            picture(root / "images" / eye / f"p{patient}.png", 2 * patient + (eye == "left"))
            rows.append(f"{eye}/p{patient},{patient % 3},patient {patient}")
    picture(root / "unlabeled" / "p0.png", 100)
    (root / "severity.csv").write_text("\n".join(rows))
    found = build_graded_lists(root, grades=GRADES, split=(0.4, 0.3, 0.3))
    items = [item for items in found.values() for item in items]
    assert len(items) == 19 and [item["file"] for item in found["unlabeled"]] == ["unlabeled/p0.png"]
    for item in items:
        if item["file"].startswith("images/"):
            patient = Path(item["file"]).stem[1:]
            assert (item["group"], item["severity"]) == (f"patient {patient}", int(patient) % 3)


@pytest.mark.parametrize("needs", ["order", "pictures"])
def test_ungraded_pictures_of_those_who_are_held_out_are_left_out(tmp_path: Path, needs: str) -> None:
    """A few frames of each patient have a mask, the usual case: the others of a held-out patient teach nothing."""
    root = tmp_path / "half"
    for patient in range(10):
        for number in range(2):
            picture(root / f"images/p{patient}/{number}.png", 2 * patient + number)
        mask = np.zeros((24, 24), np.uint8)
        mask[: patient % 3] = 255
        (root / f"masks/p{patient}").mkdir(parents=True)
        Image.fromarray(mask).save(root / f"masks/p{patient}/0.png")
    found = build_graded_lists(root, needs=needs, split=SPLIT)
    of = {name: {item["group"] for item in items} for name, items in found.items()}
    assert not (of["training"] | of["unlabeled"]) & (of["validation"] | of["test"]) and of["test"] and of["validation"]
    seen = [item["file"] for item in [*found["training"], *found["unlabeled"]]]
    assert len(seen) == 2 * len(of["training"]) and bool(found["unlabeled"]) == (needs == "order")


def test_a_bare_name_is_of_a_picture_in_images(graded: Callable[..., Path]) -> None:
    root = graded()
    picture(root / "unlabeled" / "p00_L.png", 100)
    found = build_graded_lists(root, split=SPLIT)
    assert [item["file"] for item in found["unlabeled"]] == ["unlabeled/p00_L.png"]
    assert sum("severity" in item for items in found.values() for item in items) == 24


def test_a_datalist_and_a_table_are_one_too_many(graded: Callable[..., Path], tmp_path: Path) -> None:
    root = graded()
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "graded/images/p00_L.png", "severity": 1}]}))
    with pytest.raises(DatasetError, match="severities of its own, and severity_table .* is given; remove one"):
        build_graded_lists(tmp_path / "list.json", root / "severity.csv")


def test_one_patient_has_nobody_to_be_compared_with(graded: Callable[..., Path]) -> None:
    root = graded(["0", "1", "2"])
    (root / "severity.csv").write_text(
        (root / "severity.csv").read_text().replace("patient 1", "patient 0").replace("patient 2", "patient 0")
    )
    with pytest.raises(DatasetError, match="all 6 graded pictures are of one patient"):
        build_graded_lists(root)


def test_without_grades_in_use_all_pictures_are_one_pool(graded: Callable[..., Path]) -> None:
    root = graded(["0", "1", "2"] * 4 + ["", ""])
    few, all_of_them = (build_graded_lists(root, needs="pictures", split=SPLIT, label_fraction=f) for f in (0.5, 1.0))
    assert [item["file"] for item in few["training"]] == [item["file"] for item in all_of_them["training"]]
    assert len(few["training"]) == 16 and not few["unlabeled"]
    assert few["test"] == build_graded_lists(root, split=SPLIT)["test"], "and test is held back as ever"


def test_a_share_without_healthy_pictures_is_not_the_fault_of_the_data(graded: Callable[..., Path]) -> None:
    root = graded(["0"] + ["1", "2"] * 6)
    for seed in range(20):
        try:
            build_graded_lists(root, split=(0.2, 0.4, 0.4), seed=seed)
        except DatasetError as error:
            assert "no picture in training is healthy" in str(error) and "raise label_fraction or" in str(error)
            return
    pytest.fail("the one healthy patient was in training for all seeds")


def test_pictures_alone_need_no_grade(graded: Callable[..., Path]) -> None:
    root = graded([""] * 3)
    (root / "severity.csv").unlink()
    found = build_graded_lists(root, needs="pictures")
    assert {name: len(items) for name, items in found.items()} == {
        "training": 6, "unlabeled": 0, "validation": 0, "test": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("severities", "options", "message"),
    [
        (["1"] * 6, {}, "all 12 graded pictures have the severity 1; expected at least two"),
        (
            ["1", "2"] * 3,
            {},
            "no picture is healthy: the severities are 1 to 2, 0 is missing, and severity is measured",
        ),
        (["0", "2"] * 3, {"grades": GRADES}, r"no picture has the grade 1 \(mild\)"),
        (["0", "1"] * 3 + ["2"], {"grades": GRADES}, r"the grade 2 \(severe\) has pictures of fewer than two patients"),
        (["0", "1", "3"] * 3, {"grades": GRADES}, r"6 pictures have a severity that is no grade .*0 to 2"),
        (["0", "1", "0.5"] * 3, {"grades": GRADES}, r"no grade of .*p02_L.png: 0.5"),
        (["0", "1", "bad"] * 3, {}, "p02_L.png: severity is 'bad'; expected a number from 0"),
        (["0", "1", "-1"] * 3, {}, "severity is '-1'; expected a number from 0"),
        (["0", "1", "nan"] * 3, {}, "severity is 'nan'"),
    ],
)
def test_bad_grades(graded: Callable[..., Path], severities: list[str], options: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=f"(?s){message}"):
        build_graded_lists(graded(severities), **options)


@pytest.mark.parametrize("with_table", [True, False])
def test_ungraded_only(graded: Callable[..., Path], with_table: bool) -> None:
    root = graded([""] * 3)
    if not with_table:
        (root / "severity.csv").unlink()
    for needs in ("order", "grades"):
        with pytest.raises(DatasetError, match=r"none of 6 pictures is graded; give each picture a `severity`"):
            build_graded_lists(root, needs=needs)


def test_contrast_of_grades_needs_no_healthy_picture(graded: Callable[..., Path]) -> None:
    assert build_graded_lists(graded(["1", "2"] * 4), needs="grades", split=SPLIT)["training"]


def test_a_share_that_loses_a_grade_says_so(graded: Callable[..., Path], tmp_path: Path) -> None:
    root = graded(["0"] * 8 + ["1"] * 8 + ["2"] * 2)
    manifest = tmp_path / "manifest.json"
    found = build_graded_lists(root, grades=GRADES, split=SPLIT, label_fraction=0.25, manifest_path=manifest)
    missing = {0, 1, 2} - {item["severity"] for item in found["training"]}
    assert missing == {2}, "or this test tests nothing"
    assert read_manifest(manifest)["warnings"] == [
        "no picture of the grade severe in training", "no picture of the grade severe in test",
    ]  # fmt: skip
