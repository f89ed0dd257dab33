"""The configs hold together: properties that MONAI asks for, shared definitions, layers that fit, numbers explained."""

from __future__ import annotations

import json
import logging.config
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from scripts.losses import OBJECTIVES, build_objective
from scripts.networks import LESSNet

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIGS = sorted((BUNDLE / "configs").glob("*.json"))
RUNNABLE = (
    *("train", "inference", "deidentify", "next_frames", "add_geometry", "three_stages", "knowledge_mining"),
    *("merge_shards", "choose_recipe"),
)
# What a layer lies over; all others lie over train alone.
LAYERS = {
    "evaluate": ("train",),
    "multi_gpu_evaluate": ("train", "evaluate"),
    "inference_video": ("inference",),
    "inference_trt": ("inference",),
    "multi_gpu_inference": ("inference",),
    "mine_pseudo_labels": ("inference",),
    "export": ("inference",),
    "predict_classes": ("train", "volumes"),
    "pretrain_severity": ("train", "severity"),
    "train_severity": ("train", "severity"),
    "evaluate_severity": ("train", "severity", "train_severity"),
    "inference_severity": ("train", "severity"),
}
# Top-level ids that a layer adds.
CONTRAST = {"temperature", "projection_channels", "pretraining_views", "contrast_network"}
OWN = {
    "export": {"formats", "most_frames", "calibration_frames", "exporting"},
    "mine_pseudo_labels": {
        *("pre_annotate", "sample_dir", "seed", "label_fraction", "split", "unlabeled_data", "near_duplicate"),
        *("video_frames_per_second", "segmenter", "sam_weights", "cache_dir", "embedding_cache_gb", "passes"),
        *("student_masks", "mining_set", "prompts", "rules", "miner", "stable_split", "value_map"),
    },
    "evaluate": {"checkpoint", "evaluation_dir", "allow_seen_frames", "evaluating"},
    "multi_gpu_inference": {"shard", "shards", "shard_dir"},
    "predict_classes": {
        *("checkpoint", "frames", "frames_batch_size", "frames_dataset", "frames_dataloader", "predicting"),
    },
    "pretrain_global": CONTRAST,
    "pretrain_local_contrastive": {
        *CONTRAST, "shared_view", "contrast_mode", "contrast_stride", "contrast_block", "anchors_per_class",
    },
    "distil_encoder": {
        *("backbone", "teacher_backbone", "teacher_weights", "feature_weight", "logit_weight", "temperature"),
        *("mixup_probability", "mixup", "pretraining_views", "distillation_network"),
    },
    "severity": {"severity_table", "severity_needs", "grades", "backbone"},
    "pretrain_severity": {"discrimination_epochs", "reference", "projection_channels", "pretraining_views"},
    "train_severity": {"freeze_encoder", "grade_balance", "label_smoothing"},
    "evaluate_severity": {"checkpoint", "evaluation_dir", "allow_seen_frames", "evaluating"},
    "inference_severity": {
        *("checkpoint", "score", "frames", "frames_batch_size", "frames_dataset", "frames_dataloader", "predicting"),
        "projection_channels",
    },
}  # fmt: skip
REQUIRED = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task",
    "description", "authors", "copyright", "network_data_format", "changelog",
)  # fmt: skip


def read(name: str) -> dict[str, Any]:
    return json.loads((BUNDLE / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), f"twice: {sorted(name for name in names if names.count(name) > 1)}"
    return dict(pairs)


@pytest.fixture(autouse=True)
def in_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BUNDLE)


