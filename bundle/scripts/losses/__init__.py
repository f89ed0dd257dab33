"""One published objective a file; ``build_objective`` finds them by the name used in configs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from scripts.losses.global_contrastive import GlobalContrastiveLoss
from scripts.losses.less_net import LessNetObjective
from scripts.losses.less_net_published import LessNetPublishedObjective
from scripts.losses.local_contrastive import SupervisedLocalContrastiveLoss
from scripts.losses.mean_teacher import MeanTeacherObjective
from scripts.losses.objective import Objective, ObjectiveOutput
from scripts.losses.supervised import supervised_loss
from scripts.losses.weak_to_strong import WeakToStrongObjective

OBJECTIVES: dict[str, type[Objective] | None] = {
    "supervised": None,
    "less_net": LessNetObjective,
    "less_net_published": LessNetPublishedObjective,
    "mean_teacher": MeanTeacherObjective,
    "weak_to_strong": WeakToStrongObjective,
}


def build_objective(name: str, options: Mapping[str, Any] | None = None) -> Objective | None:
    """The objective of that name; None for "supervised", which leaves the unlabelled frames alone.

    Args:
        name: a key of OBJECTIVES.
        options: arguments of the objective's class.

    Raises:
        ValueError: unknown name or option, with the nearest known one.
    """
    if name not in OBJECTIVES:
        near = get_close_matches(name, OBJECTIVES, n=1, cutoff=0)
        raise ValueError(f"objective '{name}' is unknown; did you mean '{near[0]}'? Known: {', '.join(OBJECTIVES)}.")
    factory = OBJECTIVES[name]
    known = [] if factory is None else list(inspect.signature(factory).parameters)
    for option in options or {}:
        if option not in known:
            near = get_close_matches(option, known, n=1, cutoff=0)
            hint = f"did you mean '{near[0]}'? It has: {', '.join(known)}." if near else "It has none."
            raise ValueError(f"objective '{name}' has no option '{option}'; {hint}")
    return None if factory is None else factory(**(options or {}))


__all__ = [
    "OBJECTIVES",
    "GlobalContrastiveLoss",
    "Objective",
    "ObjectiveOutput",
    "SupervisedLocalContrastiveLoss",
    "build_objective",
    "supervised_loss",
]
