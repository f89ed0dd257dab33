"""Matching of maps and logits: by hand, against loops, and where nothing is left to learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scripts.losses import DistillationLoss, FeatureMatchingLoss, LogitMatchingLoss, feature_similarity
from scripts.networks import Matched


def maps(seed: int = 0, batch: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 4, 4, 6, generator=generator), torch.randn(batch, 5, 2, 3, generator=generator)]


def naive_similarity(student: list[Tensor], teacher: list[Tensor]) -> list[float]:
    """By loops over pictures, strides and pixels, in Python's numbers."""

    def standardised(values: Tensor) -> list[list[list[list[float]]]]:
        result = values.double().tolist()
        for channel in range(values.shape[1]):
            every = [value for picture in result for row in picture[channel] for value in row]
            mean = sum(every) / len(every)
            deviation = math.sqrt(sum((value - mean) ** 2 for value in every) / len(every))
            for picture in result:
                picture[channel] = [[(value - mean) / deviation for value in row] for row in picture[channel]]
        return result

    similarities = [0.0] * len(student[0])
    for one, other in zip(student, teacher, strict=True):
        first, second = standardised(one), standardised(other)
        _, channels, height, width = one.shape
        for picture in range(len(one)):
            for row in range(height):
                for column in range(width):
                    a = [first[picture][channel][row][column] for channel in range(channels)]
                    b = [second[picture][channel][row][column] for channel in range(channels)]
                    dot = sum(x * y for x, y in zip(a, b, strict=True))
                    length = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
                    similarities[picture] += dot / length / (height * width) / len(student)
    return similarities


class TestFeatureMatching:
    def test_by_hand(self) -> None:
        # One channel of two pixels: standardised -1 and 1, whatever its numbers were.
        student, teacher = torch.tensor([[[[3.0, 7.0]]]]), torch.tensor([[[[100.0, 900.0]]]])
        assert FeatureMatchingLoss()([student], [teacher]).item() == pytest.approx(0.0, abs=1e-6)
        assert FeatureMatchingLoss()([student], [-teacher]).item() == pytest.approx(2.0, abs=1e-6)
        # Two channels, (-1, 1) and (-1, 1) against (-1, 1) and (1, -1): at right angles in both pixels.
        student, teacher = torch.tensor([[[[0.0, 1.0]], [[0.0, 1.0]]]]), torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])
        assert FeatureMatchingLoss()([student], [teacher]).item() == pytest.approx(1.0, abs=1e-6)
        # Two strides, one equal and one opposite: their mean.
        loss = FeatureMatchingLoss()([student, teacher], [student, -teacher])
        assert loss.item() == pytest.approx(1.0, abs=1e-6)

    def test_it_is_the_loop(self) -> None:
        found = feature_similarity(maps(0), maps(1))
        assert found.tolist() == pytest.approx(naive_similarity(maps(0), maps(1)), abs=1e-5)
        assert FeatureMatchingLoss()(maps(0), maps(1)).item() == pytest.approx(1 - found.mean().item(), abs=1e-6)

    def test_scale_and_offset_of_a_channel_do_not_count(self) -> None:
        moved = [one * torch.tensor(10.0) ** torch.arange(one.shape[1]).view(-1, 1, 1) - 7 for one in maps(1)]
        expected = FeatureMatchingLoss()(maps(0), maps(1))
        torch.testing.assert_close(FeatureMatchingLoss()(maps(0), moved), expected, atol=1e-4, rtol=0)

    def test_a_student_that_equals_its_teacher_has_nothing_to_learn(self) -> None:
        student = [one.requires_grad_() for one in maps(2)]
        loss = FeatureMatchingLoss()(student, maps(2))
        loss.backward()
        assert loss.item() == pytest.approx(0.0, abs=1e-6)
        assert all(one.grad.abs().max() < 1e-5 for one in student)

    def test_a_map_that_says_nothing_is_worth_chance(self) -> None:
        constant = [torch.full_like(one, 3.0).requires_grad_() for one in maps(0)]
        loss = FeatureMatchingLoss()(constant, maps(0))
        loss.backward()
        assert loss.item() == pytest.approx(1.0) and all(one.grad.isfinite().all() for one in constant)

    def test_half_precision_is_computed_in_float(self) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = FeatureMatchingLoss()([one.bfloat16() for one in maps(0)], [one.bfloat16() for one in maps(1)])
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, FeatureMatchingLoss()(maps(0), maps(1)), atol=0.01, rtol=0)

    @pytest.mark.parametrize("student", [[], maps()[:1], [one[:, :, :1] for one in maps()]])
    def test_maps_that_do_not_fit(self, student: list[Tensor]) -> None:
        with pytest.raises(ValueError, match="expected the same shapes.*--image_size to a multiple of 32"):
            FeatureMatchingLoss()(student, maps() if student else [])


