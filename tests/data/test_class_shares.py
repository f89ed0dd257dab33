"""Shares of the classes in masks, by hand."""

from __future__ import annotations

import pytest
import torch

from scripts.data.class_shares import labeled_class_shares


def test_two_classes_by_hand() -> None:
    quarter = torch.zeros(1, 4, 4, dtype=torch.uint8)
    quarter[:, :2, :2] = 1
    labels = [quarter, torch.ones(1, 2, 2, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.uint8)]
    lesion = (0.25 + 1 + 0) / 3
    assert labeled_class_shares([{"label": label} for label in labels]) == pytest.approx([1 - lesion, lesion])


def test_a_class_that_no_mask_has() -> None:
    labels = [torch.tensor([[0, 1, 1, 3]], dtype=torch.uint8), torch.tensor([[0, 0, 3, 3]], dtype=torch.uint8)]
    shares = labeled_class_shares([{"label": label} for label in labels], classes=4)
    assert shares == pytest.approx([3 / 8, 2 / 8, 0, 3 / 8])
