"""The frames that get pseudo-labels: a dataset's own unlabelled ones, or a folder without any mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.data.datalists import build_datalists
from scripts.data.errors import DatasetError
from scripts.data.frames import list_frames
from scripts.data.layouts import Item
from scripts.data.sections import PSEUDO, without


@dataclass(frozen=True)
class MiningSet:
    """Frames without a mask, and where they come from.

    Attributes:
        frames: items of {"image", "file"}, and more of their own.
        files: names of the files that the frames are in.
        sections: training, validation and test of the dataset; None for a folder without masks.
    """

    frames: Sequence[Item]
    files: Sequence[str]
    sections: dict[str, list[Item]] | None = None


def build_mining_set(
    dataset_dir: str | os.PathLike[str],
    pre_annotate: bool = False,
    stride: int = 1,
    start_s: float = 0.0,
    end_s: float | None = None,
    **options: Any,
) -> MiningSet:
    """The frames to mine.

    Args:
        dataset_dir: a dataset as build_datalists takes it, or with `pre_annotate` any folder of frames.
        pre_annotate: take every frame of the folder.
        stride, start_s, end_s: with `pre_annotate`, which frames of videos, see list_frames.
        options: arguments of build_datalists; the split and the subset of labels must be those of the student's run.

    Raises:
        DatasetError: nothing to mine; and see build_datalists and list_frames.
    """
    if pre_annotate:
        found = list_frames(dataset_dir, stride, start_s, end_s)
        return MiningSet(found, [source.file for source in found.sources])
    sections = build_datalists(dataset_dir, severity_too=True, **options)  # handed on to the datalist of what is mined
    # Those of an earlier mining are made anew.
    frames = [without(item, *PSEUDO) for item in sections.pop("unlabeled")]
    if not frames:
        raise DatasetError(
            f"{dataset_dir}: no unlabelled frame to mine; put frames without a mask into images/ or unlabeled/, give "
            "--unlabeled_data FOLDER, lower --label_fraction, or take every frame by --pre_annotate True"
        )
    return MiningSet(frames, [item["file"] for item in frames], sections)


def as_entries(items: Sequence[Item], folder: Path) -> list[dict[str, Any]]:
    """Items as entries of a datalist JSON in `folder`: files below it by their relative path, others by their own."""
    kept = ("image", "label", "pseudo_label", "weight", "group", "severity")
    return [
        {key: _path(item[key], folder) if key in kept[:3] else item[key] for key in kept if key in item}
        for item in items
    ]


def _path(name: str, folder: Path) -> str:
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
