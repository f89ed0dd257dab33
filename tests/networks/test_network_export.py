"""TorchScript and ONNX give what the network gives."""

from __future__ import annotations

import io

import pytest
import torch
from monai.networks.nets import BasicUNetPlusPlus

from scripts.networks import LESSNet
from scripts.networks.unet_plus_plus import UNetPlusPlus


def _opened(**options) -> LESSNet:
    """A network in eval mode whose every branch counts: the context branch is opened, the logits are not tiny."""
    torch.manual_seed(0)
    network = LESSNet(encoder_weights="none", **options).eval()
    if hasattr(getattr(network.decoder, "context", None), "gamma"):
        torch.nn.init.ones_(network.decoder.context.gamma)
    torch.nn.init.normal_(network.head.weight)
    return network


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "lite_mobilevit_xxs"},
        {"backbone": "mobilevitv2_050"},
        {"backbone": "repvit_m0_9"},
        {"fusion": False},
        {"attention": False},
    ],
    ids=lambda options: "-".join(f"{name}-{value}" for name, value in options.items()) or "lite",
)
@torch.no_grad()
def test_torchscript_is_saved_loaded_and_equal(options):
    network, stream = _opened(**options), io.BytesIO()
    torch.jit.save(torch.jit.script(network), stream)
    stream.seek(0)
    scripted = torch.jit.load(stream)
    for shape in [(2, 3, 65, 97), (1, 3, 64, 128)]:
        x = torch.rand(shape)
        torch.testing.assert_close(scripted(x), network(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scripted.decode(scripted.encode(x), shape[2:]), network(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match="needs at least 64x64"):
        scripted(torch.rand(1, 3, 32, 64))


@torch.no_grad()
def test_published_torchscript_is_equal():
    network = _opened(preset="published")
    x = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_torchscript_of_unet_plus_plus_is_equal_and_both_are_monais():
    shared = {"spatial_dims": 2, "in_channels": 3, "out_channels": 2, "features": (8, 8, 16, 32, 64, 8)}
    network, whole = UNetPlusPlus(**shared).eval(), BasicUNetPlusPlus(**shared, deep_supervision=False).eval()
    whole.load_state_dict(network.state_dict(), strict=False)
    x = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(x), whole(x)[0], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_onnx_takes_any_batch_and_sides_of_32(tmp_path):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="the optional extra for ONNX is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the optional extra for ONNX is not installed")
    network, path = _opened(), str(tmp_path / "network.onnx")
    batch, rows, columns = (torch.export.Dim(name, min=low, max=64) for name, low in [("b", 1), ("h", 2), ("w", 2)])
    torch.onnx.export(
        network, (torch.rand(2, 3, 64, 96),), path, dynamo=True, verbose=False, external_data=False,
        dynamic_shapes=({0: batch, 2: 32 * rows, 3: 32 * columns},), input_names=["image"], output_names=["logits"],
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in [(2, 3, 64, 96), (1, 3, 128, 64)]:
        x = torch.rand(shape)
        (logits,) = session.run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), network(x), rtol=1e-3, atol=1e-4)
