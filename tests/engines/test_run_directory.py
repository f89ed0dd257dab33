"""A run's folder: proved writable, continued only by the same run, its environment written down."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import CPU, make_network

from scripts.engines.run_directory import ResumeError, RunDirectory, flatten
from scripts.io.atomic import PARTIAL
from scripts.io.writers import OutputError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIG: dict[str, Any] = {
    "learning_rate": 0.002,
    "max_epochs": 2,
    "output_dir": "runs",
    "network_def": {"_target_": "scripts.networks.LESSNet", "dropout": 0.1},
    "split": [0.7, 0.1, 0.2],
}


def start(folder: Path, config: dict[str, Any], **options: Any) -> RunDirectory:
    """Begin a run as the config does, to the first checkpoint."""
    run = RunDirectory(folder, config, **options)
    run.write_environment(make_network(), CPU)
    torch.save({}, run.last_checkpoint)
    return run


def test_flatten_names_leaves_as_monai_does() -> None:
    assert flatten({"a": {"b": [1, {"c": 2}]}, "d": None}) == {"a#b#0": 1, "a#b#1#c": 2, "d": None}


def test_nothing_is_left_of_a_run_that_did_not_start(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", CONFIG)
    assert not run.path.exists() and not run.resuming


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    RunDirectory(tmp_path, CONFIG)
    assert tmp_path.is_dir() and not list(tmp_path.iterdir()), "and the probe is gone"


def test_the_same_run_is_continued(tmp_path: Path) -> None:
    assert not start(tmp_path, CONFIG).resuming
    run = RunDirectory(tmp_path, json.loads(json.dumps(CONFIG)))
    assert run.resuming


@pytest.mark.parametrize(
    "free",
    [{"max_epochs": 9}, {"output_dir": "/elsewhere"}, {"device": "cuda:1"}, {"num_workers": 4}, {"resume": True}],
)
def test_some_settings_may_change(tmp_path: Path, free: dict[str, Any]) -> None:
    start(tmp_path, CONFIG)
    assert RunDirectory(tmp_path, CONFIG | free).resuming


def test_a_run_may_be_moved(tmp_path: Path) -> None:
    """What follows from output_dir is as free as output_dir."""
    start(tmp_path / "a" / "run", CONFIG | {"run_dir": "a/run", "sample_dir": "a/sample_set"})
    (tmp_path / "a").rename(tmp_path / "b")
    moved = CONFIG | {"output_dir": "b", "run_dir": "b/run", "sample_dir": "b/sample_set"}
    assert RunDirectory(tmp_path / "b" / "run", moved).resuming


def test_other_settings_are_listed(tmp_path: Path) -> None:
    start(tmp_path, CONFIG)
    other = CONFIG | {"learning_rate": 0.1, "network_def": CONFIG["network_def"] | {"dropout": 0.5}, "seed": 3}
    with pytest.raises(ResumeError) as caught:
        RunDirectory(tmp_path, other)
    message = str(caught.value)
    for part in ("learning_rate: 0.002 -> 0.1", "network_def#dropout: 0.1 -> 0.5", "seed: None -> 3", "--run_name"):
        assert part in message
    assert "max_epochs" not in message
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG, "the kept run is as it was"


def test_a_run_may_be_made_longer_but_not_shorter(tmp_path: Path) -> None:
    start(tmp_path, CONFIG | {"max_epochs": 4})
    (tmp_path / "metrics.csv").write_text("epoch,seconds\n1,2.0\n2,3.0\n")
    for epochs in (2, 4, 8):
        assert RunDirectory(tmp_path, CONFIG | {"max_epochs": epochs}).resuming
    with pytest.raises(ResumeError, match="has trained 2 epochs, and max_epochs is 1.*--run_name"):
        RunDirectory(tmp_path, CONFIG | {"max_epochs": 1})


def test_a_run_in_the_place_of_a_new_one_is_refused(tmp_path: Path) -> None:
    start(tmp_path, CONFIG)
    with pytest.raises(ResumeError, match="already holds a run.*--run_name"):
        RunDirectory(tmp_path, CONFIG, resume=False)
    assert not start(tmp_path / "new", CONFIG, resume=False).resuming


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(OutputError, match="runs/mine.*give another output_dir"):
        RunDirectory(tmp_path / "runs" / "mine", CONFIG)
    assert (tmp_path / "runs").read_text() == "not a folder"


def test_a_place_that_cannot_be_written() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a folder that nobody may write, /proc")
    with pytest.raises(OutputError, match="/proc/runs.*cannot write"):
        RunDirectory("/proc/runs/mine", CONFIG)


def test_environment_says_what_was_used(tmp_path: Path) -> None:
    network = make_network()
    network.encoder_weights_report = {
        "requested": "auto", "used": "random", "substituted": True, "message": "THE ENCODER STARTS FROM RANDOM NUMBERS",
    }  # fmt: skip
    RunDirectory(tmp_path, CONFIG).write_environment(network, CPU, ["bf16 -> fp32"])
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    found = json.loads((tmp_path / "environment.json").read_text())
    assert set(found) == {
        "versions", "machine", "device", "encoder_weights", "substitutions", "command", "started", "seconds",
    }  # fmt: skip
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert "not installed" not in found["versions"].values()
    assert found["machine"]["cores"] >= 1 and found["machine"]["processor"] and found["machine"]["gpu"] is None
    assert found["machine"]["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert found["device"] == "cpu"
    assert found["encoder_weights"] == network.encoder_weights_report
    assert found["substitutions"] == ["bf16 -> fp32", "THE ENCODER STARTS FROM RANDOM NUMBERS"]
    assert found["command"].startswith("python -m monai.bundle")
    assert datetime.fromisoformat(found["started"]).tzinfo is not None and found["seconds"] >= 0


def test_config_with_objects_is_written_as_text(tmp_path: Path) -> None:
    start(tmp_path, CONFIG | {"device": CPU})
    assert json.loads((tmp_path / "config.json").read_text())["device"] == "cpu"
    assert RunDirectory(tmp_path, CONFIG | {"device": CPU}).resuming


def manifest(*files: tuple[str, str], **more: Any) -> str:
    return json.dumps({"files": [{"section": "training", "file": name, "sha256": sha, **more} for name, sha in files]})


def test_a_run_goes_on_with_the_same_data_alone(tmp_path: Path) -> None:
    start(tmp_path, CONFIG)
    (tmp_path / "manifest.json").write_text(manifest(("a.png", "1"), ("b.png", "2")))
    run = RunDirectory(tmp_path, CONFIG)
    (tmp_path / "manifest.json").write_text(manifest(("b.png", "2"), ("a.png", "1")))
    run.write_environment(make_network(), CPU)  # the order does not matter

    run = RunDirectory(tmp_path, CONFIG)
    (tmp_path / "manifest.json").write_text(manifest(("a.png", "1"), ("b.png", "3")))
    with pytest.raises(ResumeError, match=r"1 files, \['b.png'\] among them\. Give another --run_name"):
        run.write_environment(make_network(), CPU)
    assert "3" not in (tmp_path / "manifest.json").read_text(), "the manifest of the run is kept"


@pytest.mark.parametrize("name", ["label_sha256", "pseudo_label_sha256", "weight", "severity"])
def test_a_run_goes_on_with_the_same_masks_weights_and_grades_alone(tmp_path: Path, name: str) -> None:
    start(tmp_path, CONFIG)
    (tmp_path / "manifest.json").write_text(manifest(("a.png", "1"), **{name: 0.5}))
    run = RunDirectory(tmp_path, CONFIG)
    (tmp_path / "manifest.json").write_text(manifest(("a.png", "1"), **{name: 0.6}))
    with pytest.raises(ResumeError, match="The data have changed"):
        run.write_environment(make_network(), CPU)


HOLDER = """
import sys, torch
from scripts.engines.run_directory import RunDirectory
run = RunDirectory(sys.argv[1], {})
run.write_environment(torch.nn.Conv2d(1, 1, 1), torch.device("cpu"))
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused, leaves the first's files alone, and may go on once that one is gone."""
    monkeypatch.setattr("scripts.engines.run_directory.LOCK_WAIT_S", 0.2)
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    first = subprocess.Popen(command, cwd=BUNDLE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        partial = folder / f"{PARTIAL}last.pt"
        partial.write_text("half")
        with pytest.raises(ResumeError, match="another process is training in this folder. Wait for it, or give"):
            start(folder, CONFIG)
        assert partial.is_file() and json.loads((folder / "config.json").read_text()) == {}
    finally:
        first.communicate("")
    assert first.returncode == 0
    start(folder, CONFIG)
    start(folder, CONFIG)  # one process may begin again what it has stopped, and clears what was left half written
    assert not partial.exists()


def test_a_run_that_was_trained_meanwhile_is_not_begun_over_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, CONFIG)
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(ResumeError, match="another process has trained in this folder since this one began"):
        run.write_environment(make_network(), CPU)


