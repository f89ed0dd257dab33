"""LESS-Net: published counts, the limits of lite, sizes, the border between encoder and decoder, options."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scripts.networks import PRESETS, LESSNet


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def gmac(network: nn.Module, side: int, attention: bool = True) -> float:
    """Multiply-accumulates in 10^9 at (1, 3, side, side); one is two of torch's flops."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, side, side))
    by_operation = counter.get_flop_counts()["Global"]
    return sum(flops for name, flops in by_operation.items() if attention or "attention" not in str(name)) / 2e9


@pytest.fixture(scope="module")
def lite() -> LESSNet:
    torch.manual_seed(0)
    return LESSNet(encoder_weights="none").eval()


@pytest.fixture(scope="module")
def published() -> LESSNet:
    torch.manual_seed(0)
    return LESSNet("published", encoder_weights="none").eval()


def test_published_parameter_counts(published):
    """methods.md A.1: encoder, aggregation, fusion, four U-Net joins, two convolutions at input size, head."""
    decoder = published.decoder
    assert count(published.encoder) == 4_833_952
    assert published.encoder.channels == [32, 64, 96, 128, 160]
    assert published.encoder.reductions == [2, 4, 8, 16, 32]
    assert count(decoder.aggregation) == 480 * 256 + 3 * 16 * 256 + 2 * 16 + 2 * 256 == 135_712
    assert count(decoder.fusion) == 257 * 480 == 123_360
    assert [count(up) for up in decoder.up] == [3_687_424, 1_991_168, 516_352, 129_152]
    assert count(decoder.last1) + count(decoder.last2) == 73_856
    assert count(published.head) == 130
    assert count(published) == 11_491_106
    assert count(published) - count(decoder.aggregation) - count(decoder.fusion) == 11_232_034


def test_published_work_at_512_px(published):
    """methods.md A.1: 64.5 GMAC in one pass (convolutions and linear layers), 7.26 of them in the encoder.

    Less what the order of convolution and resize saves: 480 -> 256 channels at 256 px, against each level at its size.
    """
    late = 480 * 256 * 256**2 / 1e9
    early = sum(c * 256 * side**2 for c, side in [(32, 256), (64, 128), (96, 64), (128, 32), (160, 16)]) / 1e9
    assert gmac(published, 512, attention=False) == pytest.approx(64.5 - late + early, abs=0.05)
    assert gmac(published.encoder, 512, attention=False) == pytest.approx(7.26, abs=0.05)


def test_published_transformers_drop_after_attention_and_feed_forward(published):
    """9 transformer layers (2 + 4 + 3), two dropouts of 0.1 each, none inside them."""
    rates = [module.p for module in published.encoder.modules() if isinstance(module, nn.Dropout)]
    assert sorted(rates)[-18:] == [0.1] * 18 and not any(sorted(rates)[:-18])


@pytest.mark.parametrize("preset", [name for name in PRESETS if name.startswith("lite")])
def test_lite_presets_keep_their_limits(preset):
    network = LESSNet(preset, encoder_weights="none").eval()
    assert count(network) <= 2_200_000
    assert gmac(network, 256) <= 1.6


def test_lite_is_the_default_on_mobilenetv2(lite):
    assert lite.encoder.channels == [16, 24, 32, 96, 320]
    assert count(lite.encoder) == 1_811_712


@pytest.mark.parametrize("height, width", [(64, 64), (65, 97), (96, 64), (127, 255), (64, 300)])
def test_any_size_comes_back_at_its_size(lite, height, width):
    logits = lite(torch.rand(2, 3, height, width))
    assert logits.shape == (2, 2, height, width) and logits.isfinite().all()


def test_published_takes_odd_sizes(published):
    assert published(torch.rand(1, 3, 65, 97)).shape == (1, 2, 65, 97)


def test_padding_repeats_the_border(lite):
    """An odd image gives the logits of the same image padded by hand, cropped."""
    x = torch.rand(1, 3, 65, 97)
    padded = torch.cat([x, x[..., -1:].expand(-1, -1, -1, 31)], dim=3)
    padded = torch.cat([padded, padded[:, :, -1:].expand(-1, -1, 31, -1)], dim=2)
    torch.testing.assert_close(lite(x), lite(padded)[..., :65, :97])


