"""Losses of severity: by hand, against loops, and what their gradients do."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional

from scripts.losses import (
    GlobalContrastiveLoss,
    GradedViews,
    NTXentLoss,
    PairMarginLoss,
    SemiseLoss,
    SeverityPreferenceLoss,
    SupervisedContrastiveLoss,
    build_severity_objective,
)

NAN = float("nan")


def turned(*degrees: float) -> torch.Tensor:
    """Vectors (B, 2) at these angles from (1, 0), of different lengths."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1) * torch.arange(1, len(degrees) + 1)[:, None]


HEALTHY = torch.tensor([3.0, 0.0], dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


class TestPairMargin:
    def test_by_hand(self):
        # healthy 0 deg, healthy 60 deg, anomalous 90 deg: d = .5 (same), 1 and 1 - cos 30 (mixed, margin 1).
        loss = PairMarginLoss(1.0, balanced=False)(turned(0, 60, 90), torch.tensor([False, False, True]))
        near = 1 - math.cos(math.radians(30))
        assert loss.item() == pytest.approx((0.25 + 0 + (1 - near) ** 2) / (2 * 3), abs=1e-12)

    def test_balanced_by_hand(self):
        # No pair of anomalous ones: healthy pairs 1/3, mixed pairs 2/3 of the weight.
        loss = PairMarginLoss(1.0)(turned(0, 60, 90), torch.tensor([False, False, True]))
        near = 1 - math.cos(math.radians(30))
        assert loss.item() == pytest.approx(0.5 * (0.25 / 3 + 2 / 3 * (0 + (1 - near) ** 2) / 2), abs=1e-12)

    def test_balance_does_not_depend_on_how_many_there_are(self):
        kinds = torch.tensor([False, True, True])
        few = PairMarginLoss()(turned(0, 40, 40), kinds)
        many = PairMarginLoss()(turned(0, 0, 0, 0, 40, 40), torch.tensor([False] * 4 + [True] * 2))
        # Pairs of one kind cost nothing in either; the mixed pairs have 2/3 (no healthy pair) and 1/2 of the weight.
        assert (few / (2 / 3)).item() == pytest.approx((many / (1 / 2)).item(), abs=1e-12)

    def test_nothing_is_left_to_do_when_the_kinds_are_at_right_angles(self):
        assert PairMarginLoss()(turned(0, 0, 90, 90), torch.tensor([0, 0, 1, 1]).bool()).item() == pytest.approx(0.0)
        assert PairMarginLoss(2.0)(turned(0, 0, 180, 180), torch.tensor([0, 0, 1, 1]).bool()).item() == pytest.approx(0)

    def test_one_picture_is_a_zero_with_gradient(self):
        one = torch.ones(1, 4, requires_grad=True)
        PairMarginLoss()(one, torch.tensor([True])).backward()
        assert torch.equal(one.grad, torch.zeros(1, 4))

    @pytest.mark.parametrize("margin", [0.0, 2.5])
    def test_bad_margin(self, margin):
        with pytest.raises(ValueError, match="margin is .* expected above 0 and up to 2"):
            PairMarginLoss(margin)

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"expected \(B, C\) and \(B,\)"):
            PairMarginLoss()(torch.ones(3, 2), torch.ones(2).bool())


