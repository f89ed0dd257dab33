"""The report of a pretraining: nothing is called missing, and it says how to go on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from scripts.reports import write_report
from scripts.reports.commands import next_commands
from scripts.reports.run_files import read_run

LAYERS = "['configs/train.json','configs/pretrain_{kind}.json','configs/unet.json']"
COMMAND = f'python -m monai.bundle run --config_file "{LAYERS}"'


def write_run(run: Path, objective: str, kind: str) -> Path:
    run.mkdir()
    trainer = {"_target_": "scripts.engines.contrastive_trainer.ContrastiveTrainer"}
    config = {"objective": objective, "train": {"trainer": trainer}, "seed": 3, "label_fraction": 0.1, "max_epochs": 2}
    (run / "config.json").write_text(json.dumps(config | {"network_def": {"_target_": "UNet", "num_res_units": 2}}))
    (run / "environment.json").write_text(json.dumps({"command": COMMAND.format(kind=kind)}))
    (run / "manifest.json").write_text(json.dumps({"files": [], "counts": {}}))
    (run / "metrics.csv").write_text("epoch,loss,lr,view_similarity\n1,6.2,0.001,0.5\n2,5.1,0.0005,0.75\n")
    return run


@pytest.mark.parametrize(
    ("objective", "kind", "said"),
    [("global_contrast", "global", "no label was read"), ("local_contrast", "local_contrastive", "tell the classes")],
)
def test_it_tells_what_it_is_and_misses_nothing(tmp_path: Path, objective: str, kind: str, said: str) -> None:
    run = write_run(tmp_path / "run", objective, kind)
    page = write_report(run).read_text(encoding="utf-8")
    assert said in page and "not a model that segments" in page
    assert 'class="absent"' not in page and "#figures" not in page and "test split" not in page
    assert "Similarity of the two views" in page
    assert "data:image/png" not in page, "no picture of embeddings was made"


def test_the_picture_of_the_embeddings_is_in_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "local_contrast", "local_contrastive")
    (run / "figures").mkdir()
    Image.new("RGB", (8, 8)).save(run / "figures" / "embedding.png")
    assert "data:image/png;base64," in write_report(run).read_text(encoding="utf-8")


def test_the_next_step_is_the_training_that_starts_from_it(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "local_contrast", "local_contrastive")
    words = shlex.split(next_commands(read_run(run))[0].text)
    files = words[words.index("--config_file") + 1]
    assert [name in files for name in ("train.json", "train_supervised.json", "unet.json", "pretrain")] == [
        *(True, True, True),
        False,
    ]
    given = dict(zip(words[6::2], words[7::2], strict=True))
    assert given["--init_checkpoint"] == str(run / "model.pt") and given["--seed"] == "3"
    assert given["--network_def::num_res_units"] == "2" and "--checkpoint" not in given


@pytest.mark.parametrize(
    "trainer", ["contrastive_trainer.ContrastiveTrainer", "distillation_trainer.DistillationTrainer"]
)
@pytest.mark.parametrize("stable", [True, False])
def test_the_next_step_divides_frames_as_the_run_did(tmp_path: Path, trainer: str, stable: bool) -> None:
    """Another split would hold out frames that were learnt from, in silence."""
    run = write_run(tmp_path / "run", "local_contrast", "local_contrastive")
    config = json.loads((run / "config.json").read_text()) | {"stable_split": stable, "split": [0.6, 0.2, 0.2]}
    config["train"]["trainer"]["_target_"] = f"scripts.engines.{trainer}"
    (run / "config.json").write_text(json.dumps(config))
    words = shlex.split(next_commands(read_run(run))[0].text)
    given = dict(zip(words[6::2], words[7::2], strict=True))
    assert given.get("--stable_split") == ("True" if stable else None) and given["--split"] == "[0.6,0.2,0.2]"


def test_the_next_step_knows_the_classes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "local_contrast", "local_contrastive")
    config = json.loads((run / "config.json").read_text())
    config |= {"value_map": {"0": 0, "1": 1}, "classes": ["background", "tumour"]}
    (run / "config.json").write_text(json.dumps(config))
    words = shlex.split(next_commands(read_run(run))[0].text)
    assert words[words.index("--classes") + 1] == "['background', 'tumour']"


def test_without_any_table_of_figures_another_run_is_told_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "supervised", "global")
    config = json.loads((run / "config.json").read_text())
    config["train"]["trainer"]["_target_"] = "scripts.engines.trainer.SemiSupervisedTrainer"
    (run / "config.json").write_text(json.dumps(config))
    assert 'class="absent"' in write_report(run).read_text(encoding="utf-8")


def test_a_distillation_says_from_whom(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "distillation", "global")
    config = json.loads((run / "config.json").read_text())
    config["train"]["trainer"]["_target_"] = "scripts.engines.distillation_trainer.DistillationTrainer"
    config |= {"backbone": "mobilevit_xs", "teacher_backbone": "mobilenetv2_100", "teacher_weights": "w.safetensors"}
    (run / "config.json").write_text(json.dumps(config))
    (run / "metrics.csv").write_text(
        "epoch,loss,lr,loss_features,loss_logits,val_feature_similarity\n1,3.9,0.001,0.9,3,0.1\n2,3,0.0005,0.8,2.2,0.2\n"
    )
    page = write_report(run).read_text(encoding="utf-8")
    assert "the encoder mobilevit_xs learned to see frames as mobilenetv2_100 (w.safetensors) does" in page
    assert "Agreement with the teacher" in page and 'class="absent"' not in page and "#figures" not in page
    words = shlex.split(next_commands(read_run(run))[0].text)
    given = dict(zip(words[6::2], words[7::2], strict=True))
    assert given["--encoder_weights"] == str(run / "model.pt") and "--init_checkpoint" not in given
    assert given["--network_def::preset"] == "lite_mobilevit_xs" and given["--seed"] == "3"
