"""The commands that a report offers run as they stand, for a network that a layer has put in LESSNet's place too."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import fire
import monai.bundle
import pytest

from scripts.reports.commands import next_commands
from scripts.reports.run_files import read_run

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def test_masks_and_evaluation_of_a_unet(
    run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {name: value for name, value in tiny.items() if not name.startswith(("network_def", "encoder_weights"))}
    settings |= {"max_epochs": 1, "network_def#num_res_units": 1, "dataset_dir": str(frames_dir)}
    run_config("train", "train_supervised", "unet", **settings, output_dir=str(tmp_path), run_name="u")
    run = tmp_path / "u"
    # Here it was no command line that started the run.
    environment = json.loads((run / "environment.json").read_text())
    files = ["configs/train.json", "configs/train_supervised.json", "configs/unet.json"]
    environment["command"] = shlex.join(["python", "-m", "monai.bundle", "run", "--config_file", str(files)])
    (run / "environment.json").write_text(json.dumps(environment))
    masks, again, _, _ = (shlex.split(command.text) for command in next_commands(read_run(run)))
    first = json.loads((run / "test_metrics.json").read_text())

    monkeypatch.chdir(BUNDLE)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    places = {"FOLDER_WITH_IMAGES": str(frames_dir / "unlabeled"), "FOLDER_FOR_MASKS": str(tmp_path / "masks")}
    for words in (masks, again):
        words = [places.get(word, word) for word in words[3:]]  # without "python -m monai.bundle"
        fire.Fire({"run": monai.bundle.run}, command=[*words, "--logging_file", "False"])
    assert len(list((tmp_path / "masks" / "masks").glob("*.png"))) == 6
    second = json.loads((tmp_path / "evaluation_u" / "test_metrics.json").read_text())
    assert second["best"]["figures"] == first["best"]["figures"]
