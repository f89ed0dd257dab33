"""Files of the original releases (SAM, MobileSAM) through kornia: the same answers as SAM of another library."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.models.sam import Sam, SamConfig
from kornia.models.sam.architecture.common import LayerNorm
from kornia.models.sam.architecture.image_encoder import ImageEncoderViT
from kornia.models.sam.architecture.mask_decoder import MaskDecoder
from kornia.models.sam.architecture.prompt_encoder import PromptEncoder
from kornia.models.sam.architecture.transformer import TwoWayTransformer
from tiny_sam import SIDE, picture, prompts
from torchvision.transforms.functional import resize, to_pil_image

from scripts.pseudo_labels import SegmenterError, build_segmenter
from scripts.pseudo_labels.embedding_cache import ENDING
from scripts.pseudo_labels.sam import SamSegmenter
from scripts.pseudo_labels.sam_models import KorniaSam, TransformersSam

# Names in the transformers library and in the original files, by which kornia calls them too.
RENAMED = (
    (r"^vision_encoder\.layers", "image_encoder.blocks"),
    (r"^vision_encoder", "image_encoder"),
    (r"patch_embed\.projection", "patch_embed.proj"),
    (r"neck\.conv1", "neck.0"),
    (r"neck\.layer_norm1", "neck.1"),
    (r"neck\.conv2", "neck.2"),
    (r"neck\.layer_norm2", "neck.3"),
    (r"^shared_image_embedding\.positional_embedding", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"\.point_embed\.", ".point_embeddings."),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"layer_norm(\d)", r"norm\1"),
    (r"((mlps\.\d|head)\.)layers\.0", r"\1layers.1"),
    (r"proj_in", "layers.0"),
    (r"proj_out", "layers.2"),
)


def renamed(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


class SamePixels(TransformersSam):
    """Scales pictures by Pillow; the library does it by torch, which rounds another way."""

    preprocess = KorniaSam.preprocess


@pytest.fixture(scope="module")
def pair(folders) -> tuple[SamSegmenter, SamSegmenter]:
    """The tiny SAM of transformers, and kornia's of the same sizes with the same numbers."""
    theirs = SamSegmenter(SamePixels(folders("sam")))
    # The releases (and kornia) add 1e-5 to the variance here, the library's models 1e-6.
    for module in theirs.model.mask_decoder.transformer.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    cells = (SIDE // 16, SIDE // 16)
    network = Sam(
        ImageEncoderViT(
            SIDE,
            embed_dim=32,
            depth=2,
            num_heads=2,
            mlp_ratio=2,
            out_chans=32,
            norm_layer=LayerNorm,
            use_rel_pos=True,
            window_size=3,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(32, cells, (SIDE, SIDE), mask_in_chans=16),
        MaskDecoder(transformer_dim=32, transformer=TwoWayTransformer(2, 32, 2, 64), iou_head_hidden_dim=32),
    )
    state = theirs.model.state_dict()
    network.load_state_dict({renamed(name): value for name, value in state.items() if "shared_embedding" not in name})
    return theirs, SamSegmenter(KorniaSam(network, "vit_b"))


@pytest.mark.parametrize("size", [(37, 61), (61, 37), (333, 480), (64, 64)])
def test_both_libraries_answer_alike_with_the_same_weights(pair, size):
    given = prompts(*size) | {"mask_logits": np.random.default_rng(3).normal(0, 4, (3, *size)).astype(np.float32)}
    for segmenter in pair:
        segmenter.set_image(picture(*size))
    one, other = (segmenter._embeddings[0].numpy() for segmenter in pair)
    assert np.abs(one).max() > 0.5
    np.testing.assert_allclose(one, other, atol=1e-4)
    kinds = ("points", "boxes", "mask_logits")
    for chosen in (one for count in (1, 2, 3) for one in itertools.combinations(kinds, count)):
        asked = {name: given[name] for name in chosen} | ({"labels": given["labels"]} if "points" in chosen else {})
        theirs, ours = (segmenter.predict(**asked) for segmenter in pair)
        np.testing.assert_allclose(theirs.logits, ours.logits, atol=1e-4, err_msg=str(chosen))
        np.testing.assert_allclose(theirs.predicted_iou, ours.predicted_iou, atol=1e-4)
        assert (theirs.masks != ours.masks).mean() <= 1e-4
        assert 0.02 < ours.masks.mean() < 0.98 and np.abs(ours.logits[0] - ours.logits[1]).max() > 0.05


@pytest.mark.parametrize("size", [(37, 61), (61, 37), (333, 480), (64, 64), (1, 40)])
def test_pictures_are_scaled_normalised_and_padded_as_in_the_releases(pair, size):
    image, side = picture(*size), SIDE
    pixels, content = pair[1]._sam.preprocess(image)
    height, width = (int(length * side / max(size) + 0.5) for length in size)
    scaled = np.array(resize(to_pil_image(image), [height, width])).astype(np.float64)  # ResizeLongestSide of SAM
    expected = np.zeros((side, side, 3))
    expected[:height, :width] = (scaled - (123.675, 116.28, 103.53)) / (58.395, 57.12, 57.375)
    assert content == (height, width) and pixels.shape == (1, 3, side, side)
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    library, _ = TransformersSam.preprocess(pair[0]._sam, image)
    assert (library - pixels).abs().max() < 1.01 / 57.12  # of 255 levels at most one


@pytest.fixture(scope="module")
def mobile(tmp_path_factory) -> Path:
    """A file like mobile_sam.pt, with random numbers large enough that prompts make a difference."""
    torch.manual_seed(0)
    network = Sam.from_config(SamConfig("mobile_sam"))
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point() and "image_encoder" not in name and value.ndim > 1:
            value.normal_(std=0.1)
    file = tmp_path_factory.mktemp("mobile") / "renamed.bin"
    torch.save(network.state_dict(), file)
    return file


def test_mobile_sam_segments_keeps_embeddings_and_repeats_itself(mobile, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    state, random = torch.load(mobile, weights_only=True), torch.random.get_rng_state()
    calls, answers, given = [], [], prompts(61, 37)
    for options in ({}, {"cache_dir": tmp_path}, {"cache_dir": tmp_path}):
        segmenter = build_segmenter("sam", weights=str(mobile), **{key: str(value) for key, value in options.items()})
        segmenter.model.image_encoder.register_forward_hook(lambda *_: calls.append(1))
        segmenter.set_image(picture(61, 37))
        answers.append(segmenter.predict(**given))
    assert torch.equal(random, torch.random.get_rng_state())
    assert len(calls) == 2 and len(list(tmp_path.glob(f"*{ENDING}"))) == 1
    loaded = segmenter.model.state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], state[name]) for name in state)
    for answer in answers[1:]:
        for name in vars(answer):
            assert np.array_equal(getattr(answer, name), getattr(answers[0], name)), name
    first = answers[0]
    assert first.masks.shape == (3, 61, 37) and first.logits.shape == (3, 256, 156)  # 37 / 61 of 256, rounded up
    assert 0.02 < first.masks.mean() < 0.98 and np.abs(first.logits[0] - first.logits[1]).max() > 0.05
    with pytest.raises(SegmenterError, match="strip.png: 3000x1 pixels .* 1024"):
        segmenter.set_image(np.zeros((1, 3000, 3), np.uint8), "strip.png")
