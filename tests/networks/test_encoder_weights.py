"""Where the encoder starts from: hub, file, nothing; what is checked, reported and refused."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
import time

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from scripts.networks import CheckpointError, LESSNet
from scripts.networks.encoders import TimmEncoder
from scripts.networks.pretrained import _fetch_bounded
from scripts.networks.weights import load_encoder, start_encoder

UNPUBLISHED = "mobilenetv2_035"  # timm has the architecture and no weights for it


@pytest.fixture(scope="module")
def imagenet_file(shared_dir):
    return str(shared_dir / "weights" / "mobilenetv2_100.in1k.safetensors")


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    """State dict of a whole small timm model."""
    torch.manual_seed(1)
    return timm.create_model(UNPUBLISHED).state_dict()


def save(state: dict[str, torch.Tensor], path, metadata=None) -> str:
    save_file({name: value.contiguous() for name, value in state.items()}, str(path), metadata=metadata)
    return str(path)


def test_none_is_random_and_said_so():
    report = LESSNet(encoder_weights="none").encoder_weights_report
    assert (report["requested"], report["used"], report["substituted"]) == ("none", "random", False)
    assert json.loads(json.dumps(report)) == report


def test_auto_without_weights_warns_and_records(caplog):
    with caplog.at_level(logging.WARNING):
        report = LESSNet(backbone=UNPUBLISHED, encoder_weights="auto").encoder_weights_report
    assert (report["requested"], report["used"], report["substituted"]) == ("auto", "random", True)
    assert "RANDOM NUMBERS" in report["message"] and report["message"] in caplog.text


def test_imagenet_without_weights_fails_with_the_cure():
    with pytest.raises(CheckpointError, match=f"{UNPUBLISHED} cannot be had.*give the path"):
        LESSNet(backbone=UNPUBLISHED, encoder_weights="imagenet")


def test_a_hub_that_never_answers_is_left_in_time(monkeypatch):
    """A server that accepts and stays silent stands in the way of every connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        outcome = _fetch_bounded("tf_mobilenetv3_small_minimal_100", timeout=1.0)
        assert time.monotonic() - start < 3.0
    if not isinstance(outcome, str):
        pytest.skip("these weights are in the hub's cache on this machine")
    assert "no answer within 1 s" in outcome


def test_the_real_file_fills_the_encoder(imagenet_file):
    network = LESSNet(encoder_weights=imagenet_file)
    report = network.encoder_weights_report
    assert (report["used"], report["substituted"]) == (imagenet_file, False)
    assert "306 of 306 tensors, 8 of its head unused" in report["message"]
    state = network.encoder.body.state_dict()
    from safetensors import safe_open

    with safe_open(imagenet_file, framework="pt") as file:
        stem = file.get_tensor("conv_stem.weight")
    assert stem.dtype == torch.float16 and state["conv_stem.weight"].dtype == torch.float32
    assert torch.equal(state["conv_stem.weight"], stem.float())
    assert network.normalize.mean.flatten().tolist() == [0.5] * 3 == network.normalize.std.flatten().tolist()


@torch.no_grad()
def test_the_normalisation_of_the_real_file_fits_its_batch_norm(imagenet_file, shared_dir):
    """Evidence for mean .5, std .5: on real frames the stem's variances are near those stored in its batch norm.

    The other candidate, the ImageNet mean and std in timm's configuration, gives about five times the variance.
    """
    files = sorted((shared_dir / "data" / "kvasir_seg" / "images").iterdir())[:12]
    frames = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) / 255 for file in files]
    x = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()

    def misfit(**options) -> float:
        network = LESSNet(encoder_weights=imagenet_file, **options).eval()
        body = network.encoder.body
        variance = body.conv_stem(network.normalize(x)).var((0, 2, 3))
        alive = body.bn1.running_var > 1e-4
        return (variance[alive] / body.bn1.running_var[alive]).log().abs().median().item()

    config = timm.get_pretrained_cfg("mobilenetv2_100")
    assert misfit() < 0.4 < 1.0 < misfit(input_mean=config.mean, input_std=config.std)


