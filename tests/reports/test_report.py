"""The page: self-contained, escaped, holds the numbers, and survives whatever is missing."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shlex
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from scripts.reports import write_report
from scripts.reports.page import duration, percent, shown

VOID = {"meta", "img", "br", "link", "input", "hr"}
FILES = ("manifest.json", "environment.json", "config.json", "test_metrics.json", "metrics.csv", "per_image.csv")


class Page(HTMLParser):
    """Collects tags, attributes and text; notes tags that are closed out of order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.faults: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_run) -> Path:
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_markup_is_well_formed(page: Page) -> None:
    assert page.faults == []
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_elsewhere(run: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed"), tag
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, name, value)
    markup = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!#|&quot;#)", markup)
    assert "http://" not in markup and "https://" not in markup


def test_links_inside_the_page_have_targets(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.tags}
    targets = {attributes["href"][1:] for _, attributes in page.tags if (attributes.get("href") or "").startswith("#")}
    assert targets and targets <= ids


def test_every_figure_stands_there_with_interval_and_definition(run: Path, page: Page) -> None:
    metrics = json.loads((run / "test_metrics.json").read_text())
    for checkpoint in ("best", "last", "validation"):
        for name, figure in metrics[checkpoint]["figures"].items():
            assert shown(name, figure["value"]) in page.text
            assert f"{shown(name, figure['low'])} to {shown(name, figure['high'])}" in page.text
            assert figure["definition"] in page.text
    assert "7 groups are few, so take them as rough" in page.text
    assert "epoch 9" in page.text and "epoch 12" in page.text


def test_parts_of_the_split_have_their_own_figures(run: Path, page: Page) -> None:
    text = page.text
    with (run / "per_image.csv").open() as file:
        free = [row for row in csv.DictReader(file) if int(row["lesion_px"]) == 0]
    assert f"no lesion{len(free)} images of" in text
    assert "folder images" not in text  # all test frames lie in one


def test_pictures_are_there_with_text_alternatives(run: Path, page: Page) -> None:
    pictures = page.all("img")
    assert len(pictures) == 10  # best, median, worst three each, one false alarm
    for picture in pictures:
        assert re.search(r"Frame images/frame \d\d\.png .*annotated lesion .*Dice \d\.\d{3}", picture["alt"])
        content = base64.b64decode(picture["src"].removeprefix("data:image/jpeg;base64,"))
        assert Image.open(io.BytesIO(content)).size[0] > 200
    names = {path.name for path in (run / "figures").iterdir()}
    assert {f"overlay_{kind}_{n}.png" for kind in ("best", "median", "worst") for n in (1, 2, 3)} <= names
    assert {"validation.png", "loss.png", "confident_share.png", "lesion_share.png", "learning_rate.png"} <= names
    assert {"dice_histogram.png", "dice_by_size.png", "overlay_false_alarm_1.png"} <= names


def test_charts_speak(page: Page) -> None:
    charts = [attributes["aria-label"] for attributes in page.all("figure") if attributes.get("class") == "chart"]
    assert len(charts) == len(page.all("svg")) == 7
    assert all(re.search(r": .*\d", label) for label in charts)


def test_tables_have_scoped_headers(page: Page) -> None:
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert page.all("caption")


def test_split_weights_settings_and_machine_are_there(page: Page) -> None:
    for text in (
        "unlabeled", "120", "imagenet", "read from a file", "2.15.0", "a processor", "3 min 12 s",
        "network_def::preset", "number of epochs", "20 November 2025, 18:33 UTC",
    ):  # fmt: skip
        assert text in page.text, text


def test_lesion_share_is_set_against_the_labelled_masks(run: Path, page: Page) -> None:
    shares = []
    for entry in json.loads((run / "manifest.json").read_text())["files"]:
        if entry["section"] == "training":
            histogram = Image.open(run.parents[1] / "data set" / entry["label"]).histogram()
            shares.append(histogram[255] / sum(histogram))
    assert f"labelled masks, {percent(sum(shares) / len(shares))}" in page.text


def test_commands_are_quoted_for_the_shell(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    commands = [
        unescape(text) for text in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page[page.index('id="next"') :])
    ]
    inference, evaluate, resume, _ = [shlex.split(command) for command in commands]
    assert inference[inference.index("--checkpoint") + 1] == str(run / "model.pt")
    assert inference[inference.index("--network_def::preset") + 1] == "lite"
    assert inference[inference.index("--temperature") + 1] == "1.4"
    configs = json.loads(evaluate[evaluate.index("--config_file") + 1].replace("'", '"'))
    assert [Path(path).name for path in configs] == ["train.json", "evaluate.json"]
    assert evaluate[evaluate.index("--run_name") + 1] == resume[resume.index("--run_name") + 1] == "a run"
    assert evaluate[evaluate.index("--dataset_dir") + 1] == str(run.parents[1] / "data set")
    assert resume[resume.index("--max_epochs") + 1] == "24"
    assert resume[resume.index("--seed") + 1] == "0"


