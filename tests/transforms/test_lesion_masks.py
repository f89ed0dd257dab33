"""Masks of all frames: the same as frame by frame, column first, and right by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.transforms import LesionMasksd, RestoreLesionProbabilityd
from scripts.transforms.frames import CHUNK, binary_entropy


def logits(frames: int, height: int, width: int, classes: int = 2) -> torch.Tensor:
    return torch.randn(classes, frames, height, width, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("frames", [1, 3, CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize(("small", "size"), [((7, 5), (13, 29)), ((16, 16), (16, 16)), ((32, 24), (9, 31))])
@pytest.mark.parametrize("classes", [2, 3])
def test_agrees_with_frame_by_frame(frames: int, small: tuple[int, int], size: tuple[int, int], classes: int) -> None:
    scores = logits(frames, *small, classes)
    masks = LesionMasksd(threshold=0.3, temperature=1.7, probability_key="p", uncertainty_key="u")
    found = masks({"pred": scores.clone(), "original_size": torch.tensor(size)})
    assert found["pred"].shape == found["p"].shape == found["u"].shape == (1, size[1], size[0], frames)
    assert found["pred"].dtype == torch.uint8 and found["p"].dtype == found["u"].dtype == torch.float32
    one = RestoreLesionProbabilityd(keys="pred", temperature=1.7)
    for number in range(frames):
        expected = one({"pred": scores[:, number].clone(), "original_size": torch.tensor(size)})["pred"][0]
        torch.testing.assert_close(found["p"][0, :, :, number].T, expected, atol=1e-6, rtol=0)
        far = (expected - 0.3).abs() > 1e-6
        assert torch.equal(found["pred"][0, :, :, number].T[far], (expected > 0.3).to(torch.uint8)[far])
        p = expected.double().clamp(1e-12, 1 - 1e-12)
        bits = -(p * p.log2() + (1 - p) * (1 - p).log2())
        torch.testing.assert_close(found["u"][0, :, :, number].T.double(), bits, atol=1e-4, rtol=0)


def test_column_first_by_hand() -> None:
    """Two frames of 2 x 3 pixels at the network's own size: lesion where the second logit is larger."""
    scores = torch.zeros(2, 2, 2, 3)
    scores[1] = -4
    scores[1, 0, 0, 2] = scores[1, 1, 1, 0] = 4
    found = LesionMasksd()({"pred": scores, "original_size": torch.tensor([2, 3])})["pred"]
    assert found.shape == (1, 3, 2, 2) and found.nonzero().tolist() == [[0, 0, 1, 1], [0, 2, 0, 0]]


def test_one_frame_without_a_frame_axis() -> None:
    scores = logits(1, 6, 5)
    data = {"original_size": torch.tensor([11, 7])}
    assert torch.equal(
        LesionMasksd()({"pred": scores[:, 0], **data})["pred"], LesionMasksd()({"pred": scores, **data})["pred"]
    )


def test_threshold_is_exclusive_and_maps_are_optional() -> None:
    scores = torch.zeros(2, 1, 2, 2)  # probability 0.5 everywhere
    data = {"pred": scores, "original_size": torch.tensor([2, 2])}
    found = LesionMasksd(threshold=0.5, uncertainty_key="u")(data)
    assert not found["pred"].any() and torch.equal(found["u"], torch.ones(1, 2, 2, 1))
    assert LesionMasksd(threshold=0.49)(data)["pred"].all()
    assert set(LesionMasksd()(data)) == {"pred", "original_size"}
    assert not scores.any()  # the input is left as it is


def test_entropy_by_hand() -> None:
    found = binary_entropy(torch.tensor([0.0, 1.0, 0.5, 0.25, 0.11]))
    np.testing.assert_allclose(found, [0, 0, 1, 0.811278, 0.499916], atol=1e-5)


def test_bad() -> None:
    with pytest.raises(ValueError, match="threshold is 1.5"):
        LesionMasksd(threshold=1.5)
    with pytest.raises(ValueError, match="temperature 0"):
        LesionMasksd(temperature=0)
    with pytest.raises(ValueError, match="need one key"):
        LesionMasksd(keys=["pred", "pred_flip"], uncertainty_key="u")
    size = {"original_size": torch.tensor([4, 4])}
    with pytest.raises(ValueError, match=r"pred is \(1, 2, 4, 4\); expected logits \(2, D, h, w\)"):
        LesionMasksd()({"pred": torch.zeros(1, 2, 4, 4), **size})
    for value in (torch.nan, torch.inf):
        broken = torch.zeros(2, 1, 4, 4)
        broken[:, 0, 1, 1] = value
        with pytest.raises(ValueError, match="not finite"):
            LesionMasksd()({"pred": broken, **size})
