"""Mean teacher: the student's answer to a changed frame must equal the moving average's answer to the frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.losses.masked import masked_mean, masked_mse
from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.transforms.views import view


class MeanTeacherObjective(Objective):
    """L = mean |softmax(f_S(s(x))) - softmax(f_T(x))|^2 (Tarvainen & Valpola 2017, eq. 1; as in the 2D medical ports).

    The mean is over pixels that come from the frame, not over the border that a rotation or a zoom makes up.

    Args:
        geometry_view: geometry that both networks see.
        student_view: colour changes for the student alone.
        flips: whether the default geometry mirrors frames.
    """

    needs_teacher = True
    takes_network_apart = False

    def __init__(
        self, geometry_view: nn.Module | None = None, student_view: nn.Module | None = None, flips: bool = True
    ) -> None:
        super().__init__()
        mirror = 0.5 if flips else 0.0
        self.geometry_view = geometry_view or view(
            horizontal_flip=mirror, vertical_flip=mirror, rotation=30, scale=(0.8, 1.3), translation=0.1
        )
        self.student_view = student_view or view(
            brightness=0.3, contrast=0.3, saturation=0.3, hue=0.02, blur_probability=0.2
        )

    def forward(self, student: nn.Module, teacher: nn.Module | None, image: Tensor) -> ObjectiveOutput:
        """See Objective."""
        if teacher is None:
            raise ValueError("MeanTeacherObjective needs a teacher: give the trainer an EMATeacher.")
        seen = self.geometry_view(image)
        valid = seen.valid()
        image = seen.image
        with torch.no_grad():
            target = torch.softmax(teacher(image).float(), dim=1)
        answer = torch.softmax(student(self.student_view(image).image).float(), dim=1)
        lesion = masked_mean(target.argmax(1, keepdim=True).ne(0).float(), valid)
        return ObjectiveOutput(masked_mse(answer, target, valid), lesion, torch.ones_like(lesion))
