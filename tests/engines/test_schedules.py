"""Ramp, learning rate and parameter groups against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from scripts.engines.schedules import SigmoidRampUp, parameter_groups, warmup_poly
from scripts.networks import ContrastNetwork, LESSNet


def test_ramp_by_hand() -> None:
    ramp = SigmoidRampUp(weight=2.0, start=10, length=4)
    assert [ramp(iteration) for iteration in (1, 9, 10)] == [0.0, 0.0, 0.0]
    # t = 1/4, 1/2, 3/4, 1 at iterations 11 to 14
    expected = [2 * math.exp(-5 * 0.5625), 2 * math.exp(-5 * 0.25), 2 * math.exp(-5 * 0.0625), 2.0]
    assert [ramp(iteration) for iteration in range(11, 15)] == pytest.approx(expected)
    assert ramp(10_000) == 2.0


def test_ramp_without_length_is_a_step() -> None:
    ramp = SigmoidRampUp(weight=3.0, start=5)
    assert (ramp(5), ramp(6)) == (0.0, 3.0)
    assert SigmoidRampUp()(1) == 1.0


@pytest.mark.parametrize("wrong", [{"start": -1}, {"length": -1}])
def test_ramp_refuses_negative_times(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        SigmoidRampUp(**wrong)


def rates(iterations: int, warmup: int, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = warmup_poly(optimizer, iterations, warmup)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_learning_rate_by_hand() -> None:
    found = rates(iterations=13, warmup=3, steps=15)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[8] == pytest.approx(0.5**0.9)
    assert found[12] == pytest.approx(0.1**0.9)
    assert found[13:] == [0.0, 0.0], "a run that is longer than planned stands still, it does not fail"


def test_learning_rate_without_warmup_and_with_too_much() -> None:
    assert rates(iterations=4, warmup=0, steps=2) == pytest.approx([1.0, 0.75**0.9])
    assert rates(iterations=2, warmup=4, steps=3) == pytest.approx([0.2, 0.4, 0.6])


@pytest.fixture(scope="module")
def network() -> LESSNet:
    return LESSNet(encoder_weights="none")


def test_every_parameter_is_in_exactly_one_group(network: LESSNet) -> None:
    groups = parameter_groups(network, 0.1, encoder_ratio=0.5, weight_decay=0.01)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in network.parameters())
    torch.optim.AdamW(groups, lr=0.1)  # which refuses a parameter in two groups
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(0.05 if id(parameter) in encoder else 0.1)
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize(("used", "ratio"), [("random", 1.0), ("timm/mobilenetv2_100", 0.3), ("weights.pt", 0.3)])
def test_automatic_ratio_follows_the_weights_really_used(network: LESSNet, used: str, ratio: float) -> None:
    kept = network.encoder_weights_report
    try:
        network.encoder_weights_report = kept | {"used": used}
        found = {group["lr"] for group in parameter_groups(network, 1.0)}
    finally:
        network.encoder_weights_report = kept
    assert found == {1.0, ratio}


def test_automatic_ratio_after_a_file(network: LESSNet, tmp_path: Path) -> None:
    """The path through a real file: its name, and not "random", is what the report says."""
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    started = LESSNet(encoder_weights=str(tmp_path / "weights.pt"))
    assert {group["lr"] for group in parameter_groups(started, 1.0)} == {1.0, 0.3}


def test_frozen_parameters_are_left_out(network: LESSNet) -> None:
    network.head.requires_grad_(False)
    try:
        listed = [id(parameter) for group in parameter_groups(network, 1.0) for parameter in group["params"]]
    finally:
        network.head.requires_grad_(True)
    assert id(network.head.weight) not in listed
    assert len(listed) == len(list(network.parameters())) - 2


def test_a_network_without_an_encoder_has_one_rate() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    groups = parameter_groups(network, 0.1, weight_decay=0.01)
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in groups] == [
        (0.1, 0.01, 2),
        (0.1, 0.0, 2),
    ]
    with pytest.raises(
        ValueError, match="encoder_learning_rate_ratio is 0.3 and Sequential has no part called encoder"
    ):
        parameter_groups(network, 0.1, encoder_ratio=0.3)


def test_the_head_has_a_rate_of_its_own(network: LESSNet) -> None:
    groups = parameter_groups(network, 0.01, encoder_ratio=0.5, weight_decay=0.1, head_ratio=10)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(network.parameters())) == sum(len(group["params"]) for group in groups)
    assert {rates[id(parameter)] for parameter in network.head.parameters()} == {0.1}
    assert {rates[id(parameter)] for parameter in network.encoder.parameters()} == {0.005}
    assert {rates[id(parameter)] for parameter in network.decoder.parameters()} == {0.01}
    assert groups[0]["lr"] == 0.1 and groups[-1]["lr"] == 0.01, "the log shows the last"


def test_the_head_of_a_network_that_is_pretrained() -> None:
    unet = BasicUNet(2, 3, 2, features=(4, 4, 4, 4, 4, 4))
    for network in (unet, ContrastNetwork(unet, "pixels", (4, 4))):
        (weight, bias) = (group for group in parameter_groups(network, 0.01, head_ratio=10) if group["lr"] == 0.1)
        assert [*weight["params"], *bias["params"]] == list(unet.final_conv.parameters())


def test_a_head_ratio_that_cannot_be_granted(network: LESSNet) -> None:
    with pytest.raises(ValueError, match="head_learning_rate_ratio is 0"):
        parameter_groups(network, 0.01, head_ratio=0)
    with pytest.raises(TypeError, match="Linear has no known maps and head"):
        parameter_groups(torch.nn.Linear(2, 2), 0.01, head_ratio=2)


def test_a_run_goes_on_with_the_rates_it_began_with(network: LESSNet) -> None:
    """The hub answered when it began and does not now, or the other way round."""
    kept, found = network.encoder_weights_report, {}
    for began, now in (("random", "timm/mobilenetv2_100"), ("timm/mobilenetv2_100", "random")):
        optimizers = []
        for used in (began, now):
            try:
                network.encoder_weights_report = kept | {"used": used}
                optimizer = torch.optim.AdamW(parameter_groups(network, 0.01, weight_decay=0.1))
            finally:
                network.encoder_weights_report = kept
            optimizers.append((optimizer, warmup_poly(optimizer, 100)))
        (first, schedule), (again, continued) = optimizers
        again.load_state_dict(first.state_dict())
        continued.load_state_dict(schedule.state_dict())
        again.step()
        continued.step()
        found[began] = {group["lr"] for group in again.param_groups}
    factor = 0.99**0.9
    assert list(found["random"]) == pytest.approx([0.01 * factor])
    assert sorted(found["timm/mobilenetv2_100"]) == pytest.approx([0.003 * factor, 0.01 * factor])


def _rate_of_this_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    network = nn.Module()
    network.encoder, network.head = nn.Linear(2, 2), nn.Linear(2, 2)
    network.encoder_weights_report = {"used": "random" if rank else "timm/mobilenetv2_100"}
    rates = sorted({group["lr"] for group in parameter_groups(network, 1.0)})
    Path(folder, f"{rank}.json").write_text(json.dumps(rates))
    torch.distributed.destroy_process_group()


def test_all_processes_have_the_rates_of_the_first(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_rate_of_this_process, (str(tmp_path),), nprocs=2, start_method="fork")
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [[0.3, 1.0], [0.3, 1.0]]
