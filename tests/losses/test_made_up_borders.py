"""Pixels that come from no frame teach nothing, and are not counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from scripts.losses.less_net import LessNetObjective
from scripts.losses.mean_teacher import MeanTeacherObjective
from scripts.losses.weak_to_strong import WeakToStrongObjective
from scripts.transforms import view


@pytest.mark.parametrize("kind", [MeanTeacherObjective, WeakToStrongObjective])
def test_only_pixels_of_the_frame_count(red_student: Callable[..., nn.Module], kind: type) -> None:
    """Zoomed out to a half, three quarters of a view are made up: black, so surely background to the teacher."""
    zoomed = view(scale=(0.5, 0.5))
    quiet = {"student_view": view()} if kind is MeanTeacherObjective else {"cutmix": 0.0, "complementary_dropout": 0.0}
    name = "geometry_view" if kind is MeanTeacherObjective else "weak_view"
    objective = kind(**{name: zoomed}, **quiet)
    lesion = torch.ones(2, 3, 64, 64)
    output = objective(red_student(40.0), red_student(40.0), lesion)
    # All of the frame is lesion. Counting the made-up border, it would be a quarter of the view.
    assert float(output.lesion_share) == pytest.approx(1.0, abs=1e-3)
    assert float(output.confident_share) == pytest.approx(1.0, abs=1e-3)


def test_space_of_features_needs_frames_that_are_not_padded(red_student: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"multiples of 32.*found 65x97"):
        LessNetObjective(space="features")(red_student(), None, torch.rand(2, 3, 65, 97))
