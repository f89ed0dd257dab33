"""What pretraining may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.data.layouts import Item
from scripts.data.sections import PSEUDO, without

SEEN = ("training", "unlabeled")


def images_only(datalists: Mapping[str, Sequence[Item]], sections: Sequence[str] = SEEN) -> list[Item]:
    """Items of the sections without their labels, in the order of their files; validation and test stay unseen.

    The order does not tell which of them has a label: a pretraining without labels is the same for any label_fraction.

    Args:
        datalists: the sections of build_datalists.
        sections: what to take; ("validation",) for the frames on which a pretraining is measured.
    """
    items = [item for name in sections for item in datalists[name]]
    unlabelled = [without(item, "label", "severity", *PSEUDO) for item in items]
    return sorted(unlabelled, key=lambda item: (item["file"], item["image"]))
