"""Weights of pseudo-labels: a fixed threshold, and SoftMatch against a naive numpy version of its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.losses.confidence import FixedThreshold, SoftMatch, confidence_weighting


class NumpySoftMatch:
    """Chen et al. 2023: mu <- m mu + (1 - m) mean, var <- m var + (1 - m) var(unbiased), for each class apart."""

    def __init__(self, classes: int, momentum: float, sigmas: float) -> None:
        self.mean, self.variance = [1 / classes] * classes, [1.0] * classes
        self.momentum, self.sigmas = momentum, sigmas

    def __call__(self, confidence: np.ndarray, label: np.ndarray) -> np.ndarray:
        for index in range(len(self.mean)):
            values = confidence[label == index].astype(float)
            if len(values) > 1:
                variance = ((values - values.mean()) ** 2).sum() / (len(values) - 1)
                self.mean[index] = self.momentum * self.mean[index] + (1 - self.momentum) * values.mean()
                self.variance[index] = self.momentum * self.variance[index] + (1 - self.momentum) * variance
        weight = np.ones_like(confidence, dtype=float)
        for place, value in np.ndenumerate(confidence):
            mean, variance = self.mean[label[place]], self.variance[label[place]]
            if value < mean:
                weight[place] = np.exp(-((value - mean) ** 2) / (2 * variance / self.sigmas**2))
        return weight


def test_threshold_counts_from_its_value_on() -> None:
    confidence = torch.tensor([[[0.5, 0.7499, 0.75, 0.99]]])
    weight = FixedThreshold(0.75)(confidence, torch.zeros(1, 1, 4, dtype=torch.long))
    assert weight.tolist() == [[[0.0, 0.0, 1.0, 1.0]]] and weight.dtype == confidence.dtype


@pytest.mark.parametrize("threshold", [0.49, 0.0, -1.0, 1.0, 95.0, float("nan")])
def test_threshold_out_of_bounds(threshold: float) -> None:
    with pytest.raises(ValueError, match="expected 0.5 <= threshold < 1"):
        FixedThreshold(threshold)
    with pytest.raises(ValueError, match="expected 0.5 <= threshold < 1"):
        confidence_weighting("fixed", threshold)


def test_threshold_at_its_bounds() -> None:
    assert FixedThreshold(0.5).threshold == 0.5 and FixedThreshold(0.999).threshold == 0.999


def test_softmatch_by_hand() -> None:
    weighting = SoftMatch(momentum=0.99, sigmas=2.0).eval()
    weighting.mean.copy_(torch.tensor([0.9, 0.7]))
    weighting.variance.copy_(torch.tensor([0.02, 0.08]))
    confidence = torch.tensor([[[0.95, 0.8, 0.8, 0.5]]])
    label = torch.tensor([[[0, 0, 1, 1]]])
    # Above the mean 1; exp(-4 * .1^2 / .04) = e^-1; above 1; exp(-4 * .2^2 / .16) = e^-1.
    expected = torch.tensor([[[1.0, 0.36788, 1.0, 0.36788]]])
    torch.testing.assert_close(weighting(confidence, label), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("classes", "momentum", "sigmas"), [(2, 0.99, 2.0), (2, 0.5, 1.0), (3, 0.9, 3.0)])
def test_softmatch_like_numpy(classes: int, momentum: float, sigmas: float) -> None:
    weighting = SoftMatch(classes, momentum, sigmas).train()
    reference = NumpySoftMatch(classes, momentum, sigmas)
    for _ in range(6):
        confidence, label = 0.5 + torch.rand(2, 8, 8) / 2, torch.randint(0, classes, (2, 8, 8))
        weight = weighting(confidence, label)
        expected = reference(confidence.numpy(), label.numpy())
        np.testing.assert_allclose(weight.numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(weighting.mean.numpy(), reference.mean, atol=1e-5)
        np.testing.assert_allclose(weighting.variance.numpy(), reference.variance, atol=1e-5)
    assert 0 < weight.min() < 1


def test_softmatch_moments_by_hand() -> None:
    weighting = SoftMatch(momentum=0.9).train()
    confidence = torch.tensor([[[0.6, 0.8, 0.9, 0.9]]])
    weighting(confidence, torch.tensor([[[0, 0, 0, 1]]]))
    # Class 0: mean 23/30, unbiased variance 7/300; class 1 has one pixel, which has no variance: left alone.
    assert weighting.mean.tolist() == pytest.approx([0.9 * 0.5 + 0.1 * 23 / 30, 0.5])
    assert weighting.variance.tolist() == pytest.approx([0.9 + 0.1 * 7 / 300, 1.0])


def test_made_up_pixels_do_not_move_softmatch() -> None:
    confidence, label = torch.tensor([[[0.6, 0.8, 0.9]]]), torch.zeros(1, 1, 3, dtype=torch.long)
    padded = torch.cat([confidence, torch.full((1, 1, 5), 0.999)], 2), torch.zeros(1, 1, 8, dtype=torch.long)
    plain, bordered = SoftMatch().train(), SoftMatch().train()
    weight = plain(confidence, label)
    found = bordered(*padded, valid=torch.tensor([[[1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]))
    torch.testing.assert_close(bordered.mean, plain.mean)
    torch.testing.assert_close(bordered.variance, plain.variance)
    torch.testing.assert_close(found[..., :3], weight)


def test_softmatch_moves_in_training_mode_only() -> None:
    weighting = SoftMatch()
    confidence, label = torch.rand(1, 8, 8), torch.randint(0, 2, (1, 8, 8))
    weighting.eval()(confidence, label)
    assert weighting.mean.tolist() == [0.5, 0.5] and weighting.variance.tolist() == [1.0, 1.0]
    weighting.train()(confidence, label)
    assert weighting.mean.tolist() != [0.5, 0.5]


def test_softmatch_state_round_trip() -> None:
    first = SoftMatch()
    for _ in range(3):
        first(0.5 + torch.rand(1, 8, 8) / 2, torch.randint(0, 2, (1, 8, 8)))
    second = SoftMatch()
    second.load_state_dict(first.state_dict())
    confidence, label = torch.rand(1, 8, 8), torch.randint(0, 2, (1, 8, 8))
    assert torch.equal(first(confidence, label), second(confidence, label))
    assert set(first.state_dict()) == {"mean", "variance"}


def test_softmatch_has_no_zero_variance() -> None:
    weighting = SoftMatch(momentum=0.0)
    weight = weighting(torch.full((1, 4, 4), 0.9), torch.zeros(1, 4, 4, dtype=torch.long))
    assert weight.isfinite().all() and weight.min() >= 0


def test_by_name() -> None:
    assert confidence_weighting("fixed", 0.7).threshold == 0.7
    assert isinstance(confidence_weighting("softmatch"), SoftMatch)
    with pytest.raises(ValueError, match="'freematch' is unknown; expected 'fixed' or 'softmatch'"):
        confidence_weighting("freematch")
