"""What pretraining may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.data.layouts import Item


def images_only(datalists: Mapping[str, Sequence[Item]]) -> list[Item]:
    """Training and unlabelled items without their labels, in the order of their files; validation and test stay unseen.

    The order does not tell which of them has a label: a pretraining without labels is the same for any label_fraction.

    Args:
        datalists: the sections of build_datalists.
    """
    items = [*datalists["training"], *datalists["unlabeled"]]
    unlabelled = [{name: value for name, value in item.items() if name != "label"} for item in items]
    return sorted(unlabelled, key=lambda item: (item["file"], item["image"]))
