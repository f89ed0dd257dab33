"""The weights that the bundle ships: trained on polyps and bleeding together, measured, put into bundle/models.

    W=../shared/weights/mobilenetv2_100.in1k.safetensors
    python benchmarks/release_weights.py --data ../shared/data --weights $W
    python benchmarks/release_weights.py --data ../shared/data --weights $W --install

Trains configs/train.json on Kvasir-SEG and WCEBleedGen in one folder (a stopped training goes on) and measures the
test split. Writes benchmarks/results/released_weights.csv, a row a test frame, and released_weights.json, what was done
and found. With --install these weights become bundle/models/model.pt, and metadata.json, the model card and its picture
of failures say what they are. --storage float16 halves the file and is refused where that changes the masks.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from bundle_run import ROOT, machine_of, pairs, run_bundle, training_seconds
from merged_frames import merge
from model_card import FIGURES, RESULT, ROWS, write_card
from plot_failures import draw_failures

from scripts.package.weights import pack_weights

SOURCES = {"polyps": "kvasir_seg", "bleeding": "wce_bleeding"}
#: of the training, over train.json's own
SETTINGS = {"image_size": 256, "max_epochs": 128, "iterations_per_epoch": 50, "val_interval": 8, "precision": "bf16"}
MODELS = ROOT / "bundle" / "models"
METADATA = ROOT / "bundle" / "configs" / "metadata.json"
FRAMES = 50  # on which float16 is compared with the weights as they were trained
NAMES = "test frames of Kvasir-SEG and WCEBleedGen"


def merged_sources(data: Path, work: Path) -> Path:
    """The data sets of the release as one folder, in work; data holds them."""
    return merge({name: data / folder for name, folder in SOURCES.items()}, work / "released_frames")


def train(args: argparse.Namespace) -> Path:
    """The run directory of the finished training."""
    frames = merged_sources(args.data, args.work)
    overrides = {
        "dataset_dir": frames.resolve(),
        "encoder_weights": args.weights.resolve(),
        "seed": args.seed,
        **SETTINGS,
        **pairs(args.set),
    }
    return run_bundle(args.work, "released", ["train", *args.layers], overrides, "report.html")


def describe(run_dir: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What was done and found, without a path of this machine."""
    metrics = json.loads((run_dir / "test_metrics.json").read_text())
    manifest = json.loads((run_dir / "manifest.json").read_text())
    config = json.loads((run_dir / "config.json").read_text())
    layers = "".join(f" {layer}" for layer in args.layers)
    more = f" --set {' '.join(args.set)}" if args.set else ""
    return {
        "command": f"python benchmarks/release_weights.py --data DATA --weights {args.weights.name} --seed {args.seed}"
        + (f" --layers{layers}" if layers else "")
        + more,
        "data": SOURCES,
        "counts": manifest["counts"],
        "seed": args.seed,
        "objective": config["objective"],
        "steps": int(config["max_epochs"]) * int(config["iterations_per_epoch"]),
        "image_size": config["image_size"],
        "precision": config["precision"],
        "encoder_weights": args.weights.name,
        "epoch": metrics["best"]["epoch"],
        "key_metric": metrics["key_metric"],
        "validation_dice": metrics["validation"]["figures"]["dice"]["value"],  # by which objectives are compared
        "temperature": metrics["temperature"],
        "figures": {
            name: {key: metrics["best"]["figures"][name][key] for key in ("value", "low", "high", "unit")}
            for name in FIGURES
        },
        "training_seconds": training_seconds(run_dir),
        "machine": machine_of(run_dir),
    }


def install(run_dir: Path, found: dict[str, Any], storage: str) -> dict[str, Any]:
    """Put the weights into bundle/models and their hashes and figures into metadata.json; returns what was found."""
    manifest = json.loads((run_dir / "manifest.json").read_text())
    test = [entry["file"] for entry in manifest["files"] if entry["section"] == "test"]
    folder = Path(manifest["dataset_dir"])
    frames = [folder / file for file in test[:: max(1, len(test) // FRAMES)]][:FRAMES]
    packed = pack_weights(run_dir / "model.pt", ROOT / "bundle", storage, frames, NAMES)
    MODELS.mkdir(exist_ok=True)
    for name, data in packed.files.items():
        temporary = (ROOT / "bundle" / name).with_suffix(".part")
        temporary.write_bytes(data)
        temporary.replace(ROOT / "bundle" / name)
    metadata = json.loads(METADATA.read_text())
    metadata["weights"] = packed.entry
    metadata["eval_metrics"] = {
        name: round(figure["value"], 4) for name, figure in found["figures"].items() if figure["value"] is not None
    }
    metadata["training"] = {
        name: found[name] for name in ("command", "data", "counts", "seed", "objective", "steps", "image_size")
    }
    METADATA.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n")
    return found | {"weights": packed.entry}


def main() -> None:
    """Train, measure, by option install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {' and '.join(SOURCES.values())}")
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of the encoder")
    parser.add_argument("--seed", type=int, default=0, help="of split and training (default 0)")
    parser.add_argument("--layers", nargs="*", default=[], help="configs over train.json, such as train_supervised")
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the training")
    parser.add_argument("--install", action="store_true", help="put the weights into the bundle, fill the model card")
    parser.add_argument("--storage", choices=("float32", "float16"), default="float32", help="of what is installed")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    args = parser.parse_args()
    run_dir = train(args)
    found = describe(run_dir, args)
    if args.install:
        found = install(run_dir, found, args.storage)
    RESULT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    shutil.copyfile(run_dir / "per_image.csv", ROWS)
    if args.install:
        draw_failures(run_dir)
        write_card()
    print(json.dumps(found["figures"], indent=2))


if __name__ == "__main__":
    main()