@pytest.mark.parametrize("height, width", [(63, 64), (64, 32)])
def test_small_input_is_refused(lite, height, width):
    with pytest.raises(ValueError, match=f"{height}x{width} pixels and the network needs at least 64x64"):
        lite(torch.rand(1, 3, height, width))


@pytest.mark.parametrize("network_name", ["lite", "published"])
def test_one_backbone_pass_for_each_forward(network_name, request):
    network, calls = request.getfixturevalue(network_name), []
    handles = [
        module.register_forward_hook(lambda module, args, output: calls.append(module))
        for module in network.encoder.modules()
        if isinstance(module, nn.Conv2d)
    ]
    network(torch.rand(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert len(calls) == len(handles) > 0  # each convolution ran once


def test_encode_gives_the_raw_taps_and_decode_the_rest(lite):
    x = torch.rand(2, 3, 65, 97)
    features = lite.encode(x)
    assert [tuple(feature.shape) for feature in features] == [
        (2, 16, 48, 64),
        (2, 24, 24, 32),
        (2, 32, 12, 16),
        (2, 96, 6, 8),
        (2, 320, 3, 4),
    ]
    padded = nn.functional.pad((x - lite.normalize.mean) / lite.normalize.std, (0, 31, 0, 31), mode="replicate")
    for feature, tap in zip(features, lite.encoder(padded), strict=True):
        torch.testing.assert_close(feature, tap)
    torch.testing.assert_close(lite.decode(features, (65, 97)), lite(x))
    # every tap reaches the logits
    for index in range(len(features)):
        perturbed = [feature * (0.0 if at == index else 1.0) for at, feature in enumerate(features)]
        assert not torch.allclose(lite.decode(perturbed, (65, 97)), lite(x))


def test_embedding_is_the_mean_of_the_coarsest_tap(lite):
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(lite.embed(x), lite.encode(x)[-1].flatten(2).mean(2))


def test_images_of_a_batch_do_not_touch_each_other(lite):
    x = torch.rand(3, 3, 64, 96)
    torch.testing.assert_close(lite(x)[1:2], lite(x[1:2]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "backbone, reductions",
    [
        ("mobilevit_xxs", [2, 4, 8, 16, 32]),
        ("mobilevit_xs", [2, 4, 8, 16, 32]),
        ("mobilevit_s", [2, 4, 8, 16, 32]),
        ("mobilevitv2_050", [2, 4, 8, 16, 32]),
        ("mobilenetv2_100", [2, 4, 8, 16, 32]),
        ("repvit_m0_9", [4, 8, 16, 32]),
        ("resnet18", [2, 4, 8, 16, 32]),
    ],
)
def test_backbones_by_name(backbone, reductions):
    network = LESSNet(backbone=backbone, encoder_weights="none").eval()
    assert network.encoder.reductions == reductions
    assert network(torch.rand(1, 3, 65, 97)).shape == (1, 2, 65, 97)


@pytest.mark.parametrize("network_name", ["lite", "published"])
def test_gradient_reaches_every_parameter(network_name, request):
    network = copy.deepcopy(request.getfixturevalue(network_name)).train()
    for module in network.encoder.modules():  # timm closes MobileViT's residual branches at a random start
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    context = getattr(network.decoder, "context", None)
    closed = set()
    if context is not None:  # gamma = 0 closes the branch at the start: only gamma itself learns in the first step
        closed = {parameter for name, parameter in context.named_parameters() if name != "gamma"}
    network(torch.rand(2, 3, 64, 96)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad.abs().sum() == 0) == (parameter in closed), name
    if context is not None:
        nn.init.ones_(context.gamma)
        network.zero_grad()
        network(torch.rand(2, 3, 64, 96)).square().mean().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in context.parameters())


def test_a_few_steps_fit_two_images():
    """The network learns at all: a bright square in two images, from random numbers."""
    torch.manual_seed(0)
    network = LESSNet(encoder_weights="none")
    x = torch.rand(2, 3, 64, 64) * 0.2
    truth = torch.zeros(2, 64, 64, dtype=torch.long)
    truth[0, 8:40, 8:40], truth[1, 24:56, 16:60] = 1, 1
    x += truth[:, None] * 0.7
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), truth).backward()
        optimizer.step()
    assert (network(x).argmax(1) == truth).float().mean() > 0.95