def test_a_run_is_named_after_its_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scripts.engines.run_directory import default_run_name

    monkeypatch.delenv("MONAI_LABEL_STUDIES", raising=False)
    assert default_run_name("/data/polyps/", "less_net", 0.1, 3) == "polyps_less_net_labels0.1_seed3"
    assert default_run_name("lists/v1.json", "supervised", 1.0, 0) == "v1_supervised_labels1_seed0"
    assert default_run_name("", "supervised", 1.0, 0) == "sample_supervised_labels1_seed0"
    (tmp_path / "frames").mkdir()
    monkeypatch.setenv("MONAI_LABEL_STUDIES", str(tmp_path / "frames"))
    assert default_run_name("", "supervised", 1.0, 0).startswith("frames_supervised_labels1_seed0_20")
    assert default_run_name("/data/polyps", "supervised", 1.0, 0) == "polyps_supervised_labels1_seed0"


def test_a_run_that_is_continued_keeps_what_it_began_from(tmp_path: Path) -> None:
    network = make_network()
    network.encoder_weights_report = {"used": "timm/mobilenetv2_100", "substituted": False, "message": "from the hub"}
    run = RunDirectory(tmp_path, CONFIG)
    run.write_environment(network, CPU, ["bf16 -> fp32"])
    torch.save({}, run.last_checkpoint)
    network.encoder_weights_report = {"used": "random", "substituted": True, "message": "no hub"}
    for _ in range(2):
        RunDirectory(tmp_path, CONFIG).write_environment(network, CPU)
        environment = json.loads((tmp_path / "environment.json").read_text())
        assert environment["encoder_weights"]["used"] == "timm/mobilenetv2_100"
        assert environment["substitutions"] == ["bf16 -> fp32"]
