"""One cell of the label-efficiency grid: its stages as runs of the bundle's configs, and the row that is kept of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bundle_run import ROOT, best_and_last, best_on_validation, config_file, machine_of, run_bundle
from fire.parser import DefaultParseValue
from label_axes import DATA, METHODS, NETWORKS, PRESETS, RECALLS, Method, Network, Preset, at_recall
from label_grid import Cell
from monai.bundle import ConfigParser
from network_speed import Case, gmac
from pretrained_starts import local_contrast_start, severity_start

FIGURES = (
    "dice", "iou", "dice_pooled", "iou_pooled", "miou", "mrecall", "recall_pooled", "precision_pooled",
    "false_positive_frames", "hd95", "surface_dice", "ece", "ece_scaled",
    *map(at_recall, RECALLS),
)  # fmt: skip
#: the figures above are more than the bundle's own evaluation gives
SWEPT = {"finish::evaluation::_target_": "operating_points.SweptEvaluation"}


@dataclass(frozen=True)
class Setting:
    """What all cells of a call share.

    Attributes:
        data: folder of the data sets. work: gets the run directories.
        preset: name of a Preset. precision: of all stages in the place of the preset's; "" = the preset's.
        more: overrides of the last stage, over those of preset, network and method.
        before: overrides of the pretraining stages, over those of the preset.
        weights: {(timm backbone, start): file} of encoder weights.
    """

    data: Path
    work: Path
    preset: str
    more: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    precision: str = ""

    @property
    def scale(self) -> Preset:
        """The preset, in the precision that was asked for."""
        preset = PRESETS[self.preset]
        return preset.in_precision(self.precision) if self.precision else preset

    @property
    def settings(self) -> str:
        """``more``, and ``before`` behind a word of its own, as they stand in the CSV."""
        before = [f"before:{name}={value}" for name, value in self.before.items()]
        return " ".join([*(f"{name}={value}" for name, value in self.more.items()), *before])


def run_cell(cell: Cell, setting: Setting) -> dict[str, Any]:
    """Run the stages of a cell that are not finished; returns its row.

    Raises:
        subprocess.CalledProcessError: a stage failed; its log is beside its run directory.
        ValueError: encoder weights that nobody gave.
    """
    method, network = METHODS[cell.method], NETWORKS[cell.network]
    encoder = encoder_weights(cell, setting)
    data = setting.data / DATA[cell.data].folder
    common = {"dataset_dir": data.resolve(), "label_fraction": cell.label_fraction, "seed": cell.seed}
    name = f"grid_{setting.preset}_{cell.data}_{cell.network}_{cell.start}"
    if method.chain:
        return _chain_row(cell, setting, common | {"encoder_weights": encoder}, name)
    start, before = _stage_before(cell, setting, name, encoder)
    overrides = {**common, "encoder_weights": encoder, **last_stage(method, network, setting), **start, **SWEPT}
    name = f"{name}_{cell.method}_{cell.label_fraction:g}_seed{cell.seed}"
    run_dir = run_bundle(setting.work, name, ["train", method.layer, *network.layers], overrides, "report.html")
    return row_of(cell, setting, run_dir, before)


def last_stage(method: Method, network: Network, setting: Setting) -> dict[str, Any]:
    """Overrides of the run that is measured: preset, network, method, then what the call gave."""
    return {**setting.scale.train, **network.overrides, **method.overrides, **setting.more}


def encoder_weights(cell: Cell, setting: Setting) -> str:
    """What --encoder_weights is for a cell: "none", a file, or "imagenet" for the hub, which fails if out of reach.

    Raises:
        ValueError: a start of another name without a file.
    """
    if cell.start == "random":
        return "none"
    backbone = NETWORKS[cell.network].backbone
    given = setting.weights.get((backbone, cell.start))
    if given is None and cell.start != "imagenet":
        raise ValueError(
            f"{cell.network} is to start from {cell.start!r} and there is no file for it: give "
            f"--weights {backbone or cell.network}:{cell.start}=FILE, or --starts random imagenet"
        )
    return "imagenet" if given is None else str(given.resolve())


def _stage_before(cell: Cell, setting: Setting, name: str, encoder: str) -> tuple[dict[str, Any], list[Path]]:
    """Overrides by which the last stage starts from the one before it, and the run directories before it."""
    network, preset = NETWORKS[cell.network], setting.scale
    given, seed = cell.label_fraction, cell.seed
    before = METHODS[cell.method].before
    if before == "local_contrast":
        more = {"encoder_weights": encoder, **network.overrides, **preset.local_contrast, **setting.before}
        data = setting.data / DATA[cell.data].folder
        run_dir = local_contrast_start(setting.work, name, data, list(network.layers), given, seed, more)
        return {"init_checkpoint": (run_dir / "model.pt").resolve()}, [run_dir]
    if before == "semise":
        source = DATA[cell.data].severity
        more = {"backbone": network.backbone, **preset.semise, **setting.before}
        name = f"grid_{setting.preset}_{source}_{network.backbone}_{cell.start}"
        run_dir = severity_start(setting.work, name, setting.data / source, encoder, "semise", given, seed, more)
        return {"encoder_weights": (run_dir / "model.pt").resolve()}, [run_dir]
    return {}, []


def _chain_row(cell: Cell, setting: Setting, common: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Run a chain (knowledge_mining.json) and read the round that it ships."""
    network, preset = NETWORKS[cell.network], setting.scale
    # Inside of a mapping a text stays a text: what the call gave is read as the command line would read it.
    given = {key: DefaultParseValue(value) for key, value in setting.more.items()}
    train = last_stage(METHODS[cell.method], network, setting) | given
    of_chain = {key: train.pop(key) for key in ("image_size", "precision") if key in train}
    # Fine-tuning has its own start and ramp of the second loss, in pseudo_labels.json.
    fine_tune = {key: value for key, value in train.items() if not key.startswith("unsupervised_")}
    fine_tune |= {"max_epochs": preset.fine_tune_epochs, **given}
    options = {"train": {**train, **SWEPT}, "mine": dict(network.overrides), "fine_tune": {**fine_tune, **SWEPT}}
    name = f"{name}_{cell.method}_{cell.label_fraction:g}_seed{cell.seed}"
    overrides = {**common, **of_chain, "options": options}
    # rounds.csv is the last thing that a chain writes.
    chain = run_bundle(setting.work, name, [METHODS[cell.method].layer], overrides, "rounds.csv")
    with (chain / "rounds.csv").open(newline="") as file:
        rounds = list(csv.DictReader(file))
    kept = next(Path(row["run_dir"]) for row in rounds if row["kept"] == "yes")
    trained = [path.parent for path in chain.glob("*/environment.json")]
    return row_of(cell, setting, kept, [run_dir for run_dir in trained if run_dir != kept])


