"""Files of the original releases (SAM, MobileSAM): which they are, and which are refused and why."""

from __future__ import annotations

import pickle

import pytest
import torch
from kornia.models.sam import Sam, SamConfig
from tiny_sam import Planted
from torch import Tensor

from scripts.pseudo_labels import SegmenterError
from scripts.pseudo_labels.sam import SamSegmenter


def refusal(weights, **options) -> str:
    with pytest.raises(SegmenterError) as caught:
        SamSegmenter(weights, **options)
    return str(caught.value)


# Width and depth of each image encoder, by the papers, and millions of parameters of the whole.
PUBLISHED = {
    "vit_b": (768, 12, 93.7),
    "vit_l": (1024, 24, 312.3),
    "vit_h": (1280, 32, 641.1),
    "mobile_sam": (320, 0, 10.1),
}


def shapes(kind: str) -> dict[str, Tensor]:
    """A state dict of a kind that takes no memory: every tensor is one zero, repeated."""
    if kind == "mobile_sam":
        state = Sam.from_config(SamConfig(kind)).state_dict()
    else:
        with torch.device("meta"):
            state = Sam.from_config(SamConfig(kind)).state_dict()
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}


@pytest.fixture(scope="module")
def vit_b() -> dict[str, Tensor]:
    return shapes("vit_b")


@pytest.mark.parametrize("kind", PUBLISHED)
def test_each_kind_is_known_by_its_tensors_whatever_the_file_is_called(tmp_path, kind):
    width, depth, millions = PUBLISHED[kind]
    state = shapes(kind)
    if depth:
        assert state["image_encoder.pos_embed"].shape == (1, 64, 64, width)
        assert state[f"image_encoder.blocks.{depth - 1}.attn.qkv.weight"].shape == (3 * width, width)
    file = tmp_path / "weights"
    torch.save(state, file)
    assert file.stat().st_size < 1e6
    segmenter = SamSegmenter(file)
    assert segmenter.name == f"{'SAM' if depth else 'MobileSAM'} ({kind}, {millions} M parameters)"
    tensors = [*segmenter.model.parameters(), *segmenter.model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"} and not segmenter.model.training


def test_half_precision_and_buffers_of_indices_are_taken(tmp_path):
    network = Sam.from_config(SamConfig("mobile_sam"))
    indices = {name: value for name, value in network.named_buffers() if name.endswith("attention_bias_idxs")}
    assert len(indices) == 10
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    torch.save({"model": state | indices, "epoch": 3}, tmp_path / "fine_tuned.pth")
    loaded = SamSegmenter(tmp_path / "fine_tuned.pth").model.state_dict()
    for name, value in loaded.items():
        assert torch.equal(value, state[name].to(value.dtype)) and value.dtype in (torch.float32, torch.int64)
    name = next(iter(indices))
    torch.save(state | {name: indices[name] + 1}, tmp_path / "other.pth")  # of windows of another size
    message = refusal(tmp_path / "other.pth")
    assert "1 unexpected" in message and name in message


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_file_with_code_is_refused_and_its_code_is_not_run(vit_b, tmp_path, form):
    file, trace = tmp_path / "sam_vit_b_01ec64.pth", tmp_path / "trace"
    content = vit_b | {"image_encoder.pos_embed": Planted(trace)}
    if form == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content, protocol=2))
    message = refusal(file)
    assert str(file) in message and "not run" in message and "mobile_sam.pt" in message
    assert not trace.exists()
    if form == "torch":
        torch.load(file, weights_only=False)
        assert trace.exists()  # it would have run


@pytest.mark.parametrize("kept", [-1000, 1000, 0])
def test_a_truncated_file_is_refused_by_name(vit_b, tmp_path, kept):
    file = tmp_path / "sam_vit_b_01ec64.pth"
    torch.save(vit_b, file)
    file.write_bytes(file.read_bytes()[:kept])
    message = refusal(file)
    assert str(file) in message and "download it again" in message


def test_a_file_that_is_not_there_is_refused_without_looking_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("weights/mobile_sam.pt", str(tmp_path / "sam_vit_b_01ec64.pth")):  # the first could be a hub name
        message = refusal(file)
        assert file in message and "no such file" in message and "hub" not in message


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(1)], "a list"),
        ({}, "nothing"),
        ({"epoch": 3, "weight": torch.zeros(1)}, "1 entries that are no tensors ['epoch']"),
        ({"weight": torch.zeros(1)}, "missing among 1 tensors ['weight']"),
        ({"image_encoder.neck.0.weight": torch.zeros(256, 192, 1, 1)}, "(256, 192, 1, 1)"),
        ({"image_encoder.neck.0.weight": torch.zeros(768)}, "(768,)"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, found):
    torch.save(content, tmp_path / "file.pth")
    message = refusal(tmp_path / "file.pth")
    assert str(tmp_path / "file.pth") in message and found in message and "mobile_sam.pt" in message
    assert "expected" in message


NAME = "image_encoder.blocks.11.mlp.lin2.weight"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda state: state.pop(NAME), f"1 missing ['{NAME}']"),
        (lambda state: state.pop("image_encoder.neck.0.weight"), "image_encoder.neck.0.weight is missing"),
        (lambda state: state.update({"extra.weight": torch.zeros(1)}), "1 unexpected ['extra.weight']"),
        (
            lambda state: state.update({NAME: torch.zeros(1).expand(768, 3000)}),
            f"{NAME}: (768, 3000) of floats, expected (768, 3072) of floats",
        ),
        (
            lambda state: state.update({NAME: torch.zeros(1, dtype=torch.int8).expand(768, 3072)}),
            f"{NAME}: (768, 3072) of torch.int8, expected (768, 3072) of floats",
        ),
    ],
)
def test_missing_unexpected_and_misshapen_tensors_are_refused_by_name(vit_b, tmp_path, change, found):
    state, file = dict(vit_b), tmp_path / "sam_vit_b_01ec64.pth"
    change(state)
    torch.save(state, file)
    message = refusal(file)
    assert str(file) in message and found in message and "vit_b" in message and "download it again" in message


@pytest.mark.parametrize(
    ("names", "cure"),
    [
        (("mask_decoder.hf_token.weight",), "SAM-HQ"),
        (("sam_mask_decoder.iou_token.weight",), "facebook/sam2.1-hiera-tiny"),
        (("sam_mask_decoder.iou_token.weight", "spatial_perceiver.latents"), "EdgeTAM"),
        (("vision_encoder.pos_embed",), "config.json"),
    ],
)
def test_files_of_other_models_are_refused_with_the_way_to_use_them(vit_b, tmp_path, names, cure):
    extra = {name: torch.zeros(1, 1) for name in names}
    state = vit_b | extra if cure == "SAM-HQ" else {"model": extra}  # SAM-HQ has all tensors of SAM, and more
    torch.save(state, tmp_path / "file.pt")
    message = refusal(tmp_path / "file.pt")
    assert str(tmp_path / "file.pt") in message and cure in message and "give the folder" in message
