"""The page that compares recipes: order, figures, links, the chart of all, and the command for the one that is kept."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.engines.compared_runs import figures_of, ship_best
from scripts.engines.recipes import RECIPES_FILE
from scripts.reports.recipes import write_recipe_report

RECIPES = {"weak_to_strong": 0.02, "less_net": -0.05, "supervised": 0.0}


def compared(
    folder: Path, make_run: Callable[..., Path], recipes: dict[str, float] = RECIPES, sample: bool = False
) -> Path:
    """A folder as choose_recipe leaves it; {recipe: what its validation Dice has more}."""
    rows = []
    for name, more in recipes.items():
        run = make_run(folder / name, images=5, sample=sample, name="1_train")
        with (run / "metrics.csv").open(newline="") as file:
            epochs = list(csv.DictReader(file))
        for row in epochs:
            row["val_dice"] = str(float(row["val_dice"]) + more)
        with (run / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, epochs[0])
            writer.writeheader()
            writer.writerows(epochs)
        (run / "model.pt").write_text(name)
        rows.append({"recipe": name, **figures_of(run)})
    ship_best(folder, rows, ("recipe",), "chosen", RECIPES_FILE)
    return folder


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)))


def test_the_best_on_validation_comes_first_and_says_by_how_much(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = compared(tmp_path, make_run)
    page = write_recipe_report(folder)
    assert page == folder / "recipes.html"
    html = page.read_text()
    text = plain(html)
    assert "Kept: weak_to_strong" in text and "0.020 above supervised" in text
    assert "highest Dice on the 8 validation frames (4 groups)" in text
    names = re.findall(r'<th scope="row">(\w+)', html)
    assert names == ["weak_to_strong", "supervised", "less_net"]
    assert html.count('class="tag kept">kept') == 1
    validation = [float(cell) for cell in re.findall(r'</th><td class="number">([.\d]+)', html)]
    assert validation == sorted(validation, reverse=True)
    assert validation[0] - validation[1] == pytest.approx(0.02, abs=0.0011)
    links = re.findall(r'<a href="([^"]+)"', html)
    assert links == [
        f"{(run.parent / 'report.html').relative_to(folder)}"
        for name in names
        for run in (folder / name).rglob("metrics.csv")
    ]


def test_the_chart_has_a_line_for_each_and_the_command_the_kept_network(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = compared(tmp_path, make_run)
    html = write_recipe_report(folder).read_text()
    assert all(f"{name}: " in html.split('aria-label="Validation')[1].split('"')[0] for name in RECIPES)
    assert (folder / "figures" / "recipes.png").stat().st_size > 5000
    assert f"--checkpoint {folder / 'model.pt'}" in html and "1_train/model.pt" not in html
    assert "--temperature 1.4" in html, "of the kept run"
    assert not re.search(r'(?:src|href)="https?:', html)


def test_five_recipes_have_the_four_best_in_the_chart(make_run: Callable[..., Path], tmp_path: Path) -> None:
    more = {"mean_teacher": -0.2, "local_contrast": 0.01}
    html = write_recipe_report(compared(tmp_path, make_run, RECIPES | more)).read_text()
    label = html.split('aria-label="Validation')[1].split('"')[0]
    assert "mean_teacher" not in label and "local_contrast" in label and "The 4 best." in html
    assert len(re.findall(r'<th scope="row">', html)) == 5


@pytest.mark.parametrize(("frames", "groups", "warned"), [(8, 1, True), (19, 4, True), (20, 4, False)])
def test_few_validation_frames_are_said_to_decide_nothing(
    frames: int, groups: int, warned: bool, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = compared(tmp_path, make_run, {"less_net": 0.0, "supervised": 0.1})
    for manifest in folder.rglob("manifest.json"):
        content = json.loads(manifest.read_text())
        content["counts"]["validation"] = {"images": frames, "groups": groups, "labelled": frames}
        manifest.write_text(json.dumps(content))
    text = plain(write_recipe_report(folder).read_text())
    assert f"{frames} validation frames ({groups} group{'' if groups == 1 else 's'})" in text
    assert ("So few frames decide nothing" in text) == warned and ("is chance" in text) != warned


def test_the_sample_set_is_said_aloud(make_run: Callable[..., Path], tmp_path: Path) -> None:
    two = {"less_net": 0.0, "supervised": 0.1}
    assert "no claim rests on it" in write_recipe_report(compared(tmp_path / "a", make_run, two, True)).read_text()
    assert "no claim rests on it" not in write_recipe_report(compared(tmp_path / "b", make_run, two)).read_text()


def test_a_folder_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="recipes.csv"):
        write_recipe_report(tmp_path)


@pytest.mark.parametrize(
    ("ships", "said"),
    [
        ({}, ("the highest point of each", "at the epoch that is best on validation")),
        (dict.fromkeys(RECIPES, "last"), ("the last point of each", "of the last epoch (shipped_epoch)")),
        ({"less_net": "last"}, ("the point of the epoch that is shipped", "at the epoch that is shipped (shipped")),
    ],
)
def test_the_page_says_which_epoch_is_compared(
    ships: dict[str, str], said: tuple[str, str], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = compared(tmp_path, make_run)
    for name, epoch in ships.items():
        (path,) = (folder / name).rglob("config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shipped_epoch": epoch}))
    text = plain(write_recipe_report(folder).read_text())
    assert all(words in text for words in said)
