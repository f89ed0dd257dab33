"""Models of the real classes with few random weights, saved as the library does it; pictures, prompts and bad files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SIDE = 64  # pixels of a model's input
PROMPTS = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16}
DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
FEATURES = [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2]
KINDS = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam")


def _sam(hq: bool) -> torch.nn.Module:
    import transformers

    vision = {
        "hidden_size": 32,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 16,
        "mlp_dim": 64,
        "window_size": 3,
        "global_attn_indexes": [1],
        "num_pos_feats": 16,
        "initializer_range": 0.02,
    }
    kind = "SamHQ" if hq else "Sam"
    decoder = DECODER | ({"vit_dim": 32} if hq else {})
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision, prompt_encoder_config=PROMPTS, mask_decoder_config=decoder
    )
    return getattr(transformers, f"{kind}Model")(config)


def _hiera() -> dict:
    from transformers import Sam2HieraDetConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        embed_dim_per_stage=[8, 16, 32, 64],
        blocks_per_stage=[1, 1, 2, 1],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 2, 2],
        global_attention_blocks=[3],  # not the first of a stage: those pool
        window_positional_embedding_background_size=[4, 4],
    )
    return {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": FEATURES,
        "fpn_hidden_size": 32,
    }


def _sam2(video: bool) -> torch.nn.Module:
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig

    parts = {
        "vision_config": Sam2VisionConfig(**_hiera()),
        "prompt_encoder_config": PROMPTS,
        "mask_decoder_config": DECODER,
    }
    if not video:
        return Sam2Model(Sam2Config(**parts))
    return Sam2VideoModel(Sam2VideoConfig(**parts, **_memory(), memory_attention_feed_forward_hidden_size=64))


def _memory() -> dict:
    """What a video model has beside the part that segments single pictures."""
    return {
        "image_size": SIDE,
        "memory_attention_hidden_size": 32,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": FEATURES[-1],
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 64,
        "memory_fuser_num_layers": 1,
    }


def _edgetam(video: bool) -> torch.nn.Module:
    from transformers import (
        EdgeTamConfig,
        EdgeTamModel,
        EdgeTamVideoConfig,
        EdgeTamVideoModel,
        EdgeTamVisionConfig,
        TimmWrapperConfig,
    )

    backbone = TimmWrapperConfig(
        architecture="repvit_m1", model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    )
    vision = EdgeTamVisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[384, 192, 96, 48],
        backbone_feature_sizes=FEATURES,
        fpn_hidden_size=32,
    )
    parts = {"vision_config": vision, "prompt_encoder_config": PROMPTS, "mask_decoder_config": DECODER}
    if not video:
        return EdgeTamModel(EdgeTamConfig(**parts))
    perceiver = {"perceiver_resampler_hidden_size": 16, "perceiver_resampler_attention_head_dim": 16}
    memory = _memory() | {"memory_attention_mlp_hidden_size": 64, "memory_attention_rope_k_sizes": [4, 4]}
    return EdgeTamVideoModel(EdgeTamVideoConfig(**parts, **memory, **perceiver))


def _processor(kind: str):
    from transformers import Sam2ImageProcessor, Sam2Processor, SamHQProcessor, SamImageProcessor, SamProcessor

    square = {"height": SIDE, "width": SIDE}
    if kind in ("sam", "sam_hq"):
        image_processor = SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square)
        return (SamProcessor if kind == "sam" else SamHQProcessor)(image_processor)
    return Sam2Processor(Sam2ImageProcessor(size=square))


def make_model(kind: str, folder: Path, seed: int = 0) -> Path:
    """Save a model of a kind with its processor; returns the folder."""
    torch.manual_seed(seed)
    if kind in ("sam", "sam_hq"):
        model = _sam(hq=kind == "sam_hq")
    else:
        model = (_edgetam if "edgetam" in kind else _sam2)(video="video" in kind)
    # The library's own initial weights are so small that every prompt gets nearly the same flat mask.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "positional" not in name and "backbone" not in name:
                parameter.normal_(std=0.25)
    model.save_pretrained(folder)
    _processor(kind).save_pretrained(folder)
    return folder


def library_processor(kind: str):
    """The library's processor of pictures and prompts for a kind."""
    return _processor(kind)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with noise, (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (7 + seed) + k) + np.cos(columns / (5 + k)) for k in range(3)]
    return np.clip(128 + 50 * np.stack(waves, -1) + random.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def prompts(height: int, width: int, count: int = 3) -> dict[str, np.ndarray]:
    """Two points and a box each, with fractions of pixels."""
    random = np.random.default_rng(1)
    low = random.uniform(0, 0.4, (count, 2)) * (width, height)
    high = random.uniform(0.6, 1, (count, 2)) * (width, height)
    return {
        "points": (random.uniform(0, 1, (count, 2, 2)) * (width, height)).astype(np.float32),
        "labels": np.tile([1, 0], (count, 1)),
        "boxes": np.concatenate([low, high], 1).astype(np.float32),
    }


class Planted:
    """Leaves a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.write_text, (self.trace, "ran"))