def test_same_seed_same_network_whatever_the_hub_answers(shared_dir):
    """The decoder's start depends on the seed only, not on where the encoder's weights come from."""

    def decoder(weights: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        return LESSNet(encoder_weights=weights).decoder.state_dict()

    first, again = decoder("none"), decoder(str(shared_dir / "weights" / "mobilenetv2_100.in1k.safetensors"))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_memory_order_changes_nothing_but_the_order(lite):
    other = LESSNet(encoder_weights="none", channels_last=False).eval()
    other.load_state_dict(lite.state_dict())
    x = torch.rand(1, 3, 64, 96)
    torch.testing.assert_close(other(x), lite(x), rtol=1e-4, atol=1e-5)
    assert lite.encode(x)[0].is_contiguous(memory_format=torch.channels_last)
    assert other.encode(x)[0].is_contiguous()


def test_dropout_drops_channels_in_training_only():
    torch.manual_seed(0)
    network = LESSNet(encoder_weights="none", dropout=0.9).eval()
    x = torch.rand(1, 3, 64, 64)
    features = network.encode(x)
    torch.testing.assert_close(network.decode(features, (64, 64)), network.decode(features, (64, 64)))
    network.dropout.train()
    draws = torch.stack([network.decode(features, (64, 64)) for _ in range(4)])
    assert draws.std(0).max() > 0
    dropped = network.dropout(torch.ones(1, 1000, 2, 2))
    assert ((dropped == 0).all((2, 3)) | (dropped > 0).all((2, 3))).all()  # whole channels


@pytest.mark.parametrize("preset", ["lite", "published"])
def test_parts_of_the_fusion_can_be_left_out(preset):
    whole = LESSNet(preset, encoder_weights="none")
    decoder = whole.decoder
    plain = LESSNet(preset, encoder_weights="none", fusion=False)
    assert count(whole) - count(plain) == count(decoder.aggregation) + count(decoder.fusion) > 0
    without = LESSNet(preset, encoder_weights="none", attention=False)
    assert count(whole) - count(without) == count(decoder.aggregation.attention) > 0
    features = [torch.rand(1, 4, 8, 8), torch.rand(1, 4, 4, 4)]
    assert plain.decoder.fusion(features, plain.decoder.aggregation(features)) is features
    x = torch.rand(1, 3, 64, 64)
    for network in (plain, without):
        assert network.eval()(x).shape == (1, 2, 64, 64)


def test_copies_and_options():
    network = LESSNet(encoder_weights="none", out_channels=4, in_channels=1, context_layers=0, aggregation_stride=4)
    copied = copy.deepcopy(network)
    assert copied.encoder_weights_report == network.encoder_weights_report
    assert network.normalize.mean.shape == (1, 1, 1, 1)
    assert isinstance(network.decoder.context, nn.Identity)
    assert network.eval()(torch.rand(1, 1, 64, 64)).shape == (1, 4, 64, 64)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"preset": "lit"}, ValueError, "unknown preset 'lit': did you mean lite"),
        ({"backbone": "mobilenetv2_10"}, ValueError, "no backbone 'mobilenetv2_10': did you mean .*mobilenetv2_100"),
        ({"backbone": "vit_tiny_patch16_224"}, ValueError, "does not take a 128x128 input.*strides double"),
        ({"backbone": "swin_tiny_patch4_window7_224"}, ValueError, "strides double"),
        ({"context_layer": 2}, TypeError, "unknown network option 'context_layer': did you mean context_layers"),
        ({"context_layers": -1}, ValueError, "context_layers at least 0"),
        ({"aggregation_stride": 6}, ValueError, "aggregation_stride must be"),
        ({"backbone": "repvit_m0_9", "aggregation_stride": 2}, ValueError, "not among the backbone's strides"),
        ({"decoder": "unet"}, ValueError, "choose 'lite' or 'published'"),
        ({"decoder_widths": [32, 16]}, ValueError, "give one for each tap"),
        ({"decoder_widths": [32, 16, 0, 8, 8]}, ValueError, "positive channel counts"),
        ({"transformer_dropout": 1.0}, ValueError, "transformer_dropout"),
        ({"preset": "published", "backbone": "repvit_m0_9"}, ValueError, "needs a tap at stride 2"),
        ({"input_mean": "imagenet"}, ValueError, "input_mean 'imagenet' is not known"),
        ({"input_std": [0.5]}, ValueError, "input_std has 1 numbers and the input 3 channels"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        LESSNet(encoder_weights="none", **options)