class TestPreference:
    def test_by_hand(self):
        # d = 0, .5, 1 for severities 0, 2, 1: pairs (2 over 0), (1 over 0), (2 over 1), the last the wrong way round.
        loss = SeverityPreferenceLoss(beta=2.0)(turned(0, 60, 90), torch.tensor([0.0, 2.0, 1.0]), HEALTHY)
        assert loss.item() == pytest.approx((softplus(-1.0) + softplus(-2.0) + softplus(1.0)) / 3, abs=1e-12)

    def test_ties_patients_and_ungraded_are_left_out(self):
        severity = torch.tensor([1.0, 1.0, 3.0, NAN, 0.0])
        group = torch.tensor([1, 2, 1, 4, 5])
        loss = SeverityPreferenceLoss(beta=1.0)(turned(0, 60, 90, 120, 180), severity, HEALTHY, group)
        # (0, 4), (1, 4), (2, 1), (2, 4); 2 and 0 are of one patient.
        d = [0.0, 0.5, 1.0, None, 2.0]
        pairs = [(0, 4), (1, 4), (2, 1), (2, 4)]
        assert loss.item() == pytest.approx(sum(softplus(-(d[w] - d[x])) for w, x in pairs) / 4, abs=1e-12)

    def test_the_gradient_moves_the_severe_one_away_from_healthy(self):
        z = turned(30, 40).requires_grad_()
        reference = HEALTHY.clone().requires_grad_()
        SeverityPreferenceLoss()(z, torch.tensor([1.0, 0.0]), reference).backward()
        assert reference.grad is None, "healthy stays where it is"
        moved = (z - 0.1 * z.grad).detach()
        similarity = functional.cosine_similarity
        assert similarity(moved, HEALTHY[None])[0] < similarity(z, HEALTHY[None])[0]
        assert similarity(moved, HEALTHY[None])[1] > similarity(z, HEALTHY[None])[1]

    @pytest.mark.parametrize("severity", [[1.0, 1.0], [NAN, 2.0], [NAN, NAN]])
    def test_no_pair_is_a_zero_with_gradient(self, severity):
        z = turned(10, 50).requires_grad_()
        loss = SeverityPreferenceLoss()(z, torch.tensor(severity), HEALTHY)
        loss.backward()
        assert loss.item() == 0 and torch.equal(z.grad, torch.zeros_like(z))

    def test_at_beta_1_the_floor_is_0_127(self):
        # Healthy on top of the reference, severe opposite: as far apart as can be.
        loss = SeverityPreferenceLoss(beta=1.0)(turned(0, 180), torch.tensor([0.0, 1.0]), HEALTHY)
        assert loss.item() == pytest.approx(softplus(-2.0), abs=1e-9) and round(loss.item(), 3) == 0.127

    def test_an_order_is_learned(self):
        torch.manual_seed(0)
        pictures = torch.randn(60, 8)
        severity = (pictures[:, 0] * 2).round()  # a known order, along a direction of the input
        network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        reference = torch.randn(4)
        for _ in range(150):
            loss = SeverityPreferenceLoss()(network(pictures), severity, reference)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        new = torch.randn(200, 8)
        score = 1 - functional.cosine_similarity(network(new), reference[None])
        assert spearmanr(score.detach(), new[:, 0]).statistic > 0.95

    def test_half_precision_is_left(self):
        with torch.autocast("cpu", torch.bfloat16):
            half = SeverityPreferenceLoss()(turned(0, 60, 90).bfloat16(), torch.tensor([0.0, 2.0, 1.0]), HEALTHY)
        assert half.dtype == torch.float32

    def test_bad_input(self):
        with pytest.raises(ValueError, match="beta is 0; expected above 0"):
            SeverityPreferenceLoss(0)
        with pytest.raises(ValueError, match=r"reference \(3,\); expected"):
            SeverityPreferenceLoss()(turned(0, 1), torch.tensor([0.0, 1.0]), torch.ones(3))


class TestSupervisedContrast:
    def test_it_is_the_loop(self):
        torch.manual_seed(0)
        first, second = torch.randn(5, 6).double(), torch.randn(5, 6).double()
        grade = torch.tensor([0.0, 3.0, NAN, 3.0, NAN])
        unit = functional.normalize(torch.cat([first, second]), dim=1)
        names = [0, 3, "a", 3, "b"] * 2  # pictures without a grade have their other view alone
        total = 0.0
        for i in range(10):
            exponentials = {k: math.exp(float(unit[i] @ unit[k]) / 0.2) for k in range(10) if k != i}
            positives = [k for k in exponentials if names[k] == names[i]]
            share = math.log(sum(exponentials.values()))
            total += sum(share - math.log(exponentials[k]) for k in positives) / len(positives)
        found = SupervisedContrastiveLoss(0.2)(first, second, grade)
        assert found.item() == pytest.approx(total / 10, abs=1e-10)

    def test_without_grades_it_is_nt_xent(self):
        torch.manual_seed(0)
        first, second = torch.randn(2, 7, 6)
        found = SupervisedContrastiveLoss(0.5)(first, second, torch.full((7,), NAN))
        torch.testing.assert_close(found, NTXentLoss(0.5)(first, second))

    def test_bad_input(self):
        with pytest.raises(ValueError, match="temperature is -1"):
            SupervisedContrastiveLoss(-1)
        with pytest.raises(ValueError, match=r"grade \(3,\)"):
            SupervisedContrastiveLoss()(torch.ones(2, 4), torch.ones(2, 4), torch.ones(3))


def make_views(discriminating: bool = False, severity: list[float] | None = None) -> GradedViews:
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 4, dtype=torch.float64)
    severity = severity or [0.0, 0.0, 1.0, 2.0, NAN, 4.0]
    reference = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return GradedViews(
        first, second, torch.tensor(severity, dtype=torch.float64), torch.arange(6), reference, discriminating
    )


