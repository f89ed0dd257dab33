"""What the zoo's checks find in a bundle that was spoilt."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packages import edit, spoil_metadata, state

from scripts.package import zoo_checks
from scripts.package.zoo_checks import ZooChecks


def checks_of(package: Path, scratch: Path, content: Any = None) -> ZooChecks:
    """The zoo's checks in this process, on a spoilt copy with weights that fit, or with ``content``."""
    (package / "models").mkdir()
    torch.save(state() if content is None else content, package / "models" / "model.pt")
    scratch.mkdir()
    return ZooChecks(package, scratch)


def test_other_channels_than_declared_are_found(bundle: Path, tmp_path: Path) -> None:
    pred = "network_data_format#outputs#pred#"
    spoil_metadata(**{f"{pred}num_channels": 3, f"{pred}channel_def#2": "vessel"})(bundle)
    with pytest.raises(ValueError, match="output channel number `2` doesn't match: `3`"):
        checks_of(bundle, tmp_path / "work").shapes()


def test_weights_under_a_key_are_found(bundle: Path, tmp_path: Path) -> None:
    """The zoo names no key: MONAI's load takes such a file in silence and leaves the network random."""
    checks = checks_of(bundle, tmp_path / "work", {"model": state()})
    with pytest.raises(RuntimeError, match="Missing key"):
        checks.torchscript()
    with pytest.raises(KeyError):
        checks.loading()


def test_a_torchscript_that_differs_is_found(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = checks_of(bundle, tmp_path / "work")
    monkeypatch.setattr(zoo_checks, "TOLERANCE", -1.0)  # no difference is that small
    with pytest.raises(ValueError, match="logits of the TorchScript differ"):
        checks.torchscript()


@pytest.mark.parametrize(
    ("layers", "spoil", "message"),
    [
        (("train", "train"), lambda config: config["train"].pop("inferer"), "train::inferer"),
        (("inference", "inference"), lambda config: config.pop("inferer"), "inferer"),
        (("train", "train", "evaluate"), lambda config: config.update({"train#inferer": "@nothing"}), "nothing"),
    ],
)
def test_missing_properties_are_found(
    layers: tuple[str, ...], spoil: Callable[[dict[str, Any]], Any], message: str, bundle: Path, tmp_path: Path
) -> None:
    file = bundle / "configs" / f"{layers[-1]}.json"
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))
    with pytest.raises(Exception, match=message):
        checks_of(bundle, tmp_path / "work").properties(*layers)


def test_a_network_that_cannot_be_made_is_reported(bundle: Path, tmp_path: Path) -> None:
    edit(bundle / "configs" / "inference.json", **{"network_def#_target_": "scripts.networks.NoSuchNetwork"})
    lines = io.StringIO()
    (tmp_path / "work").mkdir()
    zoo_checks.run_checks(bundle, tmp_path / "work", lines)
    (line,) = lines.getvalue().splitlines()
    assert line.startswith("failed network_def: ") and "NoSuchNetwork" in line