def row_of(cell: Cell, setting: Setting, run_dir: Path, others: list[Path]) -> dict[str, Any]:
    """The CSV row of a finished cell.

    Args:
        run_dir: what is measured. others: the other trainings of the cell; their steps and seconds count too.
    """
    config = json.loads((run_dir / "config.json").read_text())
    environment = json.loads((run_dir / "environment.json").read_text())
    counts = json.loads((run_dir / "manifest.json").read_text())["counts"]
    used = environment["encoder_weights"]["used"]
    parameters, work = network_size(cell.network, int(config["image_size"]))
    every = [run_dir, *others]
    planned = last_stage(METHODS[cell.method], NETWORKS[cell.network], setting)
    return {
        **cell.key(setting.preset, setting.settings),
        "steps": int(planned["max_epochs"]) * int(planned["iterations_per_epoch"]),
        "steps_all": sum(map(_steps, every)),
        "image_size": config["image_size"],
        "precision": config["precision"],
        "encoder_weights": Path(str(used)).name,
        "parameters": parameters,
        "gmac": f"{work:.3f}",
        "labelled": counts["training"]["labelled"],
        "unlabelled": counts.get("unlabeled", {}).get("images", 0),
        "test_frames": counts["test"]["images"],
        "val_dice": best_on_validation(run_dir, "val_dice"),
        **best_and_last(run_dir, FIGURES),
        "best_epoch": json.loads((run_dir / "test_metrics.json").read_text())["best"]["epoch"],
        "seconds": round(sum(_seconds(path) for path in every), 1),
        "machine": machine_of(run_dir),
    }


def _steps(run_dir: Path) -> int:
    """Steps of a run's schedule."""
    config = json.loads((run_dir / "config.json").read_text())
    return int(config["max_epochs"]) * int(config["iterations_per_epoch"])


def _seconds(run_dir: Path) -> float:
    """Seconds of a run with its measuring, of all its parts."""
    return float(json.loads((run_dir / "environment.json").read_text())["seconds"])


@cache
def network_size(name: str, side: int) -> tuple[int, float]:
    """Parameters, and 10^9 multiply-accumulates of one square image of ``side`` pixels, as the configs build it."""
    network = NETWORKS[name]
    parser = ConfigParser()
    parser.read_config([str(ROOT / "bundle" / config_file(layer)) for layer in ("train", *network.layers)])
    parser.update({**network.overrides, "encoder_weights": "none"})
    built = parser.get_parsed_content("network_def")
    return sum(parameter.numel() for parameter in built.parameters()), gmac(Case(built.eval(), side))
