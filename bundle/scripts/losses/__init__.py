"""One published objective a file; ``build_objective`` finds them by the name used in configs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from scripts.losses.distillation import DistillationLoss
from scripts.losses.feature_matching import FeatureMatchingLoss, feature_similarity
from scripts.losses.global_contrastive import GlobalContrastiveLoss
from scripts.losses.grading import grade_loss
from scripts.losses.less_net import LessNetObjective
from scripts.losses.less_net_published import LessNetPublishedObjective
from scripts.losses.local_contrastive import SupervisedLocalContrastiveLoss
from scripts.losses.logit_matching import LogitMatchingLoss
from scripts.losses.mean_teacher import MeanTeacherObjective
from scripts.losses.named import build_named
from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.losses.pair_margin import PairMarginLoss
from scripts.losses.pseudo_labels import PseudoLabelObjective
from scripts.losses.semise import SemiseLoss
from scripts.losses.severity_objective import GradedViews, build_severity_objective
from scripts.losses.severity_preference import SeverityPreferenceLoss
from scripts.losses.supervised import supervised_loss
from scripts.losses.supervised_contrastive import SupervisedContrastiveLoss
from scripts.losses.weak_to_strong import WeakToStrongObjective

OBJECTIVES: dict[str, type[Objective] | None] = {
    "supervised": None,
    "less_net": LessNetObjective,
    "less_net_published": LessNetPublishedObjective,
    "mean_teacher": MeanTeacherObjective,
    "weak_to_strong": WeakToStrongObjective,
    "pseudo_labels": PseudoLabelObjective,
}


def build_objective(
    name: str, options: Mapping[str, Any] | None = None, classes: int = 2, flips: bool = True
) -> Objective | None:
    """The objective of that name; None for "supervised", which leaves the unlabelled frames alone.

    Args:
        name: a key of OBJECTIVES.
        options: arguments of the objective's class.
        classes: how many the network tells apart, for objectives that keep something for each.
        flips: whether random views may mirror frames, for objectives that make their own.

    Raises:
        ValueError: unknown name or option, with the nearest known one.
    """
    objective = OBJECTIVES.get(name)
    if objective is not None:
        taken = inspect.signature(objective).parameters
        options = {
            **{option: value for option, value in (("classes", classes), ("flips", flips)) if option in taken},
            **(options or {}),
        }
    return build_named(name, OBJECTIVES, options)


#: the name that the field has for it
NTXentLoss = GlobalContrastiveLoss

__all__ = [
    "OBJECTIVES",
    "DistillationLoss",
    "FeatureMatchingLoss",
    "GlobalContrastiveLoss",
    "GradedViews",
    "LogitMatchingLoss",
    "NTXentLoss",
    "Objective",
    "ObjectiveOutput",
    "PairMarginLoss",
    "SemiseLoss",
    "SeverityPreferenceLoss",
    "SupervisedContrastiveLoss",
    "SupervisedLocalContrastiveLoss",
    "build_objective",
    "build_severity_objective",
    "feature_similarity",
    "grade_loss",
    "supervised_loss",
]