class TestSemise:
    def test_it_is_the_weighted_sum(self):
        views = make_views()
        arguments = (views.first, views.second, views.severity, views.reference)
        ntxent = GlobalContrastiveLoss(0.5)(views.first, views.second)
        preference = SeverityPreferenceLoss(5.0)(
            torch.cat([views.first, views.second]), views.severity.repeat(2), views.reference
        )
        for alpha in (0.0, 0.3, 1.0):
            loss = SemiseLoss(alpha)
            torch.testing.assert_close(loss(*arguments), alpha * ntxent + (1 - alpha) * preference)
            assert set(loss.terms) == {*(["ntxent"] if alpha > 0 else []), *(["preference"] if alpha < 1 else [])}

    @pytest.mark.parametrize(("name", "options"), [("simclr", None), ("supcon", None), ("semise", {"had": "ntxent"})])
    @pytest.mark.parametrize("discriminating", [True, False])
    def test_a_picture_that_is_drawn_twice_reaches_each_objective(self, name, options, discriminating):
        """Two pictures without a grade that are one: they are no negatives of each other."""
        views, objective = (
            make_views(discriminating, [0.0, 0.0, 1.0, 2.0, NAN, NAN]),
            build_severity_objective(name, options),
        )
        apart, _ = objective(views)
        views.picture = torch.tensor([0, 1, 2, 3, 4, 4])
        together, _ = objective(views)
        assert abs(apart - together) > 1e-3

    def test_the_two_views_of_a_patient_are_no_pair(self):
        views = make_views()
        alike = SemiseLoss(0.0)(views.first, views.second, views.severity, views.reference, torch.zeros(6))
        assert alike.item() == 0

    @pytest.mark.parametrize("alpha", [-0.1, 1.5])
    def test_bad_alpha(self, alpha):
        with pytest.raises(ValueError, match="alpha is .* expected 0..1"):
            SemiseLoss(alpha)


class TestObjectives:
    def test_the_first_phase_tells_healthy_from_anomalous(self):
        views = make_views(discriminating=True)
        graded = [0, 1, 2, 3, 5]
        both = torch.cat([views.first[graded], views.second[graded]])
        expected = PairMarginLoss(1.0)(both, torch.tensor([0, 0, 1, 1, 1] * 2).bool())
        torch.testing.assert_close(build_severity_objective("semise")(views)[0], expected)

    def test_the_other_reading_of_the_first_phase(self):
        views = make_views(discriminating=True)
        found = build_severity_objective("semise", {"had": "ntxent"})(views)[0]
        torch.testing.assert_close(found, NTXentLoss(0.5)(views.first, views.second))

    def test_the_second_phase_is_semise(self):
        loss, readings = build_severity_objective("semise", {"alpha": 0.25})(make_views())
        parts = 0.25 * readings["loss_ntxent"] + 0.75 * readings["loss_preference"]
        torch.testing.assert_close(loss, parts)

    def test_a_batch_without_grades_in_the_first_phase_is_a_zero(self):
        assert build_severity_objective("semise")(make_views(True, [NAN] * 6))[0].item() == 0

    def test_simclr_looks_at_no_grade(self):
        objective = build_severity_objective("simclr")
        assert objective(make_views())[0] == objective(make_views(severity=[NAN] * 6))[0]

    def test_supcon_of_shares_by_their_grades(self):
        grades, shares = [0.0, 0.0, 1.0, 2.0, NAN, 2.0], [0.0, 0.0, 0.01, 0.2, NAN, 0.9]
        by_grade = build_severity_objective("supcon")(make_views(severity=grades))[0]
        by_share = build_severity_objective("supcon", {"edges": [0.05]})(make_views(severity=shares))[0]
        torch.testing.assert_close(by_share, by_grade)

    def test_bad_options(self):
        with pytest.raises(ValueError, match="objective 'semisee' is unknown; did you mean 'semise'"):
            build_severity_objective("semisee")
        with pytest.raises(ValueError, match="has no option 'aplha'; did you mean 'alpha'"):
            build_severity_objective("semise", {"aplha": 0.1})
        with pytest.raises(ValueError, match="had is 'ntx'; expected 'pair_margin' or 'ntxent'"):
            build_severity_objective("semise", {"had": "ntx"})
        with pytest.raises(ValueError, match="edges are .* expected rising severities above 0"):
            build_severity_objective("supcon", {"edges": [0.1, 0.05]})
