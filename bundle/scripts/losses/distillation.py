"""What a student minimises: the distance to its teacher's maps and to its teacher's logits."""

from __future__ import annotations

from torch import Tensor, nn

from scripts.losses.feature_matching import FeatureMatchingLoss
from scripts.losses.logit_matching import LogitMatchingLoss
from scripts.networks.distillation import Matched


class DistillationLoss(nn.Module):
    """feature_weight * FeatureMatchingLoss + logit_weight * LogitMatchingLoss; what has the weight 0 is not computed.

    Args:
        feature_weight, logit_weight: >= 0, not both 0.
        temperature: of the logits.

    Raises:
        ValueError: options out of range; logits that are to be matched and are not there.
    """

    def __init__(self, feature_weight: float = 1.0, logit_weight: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        if min(feature_weight, logit_weight) < 0 or feature_weight + logit_weight == 0:
            raise ValueError(
                f"feature_weight is {feature_weight}, logit_weight is {logit_weight}; expected numbers of at least 0, "
                "one of them above 0."
            )
        self.feature_weight = feature_weight
        self.logit_weight = logit_weight
        self.features = FeatureMatchingLoss()
        self.logits = LogitMatchingLoss(temperature)

    def forward(self, matched: Matched) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss, and its terms before they are weighted as loss_features and loss_logits, detached."""
        terms, readings = [], {}
        if self.feature_weight:
            term = self.features(matched.student, matched.teacher)
            terms.append(self.feature_weight * term)
            readings["loss_features"] = term.detach()
        if self.logit_weight:
            if matched.student_logits is None or matched.teacher_logits is None:
                raise ValueError(
                    f"logit_weight is {self.logit_weight} and the teacher has no classifier: set logit_weight 0, or "
                    "give the teacher its classifier"
                )
            term = self.logits(matched.student_logits, matched.teacher_logits)
            terms.append(self.logit_weight * term)
            readings["loss_logits"] = term.detach()
        return sum(terms[1:], terms[0]), readings
