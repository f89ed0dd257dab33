"""Objectives by the names used in configs, and each of them on the real network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import scripts.losses
from scripts.losses import OBJECTIVES, Objective, build_objective
from scripts.networks import LESSNet

NAMES = [name for name in OBJECTIVES if name != "supervised"]


@pytest.fixture(scope="module")
def network() -> LESSNet:
    torch.manual_seed(0)
    return LESSNet("lite", encoder_weights="none")


def test_names() -> None:
    assert set(OBJECTIVES) == {
        *("supervised", "less_net", "less_net_published", "mean_teacher", "weak_to_strong", "pseudo_labels"),
    }
    for name in NAMES:
        assert isinstance(build_objective(name), Objective) and type(build_objective(name)) is OBJECTIVES[name]
        assert (Path(scripts.losses.__file__).parent / f"{name}.py").is_file(), "one objective a file, of its name"


def test_supervised_is_none() -> None:
    assert build_objective("supervised") is None


def test_options_reach_the_objective() -> None:
    objective = build_objective("weak_to_strong", {"threshold": 0.7, "strong_views": 1})
    assert objective.weighting.threshold == 0.7 and objective.strong_views == 1
    assert build_objective("less_net", {"margin": 0.1}).margin == 0.1


@pytest.mark.parametrize("name", ["less_net", "mean_teacher", "weak_to_strong"])
def test_no_view_mirrors_where_left_and_right_differ(name: str, frames: Tensor) -> None:
    def mirrors(objective: Objective) -> bool:
        return any("Flip" in type(part).__name__ for part in objective.modules())

    assert mirrors(build_objective(name)) and not mirrors(build_objective(name, flips=False))
    assert mirrors(build_objective(name, {"flips": True}, flips=False)), "what is given goes before"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("meanteacher", "mean_teacher"),
        ("lessnet", "less_net"),
        ("weak_strong", "weak_to_strong"),
        ("superv", "supervised"),
    ],
)
def test_unknown_name_gets_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"objective '{name}' is unknown; did you mean '{nearest}'.*weak_to_strong"):
        build_objective(name)


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_the_real_network(name: str, network: LESSNet, frames: Tensor) -> None:
    network.train().zero_grad()
    options = {"weak_to_strong": {"threshold": 0.5}, "less_net": {"space": "features"}}.get(name)
    objective = build_objective(name, options)
    teacher = LESSNet("lite", encoder_weights="none").eval() if objective.needs_teacher else None
    told = {"pseudo_label": (frames[:, :1] > 0.5).byte(), "weight": torch.linspace(0.5, 1, len(frames))}
    output = objective(network, teacher, frames, **(told if objective.needs_pseudo_labels else {}))
    assert output.loss.ndim == 0 and output.loss.isfinite() and output.loss > 0
    for share in (output.lesion_share, output.confident_share):
        assert share.ndim == 0 and 0 <= float(share) <= 1 and not share.requires_grad
    assert all(not term.requires_grad for term in output.terms.values())
    output.loss.backward()
    found = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert found and all(gradient.isfinite().all() for gradient in found)
    assert any(gradient.abs().sum() > 0 for gradient in found)
    assert teacher is None or all(parameter.grad is None for parameter in teacher.parameters())


def test_softmatch_has_moments_for_each_class(frames: Tensor) -> None:
    objective = build_objective("weak_to_strong", {"weighting": "softmatch"}, classes=3)
    network = LESSNet("lite", encoder_weights="none", out_channels=3)
    with torch.no_grad():
        list(network.parameters())[-1].copy_(torch.tensor([0.0, 0.0, 9.0]))  # the last class everywhere
    assert objective(network, network.eval(), frames).loss.isfinite()
    assert objective.weighting.mean[2] != objective.weighting.mean[0]


def test_unknown_option_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="'weak_to_strong' has no option 'treshold'; did you mean 'threshold'"):
        build_objective("weak_to_strong", {"treshold": 0.9})