def test_the_documented_configs_are_there() -> None:
    expected = {
        "train", "train_supervised", "evaluate", "inference", "inference_video", "deidentify", "metadata",
        "multi_gpu_train", "multi_gpu_evaluate",
        *(name for name in OBJECTIVES if name != "supervised"),
    }  # fmt: skip
    assert expected <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_json_is_sound(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    json.loads(text, object_pairs_hook=refuse_doubles)
    assert "/work" not in text and "/home" not in text, "no path of a machine"


def missing_properties(kind: str, *layers: str, **overrides: Any) -> list[str]:
    """What MONAI's check finds; it builds every part that it looks for."""
    files = [f"configs/{layer}.json" for layer in layers]
    workflow = ConfigWorkflow(
        files, meta_file="configs/metadata.json", logging_file=False, workflow_type=kind, **overrides
    )
    workflow.initialize()
    return workflow.check_properties()


def with_pseudo_labels(dataset: Path) -> Path:
    """A datalist of six labelled frames and two with a pseudo-label."""
    pairs = [(path, dataset / "masks" / f"{path.stem}.png") for path in sorted((dataset / "images").iterdir())[:8]]
    listed = {
        "training": [{"image": str(image), "label": str(mask)} for image, mask in pairs[:6]],
        "unlabeled": [{"image": str(image), "pseudo_label": str(mask), "weight": 0.9} for image, mask in pairs[6:]],
    }
    (dataset / "pseudo_labels.json").write_text(json.dumps(listed))
    return dataset / "pseudo_labels.json"


@pytest.mark.parametrize("layer", ["train_supervised", *sorted(set(OBJECTIVES) - {"supervised"})])
def test_monai_finds_all_properties_of_training(layer: str, tiny_dataset: Path, tmp_path: Path) -> None:
    """A cheap network: it is built, and nothing is trained."""
    dataset = with_pseudo_labels(tiny_dataset) if layer == "pseudo_labels" else tiny_dataset
    overrides = {"dataset_dir": str(dataset), "output_dir": str(tmp_path), "encoder_weights": "none"}
    assert missing_properties("train", "train", layer, **overrides) == []


def test_monai_finds_all_properties_of_inference(tiny_dataset: Path, tmp_path: Path) -> None:
    torch.save(LESSNet(encoder_weights="none").state_dict(), tmp_path / "model.pt")
    overrides = {"dataset_dir": str(tiny_dataset / "images"), "output_dir": str(tmp_path / "out")}
    assert missing_properties("inference", "inference", checkpoint=str(tmp_path / "model.pt"), **overrides) == []
    assert not (tmp_path / "out").exists(), "nothing was run"


def test_training_and_inference_share_their_definitions() -> None:
    train, inference = read("train"), read("inference")
    networks = [{k: v for k, v in each["network_def"].items() if k != "encoder_weights"} for each in (train, inference)]
    assert networks[0] == networks[1]
    assert inference["network_def"]["encoder_weights"] == "none", "nothing is fetched to be overwritten"
    assert train["image_size"] == inference["image_size"]
    assert train["train"]["preprocessing_transforms"][0] == inference["preprocessing"]["transforms"][0]
    assert train["validate"]["preprocessing_transforms"][2:] == inference["preprocessing"]["transforms"][1:]
    assert train["validate"]["inferer"] == inference["inferer"]
    restore = train["train"]["postprocessing"]["_target_"]
    assert restore == inference["postprocessing"]["transforms"][-1]["_target_"]
    assert train["validate"]["evaluator"]["prepare_batch"] == inference["evaluator"]["prepare_batch"]


def names_of(layer: str) -> set[str]:
    """Top-level ids that the configs under a layer declare."""
    return {name for base in LAYERS.get(layer, ("train",)) for name in read(base)}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_layers_change_only_what_is_declared(path: Path) -> None:
    if path.stem in (*RUNNABLE, "metadata"):
        pytest.skip("a complete config")
    own = OWN.get(path.stem, set())
    changed = {name.split("#")[0] for name in read(path.stem)}
    assert changed - own - {"_desc_"} <= names_of(path.stem)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_nested_names_exist(path: Path) -> None:
    """A layer's a#b#c needs an a#b to go into; MONAI would fail with a bare KeyError."""
    if path.stem in (*RUNNABLE, "metadata"):
        pytest.skip("a complete config")
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / f"{base}.json") for base in LAYERS.get(path.stem, ("train",))])
    for name in read(path.stem):
        if "#" in name and not name.startswith("_desc_"):
            assert name.rpartition("#")[0] in parser, name


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_number_and_choice_is_explained(name: str) -> None:
    config = read(name)
    plain = {key for key, value in config.items() if isinstance(value, (int, float, str, bool))}
    internal = {"imports", "run", "bundle_root", "device", "run_dir", "sample_dir", "network", "sources", "chain_dir"}
    assert plain - internal - config["_desc_"].keys() == set(), "they have no entry in _desc_"
    assert config["_desc_"].keys() <= config.keys(), "an entry that explains nothing"


