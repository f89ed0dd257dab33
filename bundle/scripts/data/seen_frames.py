"""Frames that a checkpoint has learnt from may not measure it: manifests of its run and of the evaluation compared."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.data.errors import LeakError, listing
from scripts.data.manifest import read_manifest
from scripts.data.processes import rank

logger = logging.getLogger(__name__)
#: {section that is measured: sections of the checkpoint's run that it must not hold}
APART = {"test": ("training", "validation"), "validation": ("training",)}


def refuse_seen_frames(
    checkpoint: str | os.PathLike[str], manifest: str | os.PathLike[str], allowed: bool = False
) -> None:
    """Raise LeakError where the frames to be measured were among those that the checkpoint was trained or chosen by.

    Frames are the same by the SHA-256 of their files, whatever they are called. A checkpoint without the manifest.json
    of its run beside it is taken at its word, which is logged.

    Args:
        checkpoint: model.pt or last.pt in a run directory; "" = a training from no other.
        manifest: manifest.json of the evaluation.
        allowed: log it and go on.
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
        for digest, file in measured.get(name, {}).items()
        for before in forbidden
        if digest in learnt.get(before, {})
    ]
    unmasked = measured.get("test", {}).keys() & learnt.get("unlabeled", {}).keys()
    if unmasked:
        logger.warning("%d frames of the test part were in training, without their masks.", len(unmasked))
    if not found:
        return
    total = sum(len(measured.get(name, {})) for name in APART)
    message = (
        f"{len(found)} of {total} frames that are to be measured have trained or chosen {checkpoint}, so that its "
        f"figures would be too good:{listing(found)}\nMeasure it on the split of its run (the command is in its "
        "report.html; seed, split and masks must be those of the run), or on frames that it has not seen. Where masks "
        "are added from time to time, give --stable_split True to all trainings, or name the frames of validation and "
        "test in a datalist JSON."
    )
    if not allowed:
        raise LeakError(message + " --allow_seen_frames True measures them nevertheless.")
    logger.warning(message)


def _sections(manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """{section: {SHA-256: file}}."""
    sections: dict[str, dict[str, str]] = {}
    for one in manifest["files"]:
        sections.setdefault(one["section"], {})[one["sha256"]] = one["file"]
    return sections
