"""A student beside its teacher, with the heads by which they are compared and which are dropped afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .frozen_teacher import FrozenTeacher
from .severity import PictureEncoder


@dataclass
class Matched:
    """What student and teacher see in the same pictures.

    Attributes:
        student, teacher: maps (B, C_i, h_i, w_i), one pair for each stride that both have, from fine to coarse.
        student_logits, teacher_logits: (B, K); None where the teacher has no classifier.
    """

    student: list[Tensor]
    teacher: list[Tensor]
    student_logits: Tensor | None = None
    teacher_logits: Tensor | None = None


class DistillationNetwork(nn.Module):
    """A student with a 1x1 adapter for each stride, and a linear classifier, beside its teacher.

    The heads are no part of the student: ``student.state_dict()`` is what a training goes on with.

    Args:
        student: PictureEncoder; not copied.
        teacher: FrozenTeacher; not copied.

    Attributes:
        strides: those that both have, whose maps are compared.
        heads: adapters and classifier.
        encoder: the student's, for parameter groups.
        encoder_weights_report: the student's, with the teacher's as ``teacher``.

    Shape:
        input (B, 3, H, W) in 0..1, H and W multiples of 32; output Matched.

    Raises:
        ValueError: student and teacher have no stride in common.
    """

    def __init__(self, student: PictureEncoder, teacher: FrozenTeacher) -> None:
        super().__init__()
        own, others = student.encoder.reductions, teacher.encoder.reductions
        self.strides = [stride for stride in own if stride in others]
        if not self.strides:
            raise ValueError(
                f"the student's maps have the strides {own}, the teacher's {others}: none is common, so that no map "
                "can be compared; choose another backbone or teacher_backbone, for example mobilevit_xxs and "
                "mobilenetv2_100"
            )
        self.student = student
        self.teacher = teacher
        self._places = [(own.index(stride), others.index(stride)) for stride in self.strides]
        channels = [(student.encoder.channels[i], teacher.encoder.channels[j]) for i, j in self._places]
        self.heads = nn.ModuleDict({"adapters": nn.ModuleList(nn.Conv2d(one, other, 1) for one, other in channels)})
        if teacher.classes:
            self.heads["classifier"] = nn.Linear(student.length, teacher.classes)
        self.to(next(student.parameters()).device)

    @property
    def encoder(self) -> nn.Module:
        return self.student.encoder

    @property
    def encoder_weights_report(self) -> dict[str, Any]:
        return {**self.student.encoder_weights_report, "teacher": self.teacher.weights_report}

    def forward(self, image: Tensor) -> Matched:
        """Maps and logits of both."""
        taps, (seen, teacher_logits) = self.student.maps(image), self.teacher(image)
        adapters = self.heads["adapters"]
        maps = [adapter(taps[i]) for adapter, (i, _) in zip(adapters, self._places, strict=True)]
        matched = Matched(maps, [seen[j] for _, j in self._places], teacher_logits=teacher_logits)
        if teacher_logits is not None:
            matched.student_logits = self.heads["classifier"](taps[-1].mean(dim=(2, 3)))
        return matched
