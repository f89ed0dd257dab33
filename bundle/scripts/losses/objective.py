"""What every semi-supervised objective is: unlabelled frames and two networks in, one loss and its readings out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class ObjectiveOutput:
    """Loss on unlabelled frames with what is worth watching beside it.

    Attributes:
        loss: scalar with gradient.
        lesion_share: share of pixels taken or predicted as lesion, 0..1; the collapse guard watches it.
        confident_share: share of pixels that count in the loss, 0..1.
        terms: parts of the loss, for the log.
    """

    loss: Tensor
    lesion_share: Tensor
    confident_share: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """A loss on unlabelled frames."""

    #: whether the trainer must keep an EMA teacher for it
    needs_teacher: bool = False
    #: whether it needs ``encode`` and ``decode`` of the network, which LESSNet has and MONAI's UNet has not
    takes_network_apart: bool = True
    #: whether unlabelled frames must have pseudo-labels; forward then gets ``pseudo_label`` and ``weight`` as well
    needs_pseudo_labels: bool = False

    @abstractmethod
    def forward(self, student: nn.Module, teacher: nn.Module | None, image: Tensor) -> ObjectiveOutput:
        """Compute the loss.

        Args:
            student: network with gradient; has ``encode`` and ``decode`` beside ``forward`` if ``takes_network_apart``.
            teacher: its moving average in eval mode, or None where ``needs_teacher`` is False.
            image: (B, 3, H, W) in 0..1, without augmentation.
        """
