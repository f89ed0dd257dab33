"""BatchNorm's running statistics: what counts in them, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from scripts.losses.statistics import untracked_statistics
from scripts.losses.weak_to_strong import WeakToStrongObjective
from scripts.transforms import view


class NormalisedStudent(nn.Module):
    """Red, green and blue by BatchNorm; lesion where red is above its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, momentum=0.5)

    def encode(self, x: Tensor) -> list[Tensor]:
        return [self.norm(x)]

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        red = 4.0 * features[0][:, :1]
        return torch.cat([-red, red], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), (x.shape[-2], x.shape[-1]))


def test_untracked_batches_are_normalised_by_themselves_and_leave_no_trace() -> None:
    layer = nn.BatchNorm2d(1, momentum=0.5)
    batch = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    with untracked_statistics(layer):
        answer = layer(batch)
    assert answer.flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-4), "mean 2, deviation 1"
    assert (float(layer.running_mean), float(layer.running_var), int(layer.num_batches_tracked)) == (0.0, 1.0, 0)
    layer(batch)
    assert (float(layer.running_mean), int(layer.num_batches_tracked)) == (1.0, 1), "tracked again: half of 0 and of 2"


def test_statistics_are_tracked_again_after_an_error_and_layers_without_them_stay_so() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1, track_running_stats=False))
    with pytest.raises(RuntimeError, match="spoilt"), untracked_statistics(network):
        raise RuntimeError("spoilt")
    assert [layer.track_running_stats for layer in network] == [True, False]


@pytest.mark.parametrize("counted", [True, False])
def test_strong_views_count_in_the_statistics_only_where_wanted(counted: bool, frames: Tensor) -> None:
    darker: Callable = view(brightness=0.5, jitter_probability=1.0)
    objective = WeakToStrongObjective(
        strong_statistics=counted, cutmix=0.0, complementary_dropout=0.0, weak_view=view(), strong_view=darker
    )
    student, teacher = NormalisedStudent().train(), NormalisedStudent().eval()
    loss = objective(student, teacher, frames).loss
    loss.backward()
    assert student.norm.weight.grad.abs().sum() > 0
    assert int(student.norm.num_batches_tracked) == int(counted)
    assert student.norm.running_mean.eq(0).all() == (not counted)