def test_features_equal_timms_own(imagenet_file):
    """The whole way in: the same weights in timm's extractor, with timm's padding and a normalisation by hand."""
    torch.manual_seed(0)
    network = LESSNet(encoder_weights=imagenet_file).eval()
    reference = timm.create_model("mobilenetv2_100", features_only=True, pad_type="same").eval()
    reference.load_state_dict(network.encoder.body.state_dict())
    x = torch.rand(1, 3, 96, 64)
    for ours, theirs in zip(network.encode(x), reference((x - 0.5) / 0.5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backbone", ["mobilevit_xxs", "mobilevitv2_050", "repvit_m0_9"])
def test_whole_timm_models_fit_by_their_own_names(backbone, tmp_path):
    """timm's extractor renames stages.0 to stages_0; a file of the whole model still fills every tensor."""
    torch.manual_seed(2)
    whole = timm.create_model(backbone).eval()
    path = save(whole.state_dict(), tmp_path / "whole.safetensors")
    network = LESSNet(backbone=backbone, encoder_weights=path).eval()
    assert "unknown" not in network.encoder_weights_report["message"]
    x = torch.rand(1, 3, 64, 64)
    taps = whole.forward_intermediates((x - network.normalize.mean) / network.normalize.std, intermediates_only=True)
    torch.testing.assert_close(network.encode(x)[-2], taps[-2], rtol=1e-3, atol=1e-4)


def test_pytorch_files_and_runs_are_taken_too(tmp_path, small):
    torch.save(small, tmp_path / "plain.pt")
    first = LESSNet(backbone=UNPUBLISHED, encoder_weights=str(tmp_path / "plain.pt"), input_mean=[0.1, 0.2, 0.3])
    assert torch.equal(first.encoder.body.state_dict()["conv_stem.weight"], small["conv_stem.weight"])
    torch.save({"network": first.state_dict(), "epoch": 3}, tmp_path / "model.pt")
    second = LESSNet(backbone=UNPUBLISHED, encoder_weights=str(tmp_path / "model.pt"))
    digest = hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    assert second.encoder_weights_report["sha256"] == digest != first.encoder_weights_report["sha256"]
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[name]), name
    torch.testing.assert_close(second.normalize.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))  # goes with the weights


def test_metadata_states_the_normalisation(tmp_path, small):
    metadata = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]"}
    path = save(small, tmp_path / "stated.safetensors", metadata)
    network = LESSNet(backbone=UNPUBLISHED, encoder_weights=path)
    torch.testing.assert_close(network.normalize.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(network.normalize.std.flatten(), torch.tensor([0.4, 0.5, 0.6]))
    other = LESSNet(backbone=UNPUBLISHED, encoder_weights=save(small, tmp_path / "unstated.safetensors"))
    config = timm.get_pretrained_cfg(UNPUBLISHED)
    torch.testing.assert_close(other.normalize.mean.flatten(), torch.tensor(config.mean))


def test_grey_input_sums_the_colours_of_the_stem(tmp_path, small):
    path = save(small, tmp_path / "rgb.safetensors")
    network = LESSNet(backbone=UNPUBLISHED, encoder_weights=path, in_channels=1)
    stem = network.encoder.body.state_dict()["conv_stem.weight"]
    torch.testing.assert_close(stem, small["conv_stem.weight"].sum(1, keepdim=True))


def test_another_architecture_is_refused_by_tensor_and_shapes(imagenet_file):
    message = r"conv_stem.weight has shape \(32, 3, 3, 3\), the encoder expects \(16, 3, 3, 3\)"
    with pytest.raises(CheckpointError, match=message):
        LESSNet(backbone=UNPUBLISHED, encoder_weights=imagenet_file)


def test_too_few_tensors_are_refused_and_nothing_is_written(small):
    encoder = TimmEncoder(UNPUBLISHED)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    part = {name: value for name, value in small.items() if not name.startswith("blocks.3")}
    with pytest.raises(CheckpointError, match=r"blocks\.3\.\S+, expected with shape .* is absent and .* match"):
        load_encoder(encoder, part, "part.pt")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(CheckpointError, match="0 of"):
        load_encoder(encoder, {f"student.{name}": value for name, value in small.items()}, "renamed.pt")


def test_a_few_missing_tensors_are_named(small, caplog):
    part = {name: value for name, value in small.items() if name != "blocks.0.0.bn1.bias"}
    with caplog.at_level(logging.WARNING):
        message = load_encoder(TimmEncoder(UNPUBLISHED), part | {"extra.weight": torch.zeros(1)}, "part.pt")
    assert "1 left random ['blocks.0.0.bn1.bias']" in message and "1 unknown ['extra.weight']" in message
    assert message in caplog.text


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("absent.safetensors", None, "does not exist"),
        ("empty.pt", b"", "is empty"),
        ("broken.safetensors", b"not a weight file", "cannot be read"),
        ("broken.pt", b"not a weight file", "cannot be read"),
        ("weights.onnx", b"x", "neither 'auto', 'imagenet', 'none' nor a path"),
        ("imagnet", None, "neither 'auto', 'imagenet', 'none' nor a path"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        start_encoder(TimmEncoder(UNPUBLISHED), UNPUBLISHED, str(path))
    assert name in str(caught.value)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"network": np.random.RandomState}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match=r"code\.pt cannot be read"):
        start_encoder(TimmEncoder(UNPUBLISHED), UNPUBLISHED, str(tmp_path / "code.pt"))