@pytest.mark.parametrize(
    "layer",
    [
        *("pretrain_global", "pretrain_local_contrastive", "distil_encoder"),
        *("severity", "pretrain_severity", "train_severity"),
    ],
)
def test_what_a_pretraining_adds_is_explained(layer: str) -> None:
    config = read(layer)
    assert {f"_desc_#{name}" for name in OWN[layer]} <= config.keys()


def test_both_pretrainings_are_one_loop() -> None:
    one, other = read("pretrain_global"), read("pretrain_local_contrastive")
    assert other["train#trainer"].pop("shared_view") == "@shared_view"  # of pixels: local contrast's own
    same = ("optimizer#params#network", "train#objective", "train#handlers", "train#trainer")
    assert [one[name] for name in same] == [other[name] for name in same]
    bases = [config["training"].pop(1)["bases"] for config in (one, other)]
    pictures = [step for step in other["training"] if "embedding_map" in str(step)]  # of pixels: local contrast's own
    assert one["training"] == [step for step in other["training"] if step not in pictures]
    assert bases == [["train.json", "pretrain_global.json"], ["train.json", "pretrain_local_contrastive.json"]]


def test_every_objective_has_a_layer() -> None:
    for name, factory in OBJECTIVES.items():
        layer = read("train_supervised" if factory is None else name)
        assert layer["objective"] == name
        options = {key: value for key, value in layer.get("objective_options", {}).items() if not key.startswith("_")}
        build_objective(name, options)


@pytest.mark.parametrize(("name", "alias"), [("train", "training"), ("inference", "evaluating")])
def test_run_and_its_alias_are_the_same(name: str, alias: str) -> None:
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / f"{name}.json"))
    parser.parse()
    assert parser["run"] == parser[alias] and isinstance(parser["run"], list)


def test_evaluate_has_a_run_of_its_own() -> None:
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "evaluate")])
    parser.parse()
    # MONAI writes :: for # in one of the two copies
    run, evaluating, training = (
        json.dumps(parser[name]).replace("#", "::") for name in ("run", "evaluating", "training")
    )
    assert run == evaluating != training


def test_pseudo_labels_can_be_held_to_the_shares_of_the_masks(tiny_dataset: Path, tmp_path: Path) -> None:
    overrides = {"dataset_dir": str(tiny_dataset), "run_dir": str(tmp_path / "run")}
    shares = {"objective_options::class_shares": "@train#class_shares"}
    workflow = ConfigWorkflow("configs/train.json", logging_file=False, **overrides, **shares)
    objective = workflow.parser.get_parsed_content("train#objective")
    dataset = workflow.parser.get_parsed_content("train#dataset")
    masks = [dataset[index]["label"] for index in range(len(dataset))]  # a CacheDataset has no end to iterate to
    lesion = sum(float((mask > 0).float().mean()) for mask in masks) / len(masks)
    assert 0 < lesion < 0.5 and objective.alignment.target.tolist() == pytest.approx([1 - lesion, lesion])


def test_metadata() -> None:
    metadata = read("metadata")
    assert [key for key in REQUIRED if key not in metadata] == []
    assert metadata["version"] in metadata["changelog"]
    for key in ("monai_version", "pytorch_version", "numpy_version"):
        assert all(part.isdigit() for part in metadata[key].split(".")), "plain versions: no +cu132"
    required = metadata["required_packages_version"]
    assert all(all(part.isdigit() for part in version.split(".")) for version in required.values())
    network, side = read("train")["network_def"], read("train")["image_size"]
    for kind, channels in (("inputs", network["in_channels"]), ("outputs", network["out_channels"])):
        for tensor in metadata["network_data_format"][kind].values():
            assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= tensor.keys()
            assert tensor["num_channels"] == channels == len(tensor["channel_def"])
            assert tensor["spatial_shape"] == [side, side]


def test_the_declared_network_is_the_one_that_is_built() -> None:
    workflow = ConfigWorkflow("configs/inference.json", meta_file="configs/metadata.json", logging_file=False)
    network = workflow.parser.get_parsed_content("network_def")
    assert isinstance(network, LESSNet)
    assert sum(parameter.numel() for parameter in network.parameters()) <= 2_200_000


def test_logging_file_is_accepted_by_monai() -> None:
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    try:
        ConfigWorkflow("configs/train.json", meta_file="configs/metadata.json", workflow_type="train")
        assert root.level == logging.INFO and root.handlers != kept
    finally:
        root.handlers[:], root.level = kept, level
