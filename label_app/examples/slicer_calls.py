"""A sitting of annotation with exactly the calls of 3D Slicer's MONAI Label plug-in, for machines without Slicer.

    .venv-label/bin/python label_app/examples/slicer_calls.py --server http://127.0.0.1:8000 --truth masks/ --labels 5

The plug-in's order, parameters and formats: log in where the server asks for it, info, next sample, load the volume,
infer (.nrrd, uint8), read its geometry, save the label as .nii.gz or .nrrd with the volume's geometry, train, watch
train_stats, infer again. In place of the person who corrects outlines stands a folder of truth masks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monailabel.client import MONAILabelClient

MODEL = "endoscopic_lesion_segmentation"


def connect(server: str, token: str, folder: str) -> MONAILabelClient:
    """As the plug-in's _client(): log in with the token as the password where the server asks for one."""
    client = MONAILabelClient(server, folder, client_id="user-xyz")
    if client.auth_enabled():
        client.update_auth(client.auth_token("annotator", token))
        if not client.auth_valid_token():
            raise SystemExit("The server does not take this token (--token, or LESION_LABEL_TOKEN)")
    return client


def default_params(config: dict[str, Any]) -> dict[str, Any]:
    """As the plug-in's getParamsFromConfig(): of a list of choices the first."""
    return {key: value[0] if isinstance(value, list) else value for key, value in config.items()}


def infer(client: MONAILabelClient, image: str, params: dict[str, Any]) -> tuple[sitk.Image, dict[str, Any]]:
    """As onClickSegmentation(): the mask as SimpleITK reads it, and the JSON part."""
    result, facts = client.infer(MODEL, image, {**params, "result_extension": ".nrrd", "result_dtype": "uint8"})
    mask = sitk.ReadImage(result)
    os.unlink(result)
    return mask, facts


def check_geometry(mask: sitk.Image, volume: sitk.Image) -> None:
    """What the plug-in and Slicer index: three axes, a 3 x 3 direction, the geometry of the volume."""
    size, direction = mask.GetSize(), mask.GetDirection()
    if len(size) != 3 or len(direction) != 9:
        raise SystemExit(f"mask of size {size} with a direction of {len(direction)} numbers; Slicer indexes 3 and 9")
    found = (size[:2], mask.GetSpacing()[:2], mask.GetOrigin()[:2], direction[0], direction[4])
    expected_direction = volume.GetDirection()
    row = 4 if volume.GetDimension() == 3 else 3
    expected = (
        *(volume.GetSize()[:2], volume.GetSpacing()[:2], volume.GetOrigin()[:2]),
        *(expected_direction[0], expected_direction[row]),
    )
    if found != expected:
        raise SystemExit(f"the mask lies elsewhere than the volume: {found}, expected {expected}")


def save_label(client: MONAILabelClient, image: str, mask: np.ndarray, like: sitk.Image, suffix: str) -> dict[str, Any]:
    """As onSaveLabel(): a label volume (D, H, W) with the geometry of the volume, and the names of its segments."""
    label = sitk.GetImageFromArray(mask.astype(np.uint8))
    label.CopyInformation(like)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"label{suffix}")
        sitk.WriteImage(label, path, useCompression=True)
        return client.save_label(image, path, params={"label_info": [{"name": "lesion", "idx": 1}]})


def train(client: MONAILabelClient, params: dict[str, Any], say: Any = print) -> dict[str, Any]:
    """As onTraining() and monitorTraining(): start, then ask for status and train_stats until it is over."""
    task = client.train_start(MODEL, params)
    shown = None
    while client.train_status(check_if_running=True) or client.train_status()["status"] in ("SUBMITTED", "RUNNING"):
        stats = next(iter(client.info()["train_stats"].values()), {})
        now = (stats.get("epoch"), stats.get("total_epochs"), stats.get("best_metric"))
        if now != shown and stats.get("status") == "RUNNING":
            say(f"  epoch {now[0]} of {now[1]}, validation Dice {now[2]}")
        shown = now
        time.sleep(2.0)
    status = client.train_status()
    if status["status"] != "DONE":
        raise SystemExit(
            f"training {task['id']} ended as {status['status']}: " + "\n".join(list(status["details"])[-5:])
        )
    return next(iter(client.info()["train_stats"].values()))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = (one > 0).sum() + (other > 0).sum()
    return 1.0 if total == 0 else float(2 * ((one > 0) & (other > 0)).sum() / total)


def truth_of(folder: Path, image: str, volume: sitk.Image) -> np.ndarray:
    """The truth mask of an image, (1, H, W) of 0 and 1."""
    file = next(path for path in sorted(folder.iterdir()) if path.stem == image)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] in (3, 4) else values
    return (values.reshape(1, *volume.GetSize()[:2][::-1]) > 127).astype(np.uint8)


def main() -> None:
    """Run the sitting, print what happens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8000")
    parser.add_argument("--token", default=os.environ.get("LESION_LABEL_TOKEN", ""))
    parser.add_argument("--truth", type=Path, required=True, help="folder of masks under the images' names")
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--strategy", default="diversity")
    parser.add_argument("--max_epochs", type=int, default=0, help="0 = the server's default")
    parser.add_argument(
        "--suffix", default=".nii.gz", choices=[".nii.gz", ".nrrd"], help="of the labels that are saved"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        client = connect(arguments.server, arguments.token, folder)
        info = client.info()
        print(f"{info['name']} {info['version']}: {info['datastore']}")
        params = default_params(info["models"][MODEL]["config"])
        image, volume = "", None
        for _ in range(arguments.labels):
            sample = client.next_sample(arguments.strategy, {})
            image = sample["id"]
            volume = sitk.ReadImage(sample["path"])
            truth = truth_of(arguments.truth, image, volume)
            like = sitk.JoinSeries(sitk.Image(volume.GetSize()[:2], sitk.sitkUInt8))
            saved = save_label(client, image, truth, like, arguments.suffix)
            print(f"{image}: {sample['reason']}; saved as {saved['label']}")
        chosen = default_params(info["trainers"][MODEL]["config"])
        if arguments.max_epochs:
            chosen["max_epochs"] = arguments.max_epochs
        stats = train(client, chosen)
        print(f"trained in {stats['total_time']}, validation Dice {stats['best_metric']}, weights {stats['weights']}")
        mask, facts = infer(client, image, params)
        check_geometry(mask, volume)
        agreement = dice(sitk.GetArrayFromImage(mask), truth_of(arguments.truth, image, volume))
        print(json.dumps({"image": image, "weights": facts["weights"], "dice_on_a_trained_label": round(agreement, 3)}))
        if facts["weights"] != stats["weights"]:
            sys.exit(f"inference used {facts['weights']}, not the new weights {stats['weights']}")


if __name__ == "__main__":
    main()
