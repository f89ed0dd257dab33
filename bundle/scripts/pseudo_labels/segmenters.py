"""Promptable segmenters by the name that configs use for them."""

from __future__ import annotations

from difflib import get_close_matches

import torch

from scripts.pseudo_labels.promptable import PromptableSegmenter, SegmenterError

SEGMENTERS = ("grabcut", "random_walker", "sam")


def build_segmenter(
    name: str,
    weights: str = "",
    device: str | torch.device = "cpu",
    cache_dir: str = "",
    cache_gb: float = 4.0,
) -> PromptableSegmenter:
    """The segmenter of that name.

    Args:
        name: one of SEGMENTERS; "sam" is any model of the SAM family that transformers or kornia know.
        weights: for "sam" alone: a folder, a name on the hub, or a file of the original release (SAM, MobileSAM).
        device: where "sam" computes.
        cache_dir: where "sam" keeps image embeddings; "" = nowhere.
        cache_gb: GiB that they may fill.

    Raises:
        SegmenterError: unknown name, "sam" without weights, weights without "sam", weights that cannot be used.
    """
    if name not in SEGMENTERS:
        near = get_close_matches(name, SEGMENTERS, n=1, cutoff=0)[0]
        raise SegmenterError(f"segmenter '{name}' is unknown; did you mean '{near}'? Known: {', '.join(SEGMENTERS)}.")
    if name == "sam":
        if not weights:
            raise SegmenterError(
                "segmenter sam needs --sam_weights: a folder, a name on the hub such as facebook/sam-vit-base, or a "
                "file of the original release such as mobile_sam.pt; names and licences: docs/knowledge_mining.md."
            )
        from scripts.pseudo_labels.sam import SamSegmenter

        return SamSegmenter(weights, device=device, cache_dir=cache_dir, cache_gb=cache_gb)
    if weights:
        raise SegmenterError(f"segmenter {name} has no weights and sam_weights is {weights!r}: give --segmenter sam.")
    if name == "grabcut":
        from scripts.pseudo_labels.graph_cut import GrabCutSegmenter

        return GrabCutSegmenter()
    from scripts.pseudo_labels.random_walk import RandomWalkSegmenter

    return RandomWalkSegmenter()
