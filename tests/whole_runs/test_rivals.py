"""Rival networks of the benchmarks through the bundle's own loop: one step and an evaluation each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_run import config_file
from label_axes import NETWORKS, RIVALS, SAME_ENCODER
from rivals import IMAGENET_MEAN, Rival, RivalInTwo, basic_unet_plus_plus, flexible_unet, smp_network, smp_on_backbone

from scripts.networks import CheckpointError, LESSNet

ALL = {**RIVALS, **SAME_ENCODER}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("method", ["train_supervised", "weak_to_strong"])
def test_one_step_and_its_figures(
    name: str, method: str, run_config: Any, tiny: dict[str, Any], frames_dir: Path, tmp_path: Path
) -> None:
    if name.startswith("smp_"):
        pytest.importorskip("segmentation_models_pytorch", reason="the optional extra 'rivals' is not installed")
    layer = str(Path("..", config_file(name))).removesuffix(".json")  # from configs/
    few = tiny | {"max_epochs": 1, "iterations_per_epoch": 1, "label_fraction": 0.5}
    places = {"dataset_dir": str(frames_dir), "output_dir": str(tmp_path), "run_name": "rival"}
    if method == "weak_to_strong" and not NETWORKS[name].in_two:
        with pytest.raises(
            ValueError, match="Rival has no encode and decode: train it with --objective supervised, mean_teacher"
        ):
            run_config("train", method, layer, **few, **places)
        run_config("train", "mean_teacher", layer, **few, **places)
    else:
        run_config("train", method, layer, **few, **places)
    figures = json.loads((tmp_path / "rival" / "test_metrics.json").read_text())["best"]["figures"]
    assert 0 <= figures["dice"]["value"] <= 1
    report = json.loads((tmp_path / "rival" / "environment.json").read_text())["encoder_weights"]
    assert (report["used"], report["substituted"]) == ("random", False)


def built(name: str) -> Rival:
    if name.startswith("smp_"):
        pytest.importorskip("segmentation_models_pytorch", reason="the optional extra 'rivals' is not installed")
        architecture = "UnetPlusPlus" if "plus_plus" in name else "Unet"
        if name in SAME_ENCODER:
            return smp_on_backbone(architecture, "mobilenetv2_100", "none").eval()
        return smp_network(architecture, "resnet34").eval()
    if name == "basic_unet_plus_plus":
        return basic_unet_plus_plus([8, 8, 16, 32, 64, 8]).eval()
    return flexible_unet(f"efficientnet-{name[-2:]}").eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_logits_have_the_size_of_the_picture_and_see_it_normalised(name: str) -> None:
    network, seen = built(name), []
    mean = network.normalize.mean.flatten().tolist()
    if name in RIVALS:
        assert mean == pytest.approx(IMAGENET_MEAN)
    image = torch.tensor(mean).view(1, 3, 1, 1).expand(2, 3, 64, 96)
    first = network.network.encoder if isinstance(network, RivalInTwo) else network.network
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert network(image).shape == (2, 2, 64, 96)
    assert seen[0].abs().max() < 1e-6, "the mean of its weights is 0 for the network"


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in ALL if NETWORKS[name].in_two])
def test_cut_in_two_it_is_the_library_s_network(name: str) -> None:
    torch.manual_seed(0)
    network, image = built(name), torch.rand(2, 3, 64, 64)
    maps = network.encode(image)
    assert all(one.shape[2] < 64 for one in maps), "the picture itself is none of the maps"
    assert torch.equal(network.decode(maps, (64, 64)), network.network(network.normalize(image)))
    dropped = network.decode([one * 0 for one in maps], (64, 64))
    assert not torch.equal(dropped, network.decode(maps, (64, 64))), "what is done to the maps is seen"


def test_a_start_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(CheckpointError, match="takes 'none' .* or 'imagenet'"):
        flexible_unet("efficientnet-b0", encoder_weights="auto")
    with pytest.raises(CheckpointError, match="there are none for BasicUNetPlusPlus"):
        basic_unet_plus_plus([8, 8, 16, 32, 64, 8], encoder_weights="imagenet")


@torch.no_grad()
def test_a_rival_on_lite_s_encoder_starts_from_the_same_file_and_sees_the_same_maps(tmp_path: Path) -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="the optional extra 'rivals' is not installed")
    torch.manual_seed(0)
    lite = LESSNet(preset="lite", out_channels=2, encoder_weights="none")
    file = tmp_path / "encoder.pt"
    torch.save(lite.encoder.body.state_dict(), file)
    rival = smp_on_backbone("Unet", "mobilenetv2_100", str(file)).eval()
    lite = LESSNet(preset="lite", out_channels=2, encoder_weights=str(file)).eval()
    image = torch.rand(1, 3, 64, 96)
    ours, theirs = lite.encoder(lite.normalize(image)), rival.encode(image)
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)  # one is in channels_last
    assert rival.encoder_weights_report["used"] == str(file)
    with pytest.raises(CheckpointError, match="neither 'auto', 'imagenet', 'none' nor a path"):
        smp_on_backbone("Unet", "mobilenetv2_100", "best")
