"""Which cells each group has, in which order, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_run import config_file
from label_axes import CHAIN, METHODS, NETWORKS, PRESETS, RIVALS, SAME_ENCODER, refusal
from label_cell import Setting, encoder_weights, last_stage, network_size
from label_efficiency import parsed
from label_grid import GROUPS, SECOND, TIERS, Cell, free, plan

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def triples(group: str) -> list[tuple[str, str, float]]:
    """(data, method, fraction) of a group's cells of lite from ImageNet weights, seed 0."""
    return [
        (cell.data, cell.method, cell.label_fraction)
        for cell in plan([group], [0])
        if (cell.network, cell.start) == ("lite", "imagenet")
    ]


def test_headline_has_every_share_of_labels_and_no_method_without_frames() -> None:
    shares = {"kvasir": (0.1, 0.25, 0.5, 1.0), "wce_bleeding": (0.1, 0.25, 0.5, 1.0), "cxr_montgomery": (0.1, 0.5)}
    expected = [
        (data, method, fraction)
        for data, fractions in shares.items()
        for fraction in fractions
        for method in ("supervised", "weak_to_strong")
        if (data, method, fraction) != ("kvasir", "weak_to_strong", 1.0)  # all frames have a mask
    ]
    assert triples("headline") == expected
    others = [cell for cell in plan(["headline"], [0]) if cell.start == "random"]
    assert others == [Cell("kvasir", network, "weak_to_strong", 0.1, "random") for network in ("lite", "published")]


def test_second_methods_of_the_reaches_are_in_the_grid() -> None:
    wanted = {(data, method, fraction) for data, method in SECOND.items() for fraction in (0.1, 0.25, 0.5)}
    assert len(wanted) == 6 and wanted <= set(triples("methods"))


def test_ablation_is_the_chain_and_what_stands_beside_it() -> None:
    names = ["supervised", *CHAIN, "local_contrast", "semise", "knowledge_mining"]
    assert triples("ablation") == [(data, name, 0.1) for data in ("kvasir", "wce_bleeding") for name in names]


def test_rivals_are_all_there_and_start_like_lite() -> None:
    cells = plan(["rivals"], [0])
    assert {cell.network for cell in cells if cell.start == "imagenet"} == {*SAME_ENCODER}
    full = {cell.network for cell in cells if (cell.data, cell.label_fraction) == ("kvasir", 1.0)}
    assert full == {"lite", "published", *RIVALS, *SAME_ENCODER}
    uncut = [cell.method for cell in cells if cell.network == "basic_unet_plus_plus" and cell.label_fraction == 0.1]
    assert uncut == ["supervised", "mean_teacher"]


def test_fusion_and_size() -> None:
    off = [cell.network for cell in plan(["fusion"], [0]) if cell.method == "weak_to_strong"]
    assert off == ["lite", "lite_no_fusion", "lite_no_attention", "lite_no_context", "lite_plain"]
    sizes = [(cell.network, cell.start) for cell in plan(["size"], [0]) if cell.method == "weak_to_strong"]
    mobilevits = [(f"lite_mobilevit_{letter}", "random") for letter in ("xxs", "xs", "s")]
    assert sizes == [("lite", "imagenet"), ("lite", "random"), *mobilevits, ("published", "random")]


def test_order_is_tier_then_seed_then_group_and_no_cell_comes_twice() -> None:
    assert sorted(name for tier in TIERS for name in tier) == sorted(GROUPS)
    cells = plan(GROUPS, [0, 1])
    assert len(cells) == len(set(cells))
    first = plan(["headline", "rivals"], [0, 1])
    assert cells[: len(first)] == first
    assert [cell.seed for cell in first] == sorted(cell.seed for cell in first)
    headline = plan(["headline"], [0])
    assert cells[: len(headline)] == headline


def test_axes_keep_what_they_name() -> None:
    only = {"data": ["kvasir"], "method": ["supervised"], "label_fraction": [0.1, 1.0], "start": ["imagenet"]}
    found = plan(["headline"], [2], only)
    assert found == [Cell("kvasir", "lite", "supervised", fraction, "imagenet", 2) for fraction in (0.1, 1.0)]


