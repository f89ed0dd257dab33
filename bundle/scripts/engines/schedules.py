"""What changes over the run: the weight of the unlabelled loss and the learning rate."""

from __future__ import annotations

import math
from typing import Any

from torch import distributed, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from scripts.networks.taps import segmentation_head


class SigmoidRampUp:
    """weight * exp(-5 (1 - t)^2) with t running 0..1 over ``length`` iterations after ``start`` (Laine & Aila 2017).

    Args:
        weight: final weight of the unlabelled loss.
        start: iterations without it, while the teacher knows nothing.
        length: iterations of rising.
    """

    def __init__(self, weight: float = 1.0, start: int = 0, length: int = 0) -> None:
        if start < 0 or length < 0:
            raise ValueError(f"SigmoidRampUp: start is {start}, length is {length}; neither can be negative.")
        self.weight = weight
        self.start = start
        self.length = length

    def __call__(self, iteration: int) -> float:
        """Weight at an iteration, the first being 1."""
        if iteration <= self.start:
            return 0.0
        progress = min(1.0, (iteration - self.start) / self.length) if self.length else 1.0
        return self.weight * math.exp(-5.0 * (1.0 - progress) ** 2)


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    encoder_ratio: float | str = "auto",
    weight_decay: float = 0.0,
    head_ratio: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups of up to three learning rates: a pretrained encoder moves slower than a decoder that starts from nothing.

    Of several processes the first decides what "auto" is: a hub may have answered one and not another.

    Args:
        network: its ``encoder`` and ``encoder_weights_report`` are read. Without a part called encoder (MONAI's UNet)
            there is one rate for all but the head.
        learning_rate: of all but encoder and head.
        encoder_ratio: encoder's rate / learning_rate; "auto" = 0.3 from pretrained weights, 1 from random ones.
        weight_decay: for matrices and kernels; biases and norms are not decayed.
        head_ratio: segmentation head's rate / learning_rate. A head is few weights that start from random numbers on
            maps that a pretraining has made: at the network's own rate it is what holds the others up.

    Returns:
        groups, those of the head first.

    Raises:
        ValueError: a ratio for a network without an encoder, or that is not above 0.
        TypeError: a head_ratio for a network whose head is not known.
    """
    part = getattr(network, "encoder", None)
    if part is None and encoder_ratio != "auto":
        raise ValueError(
            f"encoder_learning_rate_ratio is {encoder_ratio} and {type(network).__name__} has no part called encoder: "
            "leave it at auto, and set learning_rate for the whole network."
        )
    if head_ratio <= 0:
        raise ValueError(f"head_learning_rate_ratio is {head_ratio}; expected a number above 0, 1 = like the others.")
    if encoder_ratio == "auto":
        pretrained = part is not None and network.encoder_weights_report["used"] != "random"
        encoder_ratio = 0.3 if _of_the_first(pretrained) else 1.0
    encoder = {id(parameter) for parameter in part.parameters()} if part is not None else set()
    head = {id(parameter) for parameter in segmentation_head(network).parameters()} if head_ratio != 1.0 else set()
    ratios = dict.fromkeys(encoder, float(encoder_ratio)) | dict.fromkeys(head, float(head_ratio))
    groups: dict[tuple[bool, bool, bool], dict[str, Any]] = {}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        ratio, decayed = ratios.get(id(parameter), 1.0), parameter.ndim > 1
        group = {"params": [], "lr": learning_rate * ratio, "weight_decay": weight_decay if decayed else 0.0}
        # By part, not by rate: a run goes on with the rates it began with, also where the hub answers otherwise now.
        place = (id(parameter) in head, id(parameter) in encoder, decayed)
        groups.setdefault(place, group)["params"].append(parameter)
    # The log shows the rate of the last group: the decoder's.
    return [groups[key] for key in sorted(groups, key=lambda key: not key[0])]


def _of_the_first(found: bool) -> bool:
    """What the first process has found, in all of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return found
    answer = [found]
    distributed.broadcast_object_list(answer)
    return answer[0]


def warmup_poly(optimizer: Optimizer, iterations: int, warmup: int = 0, power: float = 0.9) -> LambdaLR:
    """Rate rises linearly over ``warmup`` iterations, then falls as (1 - t)^power to 0; step it once an iteration."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return max(0.0, 1.0 - (step - warmup) / max(1, iterations - warmup)) ** power

    return LambdaLR(optimizer, factor)
