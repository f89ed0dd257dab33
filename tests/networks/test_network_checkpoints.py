"""Whole networks out of files: what is found, what is refused, nothing half loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scripts.networks import CheckpointError, LESSNet, load_weights
from scripts.networks.backends import backend_file
from scripts.networks.checkpoints import ready_network


def network(width: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, width, 1), nn.BatchNorm2d(width))


def equal(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    "wrap, key, found",
    [
        (lambda state: state, None, ""),
        (lambda state: {"network": state, "epoch": 3}, None, "network"),
        (lambda state: {"state_dict": state}, None, "state_dict"),
        (lambda state: {"network": network(seed=5).state_dict(), "teacher": state}, "teacher", "teacher"),
        (lambda state: {f"module.{name}": value for name, value in state.items()}, None, ""),
    ],
    ids=["plain", "run", "state_dict", "teacher", "distributed"],
)
def test_forms_of_checkpoints(tmp_path, wrap, key, found):
    source, target = network(seed=1), network(seed=2)
    torch.save(wrap(source.state_dict()), tmp_path / "model.pt")
    assert not equal(source, target)
    answer = load_weights(target, tmp_path / "model.pt", key)
    assert answer == {"file": str(tmp_path / "model.pt"), "key": found, "tensors": 7}
    assert equal(source, target)


def test_safetensors(tmp_path):
    source, target = network(seed=1), network(seed=2)
    save_file(source.state_dict(), str(tmp_path / "model.safetensors"))
    load_weights(target, tmp_path / "model.safetensors")
    assert equal(source, target)


@pytest.mark.parametrize(
    "content, key, message",
    [
        (
            network(width=4).state_dict(),
            None,
            r"0\.weight has shape \(4, 2, 1, 1\), the network expects \(3, 2, 1, 1\)",
        ),
        ({"0.weight": torch.zeros(3, 2, 1, 1)}, None, r"6 tensors missing \['0\.bias'"),
        ({**network().state_dict(), "2.bias": torch.zeros(1)}, None, r"1 unexpected \['2\.bias'\]"),
        ({"epoch": 3}, None, "holds no state dict"),
        ({"network": {"epoch": 3}}, None, "holds no state dict of tensors under 'network'"),
        ({"network": network().state_dict()}, "teacher", r"no key 'teacher'; it has \['network'\]"),
        ([1, 2], None, "holds a list"),
    ],
)
def test_wrong_content_is_refused_and_the_network_left_alone(tmp_path, content, key, message):
    target, before = network(seed=2), network(seed=2)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_weights(target, tmp_path / "model.pt", key)
    assert "model.pt" in str(caught.value)
    assert equal(target, before)


def test_truncated_file_is_refused(tmp_path):
    torch.save(network().state_dict(), tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.pt cannot be read"):
        load_weights(network(), tmp_path / "model.pt")


def test_a_network_from_a_checkpoint_is_not_trained_as_a_random_one(tmp_path: Path) -> None:
    """It goes on with the encoder's slow learning rate: its encoder knows something already."""
    from scripts.engines.schedules import parameter_groups
    from scripts.networks.checkpoints import ready_network

    def rates(network: LESSNet) -> set[float]:
        encoder = {id(parameter) for parameter in network.encoder.parameters()}
        groups = parameter_groups(network, 1.0)
        return {group["lr"] for group in groups if id(group["params"][0]) in encoder}

    network = LESSNet(preset="lite", encoder_weights="none")
    torch.save({"model": network.state_dict()}, tmp_path / "model.pt")
    assert rates(ready_network(network, "cpu")) == {1.0}
    assert network.encoder_weights_report["used"] == "random"
    ready_network(network, "cpu", tmp_path / "model.pt")
    assert rates(network) == {0.3}
    assert network.encoder_weights_report["used"] == str(tmp_path / "model.pt")


def test_every_network_says_what_it_starts_from(tmp_path: Path) -> None:
    from scripts.networks.checkpoints import ready_network

    made = ready_network(network(), "cpu")
    report = made.encoder_weights_report
    assert (report["requested"], report["used"], report["substituted"]) == ("auto", "random", False)
    assert report["message"].startswith("Sequential starts from random numbers")
    torch.save(network(seed=1).state_dict(), tmp_path / "model.pt")
    made = ready_network(network(), "cpu", tmp_path / "model.pt")
    assert made.encoder_weights_report["used"] == str(tmp_path / "model.pt")
    digest = hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    assert made.encoder_weights_report["sha256"] == digest
    with pytest.raises(CheckpointError, match="encoder_weights is 'imagenet' and Sequential has no encoder"):
        ready_network(network(), "cpu", encoder_weights="imagenet")


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    from scripts.networks.checkpoints import ready_network

    torch.save({"model": network(width=2).state_dict()}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"0.weight has shape \(2, 2, 1, 1\), the network expects \(3, 2, 1, 1\)"):
        ready_network(network(width=3), "cpu", tmp_path / "model.pt")


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    network = torch.nn.Conv2d(3, 2, 1)
    torch.save(network.state_dict(), tmp_path / "x.pt")
    report = ready_network(torch.nn.Conv2d(3, 2, 1), "cpu", "~/x.pt").encoder_weights_report
    assert len(report["sha256"]) == 64
    (tmp_path / "x.onnx").write_bytes(b"x")
    assert backend_file("~/x.pt", "onnx") == tmp_path / "x.onnx"
