"""Frames that a checkpoint has learnt from may not measure it: manifests of its run and of the evaluation compared."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.errors import LeakError, listing
from scripts.data.manifest import add_warnings, read_manifest
from scripts.data.processes import rank
from scripts.io.atomic import write_text
from scripts.io.frame_address import split_address

logger = logging.getLogger(__name__)
Frame = tuple[str, int]  # SHA-256 of its file, number in it
EARLIER = "earlier training"  # section of what trained the checkpoints that a run went on from, see follow_manifest
#: {section that is measured: sections of the checkpoint's run that it must not hold}
APART = {"test": ("training", "validation", EARLIER), "validation": ("training", EARLIER)}


def refuse_seen_frames(
    checkpoint: str | os.PathLike[str], manifest: str | os.PathLike[str], allowed: bool = False
) -> None:
    """Raise LeakError where the frames to be measured were among those that the checkpoint was trained or chosen by.

    Frames are the same by the SHA-256 of their files, whatever they are called, and by their number in them; pictures
    of one single colour are not compared. A checkpoint without the manifest of its run beside it (see manifest_of) is
    taken at its word, which is logged. What is measured nevertheless is logged too, and stands in the manifest's
    warnings, which a report shows.

    Args:
        checkpoint: model.pt or last.pt in a run directory; "" = a training from no other.
        manifest: manifest.json of the evaluation.
        allowed: go on.
    """
    if not checkpoint or rank() != 0:  # the first process alone writes the manifest
        return
    of_run = manifest_of(checkpoint)
    if not of_run.is_file():
        logger.info("%s has no manifest.json beside it: which frames it has learnt from is not known.", checkpoint)
        return
    learnt, measured = _sections(read_manifest(of_run)), _sections(read_manifest(manifest))
    found = _seen(learnt, measured)
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


def manifest_of(checkpoint: str | os.PathLike[str]) -> Path:
    """Where the manifest of a checkpoint's run is: NAME.manifest.json beside NAME.pt, else manifest.json beside it."""
    path = Path(checkpoint).expanduser()
    own = path.with_name(f"{path.stem}.manifest.json")
    return own if own.is_file() else path.with_name("manifest.json")


def seen_frames(checkpoint: str | os.PathLike[str], manifest: str | os.PathLike[str]) -> list[str]:
    """The frames that refuse_seen_frames refuses, "FILE, now SECTION, was SECTION" each; [] where nothing is known.

    Raises DatasetError: a manifest that is none.
    """
    of_run = manifest_of(checkpoint)
    return _seen(_sections(read_manifest(of_run)), _sections(read_manifest(manifest))) if of_run.is_file() else []


def follow_manifest(
    manifest: str | os.PathLike[str], target: str | os.PathLike[str], start: str | os.PathLike[str] | None = None
) -> None:
    """Copy a run's manifest, and add to it what trained the checkpoint ``start`` that the run went on from.

    Those frames get a section of their own, EARLIER: the weights have learnt from them, however the run itself was
    split. Raises DatasetError: a manifest that is none. OSError: it cannot be written.
    """
    content = read_manifest(manifest)
    before = manifest_of(start) if start is not None else None
    if before is not None and before.is_file():
        known = {_key(one) for one in content["files"] if one["section"] == "training"}
        files = (one for one in read_manifest(before)["files"] if one["section"] in ("training", EARLIER))
        earlier = {_key(one): {**one, "section": EARLIER} for one in files}
        content["files"] += [one for key, one in earlier.items() if key not in known]
    write_text(Path(target), json.dumps(content, indent=1) + "\n")


def _key(one: Mapping[str, Any]) -> tuple[str, str]:
    return one["sha256"], one["file"]


def _seen(learnt: Mapping[str, Mapping[Frame, str]], measured: Mapping[str, Mapping[Frame, str]]) -> list[str]:
    return [
        f"{file}, now {name}, was {before[0]}"
        for name, forbidden in APART.items()
        for frame, file in measured.get(name, {}).items()
        if (before := [section for section in forbidden if frame in learnt.get(section, {})])
    ]


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
