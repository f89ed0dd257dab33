"""The moving average against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scripts.engines.teacher import EMATeacher


def make_student() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))


def set_values(student: nn.Sequential, weight: float, mean: float, count: int) -> None:
    with torch.no_grad():
        student[0].weight.fill_(weight)
        student[1].running_mean.fill_(mean)
        student[1].num_batches_tracked.fill_(count)


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        # d = 0, 1/2, 2/3: 4; (4 + 8) / 2 = 6; 6 * 2/3 + 12 / 3 = 8
        (0.99, [4.0, 6.0, 8.0]),
        # d = 0, 1/2, 0.6: the last is 6 * 0.6 + 12 * 0.4
        (0.6, [4.0, 6.0, 8.4]),
        (0.0, [4.0, 8.0, 12.0]),
    ],
)
def test_weights_and_buffers_by_hand(decay: float, expected: list[float]) -> None:
    student = make_student()
    teacher = EMATeacher(student, decay)
    for step, value in enumerate(expected):
        set_values(student, weight=4.0 * (step + 1), mean=-4.0 * (step + 1), count=7 * (step + 1))
        teacher.update(student)
        assert float(teacher.network[0].weight) == pytest.approx(value)
        assert float(teacher.network[1].running_mean) == pytest.approx(-value), "buffers move like weights"
        assert int(teacher.network[1].num_batches_tracked) == 7 * (step + 1), "counters are copied"
        assert int(teacher.updates) == step + 1


def test_student_is_neither_shared_nor_changed() -> None:
    student = make_student().train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    teacher = EMATeacher(student)
    assert student.training and all(parameter.requires_grad for parameter in student.parameters())
    teacher.update(student)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    set_values(student, weight=100.0, mean=100.0, count=1)
    assert float(teacher.network[0].weight) != 100.0


def test_always_in_eval_mode_and_without_gradient() -> None:
    teacher = EMATeacher(make_student()).train()
    assert not any(module.training for module in teacher.modules())
    nn.ModuleList([teacher]).train()
    assert not teacher.network[1].training
    mean = teacher.network[1].running_mean.clone()
    answer = teacher(torch.randn(8, 1) + 5.0)
    assert not answer.requires_grad
    assert torch.equal(mean, teacher.network[1].running_mean), "its own BatchNorm statistics do not move"


def test_state_goes_on_where_it_was() -> None:
    student = make_student()
    teacher = EMATeacher(student, 0.9)
    for _ in range(3):
        teacher.update(student)
    other = EMATeacher(make_student(), 0.9)
    other.load_state_dict(teacher.state_dict())
    set_values(student, 50.0, 50.0, 5)
    for one in (teacher, other):
        one.update(student)
    assert int(other.updates) == 4
    assert torch.equal(other.network[0].weight, teacher.network[0].weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay is {decay}; expected"):
        EMATeacher(make_student(), decay)