@pytest.mark.parametrize(
    ("data", "network", "method", "fraction", "word"),
    [
        ("kvasir", "smp_unet_r34", "less_net", 0.1, "made for LESSNet.*weak_to_strong"),
        ("kvasir", "flexible_unet_b0", "local_contrast", 0.1, "made for LESSNet"),
        ("kvasir", "basic_unet_plus_plus", "weak_to_strong", 0.1, "cannot be cut: use mean_teacher"),
        ("kvasir", "lite", "mean_teacher", 1.0, "has none at 100 %: use supervised"),
        ("cxr_montgomery", "lite", "semise", 0.1, "known severity"),
    ],
)
def test_what_does_not_go_together_is_refused(data: str, network: str, method: str, fraction: float, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        free([data], [network], [method], [fraction], ["random"], [0])


def test_what_goes_together_is_not_refused() -> None:
    assert refusal("wce_bleeding", "lite", "mean_teacher", 1.0) == ""
    assert refusal("kvasir", "smp_unet_plus_plus_r34", "weak_to_strong", 0.5) == ""
    assert refusal("kvasir", "basic_unet_plus_plus", "mean_teacher", 0.5) == ""
    assert len(free(["kvasir"], ["lite", "published"], ["less_net"], [0.1, 0.5], ["random"], [0, 1])) == 8


def test_each_step_of_the_chain_changes_one_thing() -> None:
    setting = Setting(Path("data"), Path("work"), "cpu")
    full = {"strong_views": 2, "complementary_dropout": 0.5, "cutmix": 0.5, "weighting": "fixed", "ema_decay": 0.99}
    seen = []
    for name in CHAIN:
        given = last_stage(METHODS[name], NETWORKS["lite"], setting)
        seen.append({key: given.get(f"objective_options::{key}", given.get(key, full[key])) for key in full})
    changed = [[key for key in full if one[key] != two[key]] for one, two in zip(seen, seen[1:], strict=False)]
    assert changed == [["ema_decay"], ["cutmix"], ["strong_views"], ["complementary_dropout"], ["weighting"]]
    assert seen[-2] == full, "weak_to_strong is the config as it is"


def test_overrides_of_the_call_come_last() -> None:
    setting = Setting(Path("data"), Path("work"), "cpu", {"max_epochs": "1", "ema_decay": "0.5"})
    given = last_stage(METHODS["fixmatch_no_ema"], NETWORKS["published"], setting)
    assert (given["max_epochs"], given["ema_decay"], given["network_def::preset"]) == ("1", "0.5", "published")


def test_a_precision_is_that_of_every_stage() -> None:
    usual, other = (Setting(Path("data"), Path("work"), "cpu", precision=word).scale for word in ("", "fp32"))
    stages = ("train", "local_contrast", "semise")
    assert [getattr(usual, stage)["precision"] for stage in stages] == ["bf16"] * 3
    assert [getattr(other, stage)["precision"] for stage in stages] == ["fp32"] * 3
    assert {**other.train, "precision": "bf16"} == usual.train
    setting = Setting(Path("data"), Path("work"), "cpu", precision="fp32")
    assert last_stage(METHODS["supervised"], NETWORKS["lite"], setting)["precision"] == "fp32"
    assert setting.settings == "", "a cell is the same cell in either"


def test_configs_of_all_networks_are_found() -> None:
    for network in NETWORKS.values():
        for layer in network.layers:
            assert config_file(layer).startswith("../benchmarks/configs")
    assert config_file("train") == "configs/train.json"
    with pytest.raises(FileNotFoundError, match="neither in bundle/configs nor in benchmarks/configs"):
        config_file("trian")
    assert sorted(path.stem for path in (BENCHMARKS / "configs").glob("*.json")) == sorted([*RIVALS, *SAME_ENCODER])


def test_sizes_are_those_of_the_network_that_the_configs_build() -> None:
    parameters, gmac = network_size("lite", 128)
    assert parameters == 2_142_882
    assert gmac == pytest.approx(0.194, abs=0.001)
    without = network_size("lite_no_fusion", 128)
    # project 272 -> 64 of all levels, attention 64 -> 16 -> 2 x 64 with its norm, norm; and 64 -> each level with bias
    assert parameters - without[0] == 272 * 64 + (3 * 64 * 16 + 2 * 16) + 2 * 64 + 65 * 272
    assert parameters - network_size("lite_no_attention", 128)[0] == 3 * 64 * 16 + 2 * 16


def test_weights_go_by_backbone_and_start(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    setting = Setting(tmp_path, tmp_path, "cpu", weights={("mobilenetv2_100", "imagenet"): file})
    cell = Cell("kvasir", "lite_no_fusion", "supervised", 0.1, "imagenet")
    assert encoder_weights(cell, setting) == str(file)
    assert encoder_weights(Cell("kvasir", "lite", "supervised", 0.1, "random"), setting) == "none"
    assert encoder_weights(Cell("kvasir", "smp_unet_r34", "supervised", 0.1, "imagenet"), setting) == "imagenet"
    with pytest.raises(ValueError, match="mobilevit_xs:distilled=FILE"):
        encoder_weights(Cell("kvasir", "lite_mobilevit_xs", "supervised", 0.1, "distilled"), setting)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parallel", "2"], "is for a GPU and torch sees none"),
        (["--parallel", "0"], "expected 1 or more"),
        (["--weights", "mobilenetv2_100=nowhere.pt"], "does not exist"),
        (["--weights", "nowhere.pt"], r"expected BACKBONE\[:START\]=FILE"),
        (["--group", "free", "--methods", "supervised"], "needs every axis"),
        (["--group", "headline", "--methods", "less_net"], "no cell of these groups"),
        (["--group", "headline", "--methods", "less"], "invalid choice"),
    ],
)
def test_options_are_checked(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        parsed(["--data", "data", *words])
    assert __import__("re").search(message, capsys.readouterr().err)


def test_the_long_preset_has_four_times_the_steps_and_nothing_else_is_other() -> None:
    short, long = PRESETS["cpu"], PRESETS["cpu_long"]
    assert long.train["max_epochs"] == 4 * short.train["max_epochs"]
    assert long.fine_tune_epochs == 4 * short.fine_tune_epochs
    assert {**long.train, "max_epochs": short.train["max_epochs"]} == short.train
    assert (long.local_contrast, long.semise) == (short.local_contrast, short.semise)
