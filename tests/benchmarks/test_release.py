"""The merged folder keeps what the sources say; the card says what the files say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import model_card
import numpy as np
import pytest
from merged_frames import merge
from PIL import Image
from plot_failures import draw_failures
from tables import fill

from scripts.data.layouts import read_dataset


def save(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 64), value, np.uint8)).save(path)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Two data sets that call their frames and groups alike; one has frames without masks."""
    for name in ("one", "two"):
        for file in ("a", "b"):
            save(tmp_path / name / "images" / f"{file}.png", 9)
            save(tmp_path / name / "masks" / f"{file}.png", 255)
        (tmp_path / name / "groups.csv").write_text("file,class,group\na.png,x,g1\nb.png,y,g1\n")
    save(tmp_path / "two" / "unlabeled" / "c.png", 9)
    (tmp_path / "two" / "unlabeled_groups.csv").write_text("file,patient\nunlabeled/c.png,p7\n")
    return {"polyps": tmp_path / "one", "bleeding": tmp_path / "two"}


def test_merged_folder_is_a_data_set_with_the_groups_apart(sources: dict[str, Path], tmp_path: Path) -> None:
    merged = read_dataset(merge(sources, tmp_path / "merged"))
    assert {item["file"]: item["group"] for item in merged["pool"]} == {
        "images/bleeding/a.png": "bleeding g1",
        "images/bleeding/b.png": "bleeding g1",
        "images/polyps/a.png": "polyps g1",
        "images/polyps/b.png": "polyps g1",
    }
    assert all(Path(item["label"]).is_file() for item in merged["pool"])
    assert [(item["file"], item["group"]) for item in merged["unlabeled"]] == [
        ("unlabeled/bleeding/c.png", "bleeding p7")
    ]


def test_a_merge_that_was_stopped_begins_again(sources: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "merged.part" / "images" / "polyps").mkdir(parents=True)
    assert len(read_dataset(merge(sources, tmp_path / "merged"))["pool"]) == 4
    assert not (tmp_path / "merged.part").exists()


def test_a_source_without_images_is_named(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        merge({**sources, "three": tmp_path / "nowhere"}, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def row(file: str, lesion_px: int, dice: float) -> dict[str, str]:
    """A row of per_image.csv, of a frame of 100 x 100 pixels."""
    overlap = dict.fromkeys(("dice", "iou", "recall", "precision"), str(dice))
    return {"file": file, "group": file, "height": "100", "width": "100", "lesion_px": str(lesion_px), **overlap}


def test_parts_by_hand() -> None:
    rows = [row("images/polyps/a.png", 3000, 0.9), row("images/polyps/b.png", 50, 0.1)]
    rows += [row("images/bleeding/a.png", 50, 0.5), row("images/bleeding/b.png", 0, 1.0)]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in model_card.parts(rows).splitlines()[2:]]
    shown = [(source, part, count, dice, recall) for source, part, count, dice, _, recall, _ in lines]
    assert shown == [
        ("all", "no lesion", "1", "1.000", "–"),
        ("all", "lesion up to 1 %", "2", "0.300", "0.300"),
        ("all", "lesion over 15 %", "1", "0.900", "0.900"),
        ("bleeding", "all", "2", "0.750", "0.750"),
        ("bleeding", "no lesion", "1", "1.000", "–"),
        ("bleeding", "lesion up to 1 %", "1", "0.500", "0.500"),
        ("polyps", "all", "2", "0.500", "0.500"),
        ("polyps", "lesion up to 1 %", "1", "0.100", "0.100"),
        ("polyps", "lesion over 15 %", "1", "0.900", "0.900"),
    ]


def test_speed_has_the_cases_and_not_the_comparisons() -> None:
    with model_card.SPEED.open(newline="") as file:
        table = model_card.speed(list(csv.DictReader(file)))
    assert "| lite, PyTorch | 2,142,882 |" in table
    assert table.count("| lite, PyTorch |") == 1


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    document = tmp_path / "card.md"
    document.write_text("<!-- table one -->\nold\n<!-- end -->\nkept\n")
    fill(document, {"one": "new"})
    assert document.read_text() == "<!-- table one -->\nnew\n<!-- end -->\nkept\n"
    with pytest.raises(ValueError, match="<!-- table two -->"):
        fill(document, {"two": "new"})


def test_failures_are_drawn_of_each_source(tmp_path: Path) -> None:
    dataset, run = tmp_path / "data", tmp_path / "run"
    entries, rows = [], []
    for file, dice in (("polyps/a", 0.2), ("polyps/b", 0.9), ("bleeding/c", 0.0)):
        save(dataset / "images" / f"{file}.png", 9)
        mask = np.zeros((64, 64), np.uint8)
        mask[:20, :20] = 255
        (dataset / "masks" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(dataset / "masks" / f"{file}.png")
        name = f"images/{file}.png"
        entries.append({"section": "test", "file": name, "group": file, "label": f"masks/{file}.png"})
        rows.append(row(name, 400, dice))
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"dataset_dir": str(dataset), "files": entries}))
    with (run / "per_image.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    from scripts.reports.run_files import read_run

    for path in read_run(run).predictions().values():
        save(path, 0)
    picture = Image.open(draw_failures(run, tmp_path / "failures.png", columns=2)).convert("RGB")
    colours = {colour for _, colour in picture.getcolors(2**20)}
    assert (0x1B, 0x78, 0x37) in colours
