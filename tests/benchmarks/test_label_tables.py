"""Tables, reaches and pictures on rows that were written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from label_axes import RECALLS, at_recall
from label_chosen import with_chosen
from label_grid import SEEDS, plan
from label_reaches import MOST_PARAMETERS, Reach, reaches
from label_tables import LABEL_TABLES, by_fraction, of_group, of_reaches
from plot_label_efficiency import draw, draw_curves, figure_files
from rows import row
from tables import mean_and_spread
from write_results import DOCUMENT


def found(rows: list[dict[str, str]], words: str) -> Reach:
    equal = "as many steps"
    lines = [line for line in reaches(rows, "cpu") if words in line.name]
    (one,) = [line for line in lines if (equal in words) == (equal in line.name)]
    return one


def test_difference_is_taken_seed_by_seed() -> None:
    rows = [row(dice, seed=seed) for seed, dice in enumerate((0.70, 0.80, 0.60, 0.10))]  # seed 3 has no partner
    rows += [row(dice, method="weak_to_strong", seed=seed) for seed, dice in enumerate((0.75, 0.84, 0.66))]
    one = found(rows, "10% of the labels: weak_to_strong")
    # gains .05, .04, .06
    assert one.measured == "+0.050 ± 0.010 (0.750 against 0.700)"
    assert (one.bar, one.verdict, one.used) == ("≥ +0.040", "met", "seeds 0, 1, 2")
    assert one.steps == "800 / 800"


def test_a_gain_that_is_just_the_bar_meets_it_and_one_below_misses() -> None:
    for dice, verdict in ((0.82, "met (1 of 3 seeds)"), (0.8199, "missed (1 of 3 seeds)")):
        rows = [row(0.80, fraction=0.25), row(dice, method="weak_to_strong", fraction=0.25)]
        assert found(rows, "Kvasir, 25% of the labels: weak_to_strong").verdict == verdict


def test_half_of_the_labels_against_all() -> None:
    rows = [row(0.80, fraction=1.0), row(0.79, method="weak_to_strong", fraction=0.5)]
    one = found(rows, "kvasir: weak_to_strong with 50 %")
    assert one.measured.startswith("-0.010") and one.verdict == "missed (1 of 3 seeds)"
    assert found(rows, "wce_bleeding: weak_to_strong with 50 %").verdict == "unmeasured"


def test_rivals_are_compared_from_the_same_kind_of_start() -> None:
    ours = row(0.70, method="weak_to_strong", fraction=0.5, start="random")
    theirs = row(0.65, network="smp_unet_r34", fraction=1.0, start="random")
    wrong = row(0.90, network="flexible_unet_b0", fraction=1.0, start="imagenet")
    rows = [ours, theirs, wrong]
    assert found(rows, "kvasir: lite with 50 % (weak_to_strong) over smp_unet_r34").measured.startswith("+0.050")
    assert found(rows, "kvasir: lite with 50 % (weak_to_strong) over flexible_unet_b0").verdict == "unmeasured"
    name = "smp_unet_mobilenetv2"
    rows = [row(0.80, method="weak_to_strong", fraction=0.5), row(0.78, network=name, fraction=1.0), *rows]
    assert found(rows, f"kvasir: lite with 50 % (weak_to_strong) over {name}").measured.startswith("+0.020")


def test_false_alarms_have_to_be_fewer() -> None:
    name = "best_false_positive_frames_at_recall_70"
    rows = [row(0.6, data="wce_bleeding", **{name: "0.3"})]
    rows.append(row(0.6, data="wce_bleeding", method="weak_to_strong", **{name: "0.2"}))
    at = "10%: false-positive frames at recall {}, weak_to_strong"
    assert found(rows, at.format(0.7)).verdict.startswith("met")
    assert found(rows, at.format(0.8)).verdict == "unmeasured", "no value there"
    rows[1][name] = "0.3"
    assert found(rows, at.format(0.7)).verdict.startswith("missed"), "not below"


def test_each_data_set_has_a_second_method_beside_the_recipe() -> None:
    half, all_labels = {"data": "wce_bleeding", "fraction": 0.5}, {"data": "wce_bleeding", "fraction": 1.0}
    rows = [row(0.60, **all_labels), row(0.58, method="weak_to_strong", **half), row(0.61, method="less_net", **half)]
    rows.append(row(0.57, network="smp_unet_mobilenetv2", **all_labels))
    assert found(rows, "wce_bleeding: weak_to_strong with 50 %").measured.startswith("-0.020")
    assert found(rows, "wce_bleeding: less_net with 50 %").measured.startswith("+0.010")
    assert found(rows, "wce_bleeding: lite with 50 % (less_net) over smp_unet_mob").measured.startswith("+0.040")
    rows = [row(0.80, fraction=0.25), row(0.83, method="local_contrast", fraction=0.25)]
    assert found(rows, "Kvasir, 25% of the labels: local_contrast").measured.startswith("+0.030")


def four(dice: dict[str, tuple[float, float]], **more: Any) -> list[dict[str, str]]:
    """Rows of the recipes that are compared, {method: (validation Dice, test Dice)}."""
    return [row(test, method=name, val_dice=str(val), **more) for name, (val, test) in dice.items()]


def test_what_is_chosen_is_the_best_on_validation() -> None:
    dice = {"supervised": (0.80, 0.9), "weak_to_strong": (0.83, 0.7), "less_net": (0.81, 0.8)}
    rows = four(dice)
    assert with_chosen(rows) == rows, "one of the four is missing"
    rows += four({"local_contrast": (0.83, 0.6)}, steps_all="1100") + four({"local_contrast": (0.99, 0.5)}, seed=1)
    *same, chosen = with_chosen(rows)
    assert same == rows
    # weak_to_strong is the first of the two in choose_recipe.json, and all four were trained for it.
    assert chosen == {**rows[1], "method": "chosen", "steps_all": "3500", "seconds": "2400.0"}


def test_what_is_chosen_has_reaches_and_a_line_of_its_own() -> None:
    names = ("weak_to_strong", "less_net", "local_contrast", "supervised")
    dice = dict(zip(names, ((0.81, 0.80), (0.8, 0.7), (0.82, 0.84), (0.79, 0.78)), strict=True))
    rows = [*four(dice), *four(dice, fraction=0.5), row(0.83, fraction=1.0), row(0.85, "smp_unet_r34", fraction=1.0)]
    assert found(rows, "10% of the labels: chosen over supervised").measured.startswith("+0.060")
    assert found(rows, "kvasir: chosen with 50 % over supervised").measured.startswith("+0.010")
    assert not [one for one in reaches(rows, "cpu") if "(chosen)" in one.name and "random" in one.name]
    lines = [line for line in by_fraction(rows, "kvasir").splitlines() if "best of four on validation" in line]
    assert "| 800 + 2400 | 128 | 0.840 (1) +0.060 | 0.840 (1) +0.060 | – |" in lines[0]


def test_what_took_more_steps_is_compared_with_supervision_of_as_many() -> None:
    rows = [row(0.80, fraction=0.25), row(0.83, method="local_contrast", fraction=0.25, steps_all="1100")]
    rows += [row(0.78, fraction=1.0), row(0.85, method="local_contrast", fraction=0.5, steps_all="1100")]
    longer = {"steps": "1100", "steps_all": "1100", "settings": "max_epochs=22"}
    rows += [row(0.815, fraction=0.25, **longer), row(0.86, fraction=1.0, **longer)]
    rows.append(row(0.99, fraction=0.25, **longer | {"settings": "max_epochs=22 dropout=0"}))
    rows.append(row(0.99, fraction=0.25, **longer | {"steps": "1600", "settings": "max_epochs=32"}))
    name = "25% of the labels: local_contrast over supervised"
    one, other = (found(rows, f"{name}{end}") for end in ("", " with as many steps"))
    assert (one.measured, one.steps) == ("+0.030 (0.830 against 0.800)", "1,100 / 800")
    assert (other.measured, other.steps) == ("+0.015 (0.830 against 0.815)", "1,100 / 1,100")
    assert other.verdict == "missed (1 of 3 seeds)"
    chosen = "10% of the labels: chosen over supervised with as many steps as its longest recipe"
    assert found(rows, chosen).verdict == "unmeasured", "a choice took all four trainings"
    half = found(rows, "kvasir: local_contrast with 50 % over supervised with 100 % and as many steps")
    assert half.measured.startswith("-0.010")


def test_seeds_of_another_precision_are_named_in_reaches_and_shares() -> None:
    rows = [row(0.8, seed=seed) for seed in range(3)]
    more = ({}, {"precision": "fp32"}, {})
    rows += [row(0.9, method="weak_to_strong", seed=seed, **own) for seed, own in enumerate(more)]
    assert found(rows, "10% of the labels: weak_to_strong").used == "seeds 0, 1 (fp32 / bf16), 2"
    assert "| 0.900 ± 0.000 (3, 1 in fp32) +0.100 |" in by_fraction(rows, "kvasir")
    rows[1]["precision"] = "fp32"
    assert found(rows, "10% of the labels: weak_to_strong").used == "seeds 0, 1 (fp32), 2"


def test_the_grid_measures_every_reach() -> None:
    alarms = {f"best_{at_recall(recall)}": "0.1" for recall in RECALLS}
    cells = plan(["headline", "rivals", "methods"], SEEDS)
    rows = [
        row(0.7, one.network, one.method, one.label_fraction, one.seed, one.data, one.start, **alarms) for one in cells
    ]
    lines = reaches(rows, "cpu")
    assert len(lines) > 40
    controls = [line for line in lines if "as many steps" in line.name]
    assert {line.verdict for line in controls} == {"unmeasured"}, "they are run by --set"
    left_out = {"parameters of lite", *(line.name for line in controls)}
    assert {line.used for line in lines if line.name not in left_out} == {"seeds 0, 1, 2"}


def test_parameters_of_lite() -> None:
    assert found([row(0.8)], "parameters").verdict == "met"
    assert found([row(0.8, parameters=str(MOST_PARAMETERS + 1))], "parameters").verdict == "missed"
    assert found([], "parameters").verdict == "unmeasured"


def test_rows_of_other_presets_and_settings_do_not_count() -> None:
    rows = [
        row(0.8),
        row(0.9, method="weak_to_strong", preset="gpu"),
        row(0.9, method="weak_to_strong", settings="a=1"),
    ]
    assert found(rows, "10% of the labels: weak_to_strong").verdict == "unmeasured"


def test_a_cell_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="two rows .*seed 0; expected one"):
        reaches([row(0.8), row(0.81)], "cpu")


def test_a_reach_has_a_line_for_each_preset_that_measured_it() -> None:
    rows = [row(0.7), row(0.72, method="weak_to_strong")]
    rows += [row(0.7, preset="cpu_long"), row(0.75, method="weak_to_strong", preset="cpu_long")]
    lines = [line.split(" | ")[:5] for line in of_reaches([*rows, row(0.6, fraction=0.25)]).splitlines()]
    tenth = [line[1:] for line in lines if line[0].startswith("| Kvasir, 10% of the labels: weak_to_strong")]
    assert tenth == [
        ["cpu", "+0.020 (0.720 against 0.700)", "≥ +0.040", "missed (1 of 3 seeds)"],
        ["cpu_long", "+0.050 (0.750 against 0.700)", "≥ +0.040", "met (1 of 3 seeds)"],
    ]
    quarter = [line[1:] for line in lines if line[0].startswith("| Kvasir, 25% of the labels: weak_to_strong")]
    assert quarter == [["–", "–", "≥ +0.020", "unmeasured"]], "one line where no preset has it"
    sizes = [line[1] for line in lines if line[0].startswith("| parameters of lite")]
    assert sizes == ["cpu, cpu_long"], "one line where they say the same"


def test_table_by_share_of_labels() -> None:
    rows = [row(0.70), row(0.80, seed=1), row(0.9, fraction=1.0), row(0.75, method="mean_teacher")]
    rows += [row(0.1, data="wce_bleeding"), row(0.2, network="published")]  # of other tables
    assert by_fraction(rows, "kvasir").splitlines() == [
        "| method | start | epoch | preset | steps | px | 10% | 100% |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| supervised | imagenet | best | cpu | 800 | 128 | 0.750 ± 0.071 (2) | 0.900 (1) |",
        "| supervised | imagenet | last | cpu | 800 | 128 | 0.740 ± 0.071 (2) | 0.890 (1) |",
        "| mean teacher | imagenet | best | cpu | 800 | 128 | 0.750 (1) +0.050 | – |",
        "| mean teacher | imagenet | last | cpu | 800 | 128 | 0.740 (1) +0.050 | – |",
    ]


def test_table_of_a_group_has_size_and_steps_beside_the_figures() -> None:
    semise = row(0.8, method="semise", steps_all="1200", best_iou="0.70000")
    lines = of_group([semise, row(0.8, method="less_net")], "ablation").splitlines()
    assert len(lines) == 3, "less_net is not of this group"
    cells = lines[2].split(" | ")
    assert cells[2:11] == [
        "SEMISE, then weak_to_strong",
        "lite",
        "imagenet",
        "2.14",
        "0.194",
        "cpu",
        "800 + 400",
        "128",
        "0",
    ]
    assert cells[11:15] == ["–", "0.800", "0.790", "0.700"]


@pytest.mark.parametrize(
    ("group", "one"), [("ablation", {"method": "fixmatch"}), ("fusion", {"network": "lite_plain", "fraction": 1.0})]
)
def test_a_line_is_compared_on_the_seeds_that_both_have(group: str, one: dict[str, Any]) -> None:
    fraction = one.get("fraction", 0.1)
    rows = [row(dice, seed=seed, fraction=fraction) for seed, dice in ((0, 0.70), (1, 0.90), (2, 0.80))]
    rows += [row(dice, seed=seed, **one) for seed, dice in ((0, 0.72), (2, 0.86))]
    rows += [
        row(0.1, seed=0, fraction=fraction, preset="cpu_long"),
        row(0.2, seed=0, fraction=fraction, start="random"),
    ]
    cells = [line.split(" | ") for line in of_group(rows, group).splitlines()[2:]]
    # .02 and .06, though the means are .80 and .79
    assert [line[10:13] for line in cells if line[7] == "cpu"] == [
        ["0, 1, 2", "–", "0.800 ± 0.100"],
        ["0, 2", "+0.040 (2)", "0.790 ± 0.099"],
    ]


def test_seeds_of_another_precision_are_named() -> None:
    rows = [row(0.5, "smp_unet_r34", fraction=1.0, start="random", seed=0)]
    rows.append(row(0.7, "smp_unet_r34", fraction=1.0, start="random", seed=1, precision="fp32"))
    cells = of_group(rows, "rivals").splitlines()[2].split(" | ")
    assert (cells[10], cells[12]) == ("0, 1 (fp32)", "0.600 ± 0.141")


def test_other_starts_of_a_group_are_shown_too() -> None:
    rows = [row(0.6, "lite_mobilevit_xs", "weak_to_strong", start=start) for start in ("random", "distilled")]
    assert [line.split(" | ")[4] for line in of_group(rows, "size").splitlines()[2:]] == ["random", "distilled"]


def test_without_rows_there_is_a_plain_word() -> None:
    for name, make in LABEL_TABLES.items():
        if name != "label reaches":
            assert make([]) == "Not measured yet."
    verdicts = {line.split(" | ")[4] for line in of_reaches([]).splitlines()[2:]}
    assert verdicts == {"unmeasured"}


def test_every_table_has_its_place_in_the_docs() -> None:
    text = DOCUMENT.read_text()
    for name in LABEL_TABLES:
        assert f"<!-- table {name} -->\n" in text


def test_spread() -> None:
    assert mean_and_spread(["1", "", "3"]) == "2.000 ± 1.414"
    assert mean_and_spread(["10.4"], "hd95") == "10"
    assert mean_and_spread(["2.5", "3.5"], digits=0) == "3 ± 1"
    assert mean_and_spread([""]) == "–"


def test_pictures_are_drawn_where_there_are_rows(tmp_path: Path) -> None:
    assert draw([], "cpu", tmp_path) == []
    rows = [row(0.7 + 0.05 * seed, method="weak_to_strong", seed=seed) for seed in range(2)]
    curves, sizes, ablation = figure_files("cpu", tmp_path)
    assert draw(rows, "cpu", tmp_path) == [curves]  # one network, one method: nothing to compare
    rows += [row(0.6, method="supervised"), row(0.5, method="weak_to_strong", network="published", start="random")]
    assert draw(rows, "cpu", tmp_path) == [curves, sizes, ablation]
    assert draw(rows, "gpu", tmp_path) == []
    assert draw([row(0.7, data="wce_bleeding")], "cpu", tmp_path / "other") == [tmp_path / "other" / curves.name]
    for path in (curves, sizes, ablation):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_legend_has_the_methods_of_every_panel_once() -> None:
    figure = draw_curves([row(0.7), row(0.6, data="wce_bleeding"), row(0.6, "lite", "less_net", data="wce_bleeding")])
    assert figure is not None
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["supervised", "supervised, last epoch", "LESS-Net, corrected", "LESS-Net, corrected, last epoch"]