def test_a_clean_run_has_no_warning(page: Page) -> None:
    assert not any(attributes.get("role") == "alert" for _, attributes in page.tags)
    assert "no claim rests on it" not in page.text
    assert "no group (patient, video, near-duplicates) is on two sides of it" in page.text


def test_sample_substitution_and_warnings_are_loud(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4, sample=True)
    weights = {"requested": "auto", "used": "random", "substituted": True, "message": "the hub was out of reach"}
    edit(run / "environment.json", encoder_weights=weights, substitutions=["the hub was out of reach", "bf16 -> fp32"])
    edit(run / "manifest.json", warnings=["b.png: the mask is all lesion", "2 images left out:\n  c.png\n  d.png"])
    markup = write_report(run).read_text(encoding="utf-8")
    alert = markup[markup.index('role="alert"') : markup.index('id="figures"')]
    for text in ("Sample data", "no claim rests on it", "Asked for auto, used random", "bf16 -&gt; fp32", "all lesion"):
        assert text in alert, text
    assert "2 images left out:</p>" in alert and "<code>c.png\n  d.png</code>" in alert
    assert alert.count("the hub was out of reach") == 1


def test_a_group_on_two_sides_is_told(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    files = json.loads((run / "manifest.json").read_text())["files"]
    edit(run / "manifest.json", files=[*files, files[0] | {"section": "validation"}])
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "Groups on two sides of the split. patient 0" in page.text
    assert "no group (patient" not in page.text


def test_markup_in_names_and_settings_is_escaped(tmp_path: Path, make_run) -> None:
    evil = "<script>alert(1)</script>"
    run = make_run(tmp_path, images=4, name='run "<b>" & co')
    edit(run / "config.json", objective=evil, **{evil: evil})
    edit(run / "manifest.json", warnings=[evil])
    weights = {"requested": evil, "used": evil, "substituted": True, "message": evil}
    edit(run / "environment.json", encoder_weights=weights, device=evil, versions={evil: evil}, command=evil)
    rows = (run / "per_image.csv").read_text().replace("images/frame 01.png", "images/<img src=x onerror=alert(1)>.png")
    (run / "per_image.csv").write_text(rows)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.faults == []
    assert not page.all("script") and not page.all("b")
    assert all("onerror" not in attributes for attributes in page.all("img"))
    assert evil in page.text and "images/<img src=x onerror=alert(1)>.png" in page.text


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_one_file_missing_or_broken(tmp_path: Path, make_run, name: str, damage: str) -> None:
    run = make_run(tmp_path, images=4, epochs=2)
    if damage == "missing":
        (run / name).unlink()
    else:
        (run / name).write_bytes(b"\xff\xfe{not a file of a run")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.faults == [] and page.open == []
    assert f"{name} is not in the run directory" in page.text or f"{name} cannot be read" in page.text


def test_without_test_split_validation_is_shown_and_called_so(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    metrics = json.loads((run / "test_metrics.json").read_text())
    del metrics["best"], metrics["last"]
    (run / "test_metrics.json").write_text(json.dumps(metrics))
    (run / "per_image.csv").unlink()
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "There is no test split" in page.text and "They flatter" in page.text
    assert shown("dice", metrics["validation"]["figures"]["dice"]["value"]) in page.text


@pytest.mark.parametrize(("ships", "validated"), [("last", True), ("best", False), ("best", True)])
@pytest.mark.parametrize("tested", [True, False])
def test_what_validation_did_not_choose_is_not_called_chosen(
    tmp_path: Path, make_run, ships: str, validated: bool, tested: bool
) -> None:
    run = make_run(tmp_path, images=4)
    metrics, config = (json.loads((run / f"{name}.json").read_text()) for name in ("test_metrics", "config"))
    for name in [*([] if validated else ["validation"]), *([] if tested else ["best", "last"])]:
        del metrics[name]
    (run / "test_metrics.json").write_text(json.dumps(metrics))
    (run / "config.json").write_text(json.dumps(config | {"shipped_epoch": ships}))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    chosen = ships == "best" and validated
    assert ("best on validation" in text) == (chosen and tested)
    assert ("Test, best" in text) == (chosen and tested)
    assert ("They flatter" in text) == (chosen and not tested)
    assert ("as asked for (shipped_epoch)" in text) == (ships == "last")
    assert ("no validation split to choose by" in text) == (not validated and tested and ships == "best")
    assert ("best (9)" in text) == ("Chosen on validation only" in text) == chosen


def test_validation_that_gave_no_figure_chose_nothing(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    header, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    rows = [["" if name == "val_dice" else cell for name, cell in zip(header, row, strict=True)] for row in rows]
    (run / "metrics.csv").write_text("\n".join(",".join(row) for row in [header, *rows]))
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "since validation gave no figure to choose by" in text
    assert "best on validation" not in text and "Test, best" not in text


def test_few_groups_of_validation_are_said_to_be_few(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    metrics = json.loads((run / "test_metrics.json").read_text())
    del metrics["best"], metrics["last"]
    (run / "test_metrics.json").write_text(json.dumps(metrics))
    (run / "per_image.csv").unlink()
    assert "4 groups are few" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_a_supervised_run_has_no_unlabelled_curves(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    header, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    empty = {"loss_unsupervised", "unsupervised_weight", "confident_share", "lesion_share"}
    rows = [["" if name in empty else cell for name, cell in zip(header, row, strict=True)] for row in rows]
    (run / "metrics.csv").write_text("\n".join(",".join(row) for row in [header, *rows]))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert (
        "supervised" in page.text and "Confident share" not in page.text and "Predicted lesion share" not in page.text
    )


def test_the_temperature_of_the_last_epoch_stands_with_its_figure(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    metrics = json.loads((run / "test_metrics.json").read_text())
    assert "T = 2.345" not in Page(write_report(run).read_text(encoding="utf-8")).text
    metrics["last"]["temperature"] = 2.345
    (run / "test_metrics.json").write_text(json.dumps(metrics))
    assert Page(write_report(run).read_text(encoding="utf-8")).text.count("T = 2.345") == 1


def test_an_undefined_figure_is_a_dash_with_its_reason(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    metrics = json.loads((run / "test_metrics.json").read_text())
    for part in ("best", "last", "validation"):
        metrics[part]["figures"]["false_positive_frames"] |= {
            "value": None, "low": None, "high": None, "definition": "Not measured: no frame is free of lesion."
        }  # fmt: skip
    (run / "test_metrics.json").write_text(json.dumps(metrics))
    markup = write_report(run).read_text(encoding="utf-8")
    assert '<p class="value">–</p>' in markup
    assert markup.count("Not measured: no frame is free of lesion.") == 2  # card and table


def test_a_frame_that_cannot_be_read_is_named(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    (tmp_path / "data set" / "images" / "frame 01.png").unlink()
    (run / "predictions" / "images" / "frame 02.png").write_bytes(b"")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert len(page.all("img")) == 1
    assert "None" not in page.text
    assert re.search(r"Not drawn: .*frame 01\.png", page.text) and re.search(r"Not drawn: .*frame 02\.png", page.text)


def test_a_mask_of_another_size_is_named(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=2)
    Image.new("L", (5, 4)).save(run / "predictions" / "images" / "frame 01.png")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert re.search(r"frame 01\.png is \(4, 5\), its image \(90, 120\)", page.text)


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds none of manifest.json"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_report_replaces_the_first(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    first = write_report(run).read_text(encoding="utf-8")
    assert write_report(run).read_text(encoding="utf-8") == first
    assert not [path for path in run.rglob(".*")]


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.4, "45 s"), (192.4, "3 min 12 s"), (7500, "2 h 5 min"), (None, "–"), (float("nan"), "–")]
)
def test_durations(seconds, text) -> None:
    assert duration(seconds) == text


def test_numbers_are_printed_as_stated() -> None:
    assert shown("dice", 0.84251) == "0.843"
    assert shown("hd95", 23.456) == "23.5"
    assert shown("false_positive_frames", 0.125) == "12.5\u202f%"
    assert shown("dice", None) == shown("dice", float("nan")) == "–"
    assert percent(0.0021) == "0.21\u202f%" and percent(0.154) == "15.4\u202f%" and percent(0) == "0.0\u202f%"


def test_an_objective_that_never_had_a_weight_is_told(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path, images=4)
    told = "Frames without masks taught nothing"
    assert told not in Page(write_report(run).read_text(encoding="utf-8")).text
    header, *rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    rows = [
        ["0.0" if name == "unsupervised_weight" else cell for name, cell in zip(header, row, strict=True)]
        for row in rows
    ]
    (run / "metrics.csv").write_text("\n".join(",".join(row) for row in [header, *rows]))
    assert told in Page(write_report(run).read_text(encoding="utf-8")).text
