"""How far a student agrees with its teacher on the validation split, as inferer and metric of a MONAI evaluator."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from scripts.losses.feature_matching import feature_similarity
from scripts.networks.distillation import DistillationNetwork


class TeacherAgreementInferer(Inferer):
    """Compares student and teacher on each picture.

    Maps are standardised over the batch, as in training, so that the figures depend a little on how many pictures it
    holds.
    """

    def __call__(self, inputs: Tensor, network: DistillationNetwork, *args: Any, **kwargs: Any) -> Tensor:
        """Pictures (B, 3, H, W) in 0..1 -> (B, 2): cosine similarity of the maps, -1..1; 1 = the same top class, else
        0, NaN where the teacher has no classifier.
        """
        matched = network(inputs)
        similarity = feature_similarity(matched.student, matched.teacher)
        if matched.teacher_logits is None or matched.student_logits is None:
            agreement = torch.full_like(similarity, torch.nan)
        else:
            same = matched.student_logits.argmax(dim=1) == matched.teacher_logits.argmax(dim=1)
            agreement = same.to(similarity.dtype)
        return torch.stack([similarity, agreement], dim=1)


class TeacherAgreement(Metric):
    """Mean similarity of the maps; the share of equal top classes is left in the metrics as val_top1_agreement."""

    def reset(self) -> None:
        """Forget all pictures."""
        self.found: list[Tensor] = []

    def update(self, output: list[dict[str, Tensor]]) -> None:
        """Add pictures: outputs with "pred" (2,), see TeacherAgreementInferer."""
        self.found += [item[Keys.PRED].detach().float().cpu().flatten() for item in output]

    def compute(self) -> float:
        """The mean similarity.

        Raises:
            ValueError: no picture was seen.
        """
        if not self.found:
            raise ValueError("no frame of validation was seen; expected at least one, to compare the student on")
        self.similarity, self.agreement = torch.stack(self.found).mean(dim=0).tolist()
        return self.similarity

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the share of equal top classes beside the similarity, where there are classes."""
        super().completed(engine, name)
        if self.agreement == self.agreement:
            engine.state.metrics["val_top1_agreement"] = self.agreement
