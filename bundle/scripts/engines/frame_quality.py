"""Figures of one frame without its truth, and a flag for the frames that a person should look at.

There is no ground truth at inference. What can be seen is whether predictions that should be the same are: those of the
shipped network, of its companion (student or EMA teacher, whichever was not shipped) and of the shipped network on the
mirrored frame. Where their masks disagree, the mask is doubtful.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pairwise_agreement(masks: Sequence[NDArray[np.bool_]]) -> float | None:
    """Return the mean Dice over all pairs of the (H, W) bool masks, 0..1; None for fewer than two masks.

    Two empty masks agree (1); an empty and a non-empty one do not (0).

    Raises:
        ValueError: masks of different shapes.
    """
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise ValueError(f"masks of shapes {sorted(shapes)}, expected one shape: bring them to the frame's size first.")
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    scores = []
    for a, b in combinations(range(len(masks)), 2):
        total = sizes[a] + sizes[b]
        scores.append(2.0 * np.count_nonzero(masks[a] & masks[b]) / total if total else 1.0)
    return float(np.mean(scores)) if scores else None


def frame_quality(
    probabilities: Mapping[str, NDArray[np.floating]], threshold: float = 0.5, lowest_agreement: float = 0.8
) -> dict[str, Any]:
    """Return the figures of one frame.

    Args:
        probabilities: name -> lesion probability (H, W) in 0..1; the first is the network whose mask is written.
        threshold: lesion is where the probability is above it (0.5: the arg max of two classes).
        lowest_agreement: ``quality`` is "check" below it. 0.8: two masks of equal size that share 80 % of their pixels.

    Returns:
        ``width``, ``height`` and ``lesion_px`` in pixels; ``lesion_share`` of the whole frame, 0..1;
        ``mean_confidence``, mean of max(p, 1 - p) over the whole frame, 0.5..1; ``lesion_confidence``, mean of p over
        the predicted lesion, None without one; ``agreement``, see pairwise_agreement, None with one network;
        ``agreement_of``, the names joined by "+"; ``quality``, "ok", "check" or "not compared".
    """
    names = list(probabilities)
    masks = [np.asarray(probabilities[name]) > threshold for name in names]
    lesion = np.asarray(probabilities[names[0]])
    lesion_px = int(np.count_nonzero(masks[0]))
    # max(p, 1 - p) is p where p > 0.5: two sums instead of a map of the frame's size, which counts in a video.
    likely = masks[0] if threshold == 0.5 else lesion > 0.5
    inside = lesion[likely]
    total, certain = float(lesion.sum()), float(inside.sum())
    confidence = (2 * certain - total + lesion.size - inside.size) / lesion.size
    in_lesion = inside if threshold == 0.5 else lesion[masks[0]]
    agreement = pairwise_agreement(masks)
    return {
        "width": lesion.shape[1],
        "height": lesion.shape[0],
        "lesion_px": lesion_px,
        "lesion_share": lesion_px / lesion.size,
        "mean_confidence": confidence,
        "lesion_confidence": float(in_lesion.mean()) if lesion_px else None,
        "agreement": agreement,
        "agreement_of": "+".join(names),
        "quality": "not compared" if agreement is None else "ok" if agreement >= lowest_agreement else "check",
    }