class TestLogitMatching:
    def test_by_hand(self) -> None:
        # At T = 2 the teacher says (3/4, 1/4), the student (1/2, 1/2).
        student, teacher = torch.zeros(1, 2), torch.tensor([[2 * math.log(3.0), 0.0]])
        expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
        assert LogitMatchingLoss(2.0)(student, teacher).item() == pytest.approx(expected, abs=1e-6)
        assert LogitMatchingLoss(2.0)(student.repeat(5, 1), teacher.repeat(5, 1)).item() == pytest.approx(expected)

    def test_equal_logits_cost_nothing_and_others_do(self) -> None:
        torch.manual_seed(0)
        one, other = torch.randn(2, 6, 10).unbind()
        assert LogitMatchingLoss()(one, one + 5).item() == pytest.approx(0.0, abs=1e-5), "an offset changes nothing"
        assert LogitMatchingLoss()(one, other) > 0

    def test_at_a_high_temperature_it_is_the_squared_distance(self) -> None:
        """Hinton et al. 2015, eq. 4: of logits with mean 0, half the mean square over classes."""
        torch.manual_seed(0)
        one, other = (z - z.mean(dim=1, keepdim=True) for z in torch.randn(2, 6, 10).double().unbind())
        expected = 0.5 * (one - other).square().mean(dim=1).mean()
        torch.testing.assert_close(LogitMatchingLoss(1000.0)(one, other), expected, rtol=0.01, atol=0)

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match="temperature is 0; expected a number above 0"):
            LogitMatchingLoss(0)
        with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\); expected \(B, K\) twice"):
            LogitMatchingLoss()(torch.zeros(2, 3), torch.zeros(2, 4))


class TestDistillationLoss:
    def test_it_is_the_weighted_sum(self) -> None:
        torch.manual_seed(0)
        matched = Matched(maps(0), maps(1), *torch.randn(2, 3, 7).unbind())
        loss, readings = DistillationLoss(2.0, 0.5, temperature=3.0)(matched)
        features = FeatureMatchingLoss()(matched.student, matched.teacher)
        logits = LogitMatchingLoss(3.0)(matched.student_logits, matched.teacher_logits)
        torch.testing.assert_close(loss, 2 * features + 0.5 * logits)
        assert readings == {"loss_features": features, "loss_logits": logits}

    def test_what_has_no_weight_is_not_computed(self) -> None:
        loss, readings = DistillationLoss(1.0, 0.0)(Matched(maps(0), maps(1)))
        assert list(readings) == ["loss_features"] and loss == readings["loss_features"]
        loss, readings = DistillationLoss(0.0, 1.0)(Matched([], [], torch.zeros(1, 2), torch.ones(1, 2)))
        assert list(readings) == ["loss_logits"] and loss.item() == pytest.approx(0.0, abs=1e-6)

    @pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 2.0)])
    def test_bad_weights(self, weights: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="expected numbers of at least 0, one of them above 0"):
            DistillationLoss(*weights)

    def test_logits_that_are_not_there(self) -> None:
        with pytest.raises(ValueError, match="teacher has no classifier: set logit_weight 0"):
            DistillationLoss()(Matched(maps(0), maps(1)))
