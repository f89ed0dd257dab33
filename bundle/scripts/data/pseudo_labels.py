"""Unlabelled items that have a pseudo-label."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from scripts.data.errors import DatasetError
from scripts.data.layouts import Item

logger = logging.getLogger(__name__)


def with_pseudo_labels(items: Sequence[Item]) -> list[Item]:
    """The items with "pseudo_label" and "weight" above 0; the others teach nothing here and are left out (logged).

    Raises:
        DatasetError: none has one.
    """
    kept = [item for item in items if item.get("weight", 0.0) > 0]
    if not kept:
        raise DatasetError(
            f"{len(items)} unlabelled frames and none has a pseudo-label; give the pseudo_labels.json that "
            "mine_pseudo_labels.json writes as --dataset_dir, or train with another --objective"
        )
    if left := len(items) - len(kept):
        logger.info("%d unlabelled frames without a pseudo-label are left out", left)
    return kept
