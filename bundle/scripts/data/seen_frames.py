"""Frames that a checkpoint has learnt from may not measure it: manifests of its run and of the evaluation compared."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.errors import LeakError, listing
from scripts.data.manifest import add_warnings, read_manifest
from scripts.data.processes import rank
from scripts.io.frame_address import split_address

logger = logging.getLogger(__name__)
Frame = tuple[str, int]  # SHA-256 of its file, number in it
#: {section that is measured: sections of the checkpoint's run that it must not hold}
APART = {"test": ("training", "validation"), "validation": ("training",)}


def refuse_seen_frames(
    checkpoint: str | os.PathLike[str], manifest: str | os.PathLike[str], allowed: bool = False
) -> None:
    """Raise LeakError where the frames to be measured were among those that the checkpoint was trained or chosen by.

    Frames are the same by the SHA-256 of their files, whatever they are called, and by their number in them; pictures
    of one single colour are not compared. A checkpoint without the manifest.json of its run beside it is taken at its
    word, which is logged. What is measured nevertheless is logged too, and stands in the manifest's warnings, which a
    report shows.

    Args:
        checkpoint: model.pt or last.pt in a run directory; "" = a training from no other.
        manifest: manifest.json of the evaluation.
        allowed: go on.
    """
    if not checkpoint or rank() != 0:  # the first process alone writes the manifest
        return
    of_run = Path(checkpoint).parent / "manifest.json"
    if not of_run.is_file():
        logger.info("%s has no manifest.json beside it: which frames it has learnt from is not known.", checkpoint)
        return
    learnt, measured = _sections(read_manifest(of_run)), _sections(read_manifest(manifest))
    found = [
        f"{file}, now {name}, was {before}"
        for name, forbidden in APART.items()
        for frame, file in measured.get(name, {}).items()
        for before in forbidden
        if frame in learnt.get(before, {})
    ]
    unmasked = measured.get("test", {}).keys() & learnt.get("unlabeled", {}).keys()
    warnings = []
    if unmasked:
        warnings.append(
            f"{len(unmasked)} frames of the test part were in training, without their masks ({checkpoint})."
        )
    if found:
        warnings.append(_message(checkpoint, found, sum(len(measured.get(name, {})) for name in APART)))
        if not allowed:
            raise LeakError(warnings[-1] + " --allow_seen_frames True measures them nevertheless.")
    for warning in warnings:
        logger.warning(warning)
    if warnings:
        add_warnings(manifest, warnings)


def _message(checkpoint: str | os.PathLike[str], found: Sequence[str], total: int) -> str:
    return (
        f"{len(found)} of {total} frames that are to be measured have trained or chosen {checkpoint}, so that its "
        f"figures would be too good:{listing(found)}\nMeasure it on the split of its run (the command is in its "
        "report.html; seed, split and masks must be those of the run), or on frames that it has not seen. Where masks "
        "are added from time to time, give --stable_split True to all trainings, or name the frames of validation and "
        "test in a datalist JSON."
    )


def _sections(manifest: Mapping[str, Any]) -> dict[str, dict[Frame, str]]:
    """{section: {frame: file}}."""
    sections: dict[str, dict[Frame, str]] = {}
    for one in manifest["files"]:
        if not one.get("blank"):
            frame = (one["sha256"], split_address(one["file"])[1] or 0)
            sections.setdefault(one["section"], {})[frame] = one["file"]
    return sections
