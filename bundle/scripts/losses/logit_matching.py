"""Logit matching: the student is to find the teacher's probabilities, the small ones too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LogitMatchingLoss(nn.Module):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over pictures (Hinton, Vinyals and Dean 2015, sec. 2).

    The factor T^2 keeps the gradient's size whatever T is.

    Args:
        temperature: T > 0; the higher, the more the improbable classes count.

    Raises:
        ValueError: options out of range; logits that do not fit each other.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; expected a number above 0.")
        self.temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Logits (B, K) of both -> scalar >= 0."""
        if student.ndim != 2 or student.shape != teacher.shape:
            raise ValueError(f"logits are {tuple(student.shape)} and {tuple(teacher.shape)}; expected (B, K) twice.")
        with torch.autocast(student.device.type, enabled=False):
            student, teacher = (
                functional.log_softmax((one if one.dtype == torch.float64 else one.float()) / self.temperature, dim=1)
                for one in (student, teacher)
            )
            divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence
