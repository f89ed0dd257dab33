"""The built-in sample set: synthetic endoscopy-like frames, some of them with blood masks, made by code from a seed.

    python -m scripts.data.sample --output DIR [--frames 160 --labelled 24 --size 256 --groups 20 --seed 0]

It shows that the software runs; no claim about performance may rest on it. Written as layout (a) of the data contract:
``images/``, ``masks/`` (only the labelled frames; an empty mask is a frame looked at and found free of blood) and
``groups.csv`` with one group for each synthetic patient.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.data.sample_scene import make_patient, render_frame

logger = logging.getLogger(__name__)

GENERATOR_VERSION = 1  # raise it whenever the pixels change
MARKER = ".sample.json"  # written last; its presence says: complete, and made with these parameters
SMALLEST_SHARE, LARGEST_SHARE = 0.002, 0.35  # bleeding area of a frame that bleeds, share of the whole frame
LESION_FREE = 0.2  # share of frames without blood, among the labelled ones too
LABELLED_GROUPS = 0.6  # the masks are spread over at least this share of the patients, so that every split gets some

README = """This is a SYNTHETIC SAMPLE, made by code (scripts/data/sample.py, version {version}, seed {seed}).
No picture of a person or an animal is in it, and no claim about performance may rest on it.

images/     {frames} RGB frames of {size} x {size} pixels
masks/      {labelled} masks (0 background, 255 blood); an all-black mask is a labelled frame without blood
groups.csv  which synthetic patient each frame belongs to; {groups} patients
"""


@dataclass(frozen=True)
class FramePlan:
    """One frame before it is painted: name, patient, bleeding share of the frame (0..1), whether it has a mask."""

    name: str
    group: int
    blood_share: float
    labelled: bool


def make_sample_dataset(
    directory: str | Path, frames: int = 160, labelled: int = 24, size: int = 256, groups: int = 20, seed: int = 0
) -> Path:
    """Write the sample set into ``directory`` and return its path; a complete one with these parameters is kept as is.

    The files depend on the arguments only, not on any global random state. They are written to a temporary folder
    beside ``directory`` that is renamed at the end, so an interrupted call leaves no half a data set.

    Args:
        directory: folder to create; may exist if it is empty or holds this very sample set.
        frames: number of frames, dealt evenly to the groups.
        labelled: how many of them get a mask.
        size: height and width in pixels, at least 64.
        groups: number of synthetic patients.
        seed: any non-negative integer.

    Raises:
        ValueError: arguments that contradict each other.
        FileExistsError: ``directory`` holds something else; nothing in it is touched.
        OSError: the folder cannot be written.
    """
    _check_arguments(frames, labelled, size, groups, seed)
    directory = Path(directory).expanduser()
    parameters = dict(frames=frames, labelled=labelled, size=size, groups=groups, seed=seed)
    if _is_complete(directory, parameters):
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.partial-", dir=directory.parent))
    except OSError as error:
        raise OSError(
            f"{directory}: cannot create the sample set here ({error}); choose a folder you can write."
        ) from error
    try:
        partial = scratch / "sample"  # inside, because mkdtemp's own folder is closed to other users
        partial.mkdir()
        _write(partial, parameters)
        _move_into_place(partial, directory, parameters)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    logger.info("Synthetic sample set: %d frames, %d labelled, in %s", frames, labelled, directory)
    return directory


def is_sample_dataset(directory: str | Path) -> bool:
    """Return whether ``directory`` is a sample set made by this module, so that reports can call it a sample."""
    return (Path(directory) / MARKER).is_file()


def plan_frames(frames: int, labelled: int, groups: int, seed: int) -> list[FramePlan]:
    """Return the plan of every frame, ordered by name.

    Masks go round the patients chosen for them; bleeding areas are spaced evenly on a log scale, separately for frames
    with and without masks, so that both cover small and large bleedings.
    """
    rng = np.random.default_rng([GENERATOR_VERSION, seed])
    members = [list(range(start, frames, groups)) for start in range(groups)]
    queues = [list(rng.permutation(m)) for m in members]
    order = rng.permutation(groups)
    chosen = order[: max(1, min(labelled, int(np.ceil(groups * LABELLED_GROUPS))))]
    with_mask: list[int] = []
    for candidates in (chosen, order):  # all patients only when the chosen ones have no frames left
        while len(with_mask) < labelled and any(queues[g] for g in candidates):
            with_mask += [int(queues[g].pop()) for g in candidates if queues[g]]
    with_mask = with_mask[:labelled]
    without_mask = [int(f) for f in rng.permutation(sorted(set(range(frames)) - set(with_mask)))]

    share_of: dict[int, float] = {}
    for part, free in (
        (with_mask, round(LESION_FREE * labelled)),
        (without_mask, round(LESION_FREE * frames) - round(LESION_FREE * labelled)),
    ):
        bleeding = part[free:]  # the first masks belong to different patients, so lesion-free ones are spread as well
        steps = ((rng.permutation(len(bleeding)) + 0.5) / max(len(bleeding), 1)) ** 0.75  # fewer of the very smallest
        share_of.update(dict.fromkeys(part[:free], 0.0))
        share_of.update(zip(bleeding, SMALLEST_SHARE * (LARGEST_SHARE / SMALLEST_SHARE) ** steps, strict=True))
    masked = set(with_mask)
    return [
        FramePlan(f"{_group_name(group)}_frame_{k + 1:03d}.png", group, float(share_of[f]), f in masked)
        for group in range(groups)
        for k, f in enumerate(members[group])
    ]


def _group_name(group: int) -> str:
    return f"patient_{group + 1:03d}"


def _check_arguments(frames: int, labelled: int, size: int, groups: int, seed: int) -> None:
    if not 1 <= groups <= frames:
        raise ValueError(f"groups={groups} with frames={frames}: give 1 to {frames} groups, each needs a frame.")
    if not 0 <= labelled <= frames:
        raise ValueError(f"labelled={labelled} with frames={frames}: give 0 to {frames}.")
    if size < 64:
        raise ValueError(f"size={size}: the frames need at least 64 pixels a side.")
    if seed < 0:
        raise ValueError(f"seed={seed}: give a seed of 0 or more.")


def _is_complete(directory: Path, parameters: dict[str, int]) -> bool:
    """Return True for a complete sample set with these parameters and False for an absent or empty folder.

    Raises:
        FileExistsError: anything else.
    """
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise FileExistsError(f"{directory} is a file; the sample set needs a folder: give another path.")
    content = sorted(entry.name for entry in os.scandir(directory))
    if not content:
        return False
    if MARKER not in content:
        some = ", ".join(content[:3]) + (", ..." if len(content) > 3 else "")
        raise FileExistsError(
            f"{directory} holds other files ({some}) and is not a sample set: give an empty or new folder. "
            "Nothing was changed."
        )
    wanted = {"generator_version": GENERATOR_VERSION, **parameters}
    try:
        found = json.loads((directory / MARKER).read_text(encoding="utf-8"))
    except ValueError:
        found = "an unreadable marker"
    if found != wanted:
        raise FileExistsError(
            f"{directory} holds another sample set ({found}), asked for is {wanted}: "
            "delete that folder or give another one."
        )
    for folder, expected in (("images", parameters["frames"]), ("masks", parameters["labelled"])):
        present = sum(1 for _ in os.scandir(directory / folder)) if (directory / folder).is_dir() else 0
        if present != expected:
            raise FileExistsError(
                f"{directory / folder} has {present} files, the sample set has {expected}: it was changed after it "
                f"was made. Delete {directory} to have it made again, or give another folder."
            )
    return True


def _write(directory: Path, parameters: dict[str, int]) -> None:
    """Paint and write all files of the set into the existing empty folder, the marker last."""
    size, groups, seed = parameters["size"], parameters["groups"], parameters["seed"]
    (directory / "images").mkdir()
    (directory / "masks").mkdir()
    patients = [make_patient(np.random.default_rng([GENERATOR_VERSION, seed, group])) for group in range(groups)]
    plan = plan_frames(parameters["frames"], parameters["labelled"], groups, seed)
    for number, frame in enumerate(plan):
        rng = np.random.default_rng([GENERATOR_VERSION, seed, frame.group, number])
        image, mask = render_frame(patients[frame.group], rng, size, frame.blood_share)
        Image.fromarray(image).save(directory / "images" / frame.name, compress_level=1)
        if frame.labelled:
            Image.fromarray(mask.astype(np.uint8) * 255).save(directory / "masks" / frame.name)
    rows = "".join(f"{frame.name},{_group_name(frame.group)}\n" for frame in plan)
    (directory / "groups.csv").write_text("file,group\n" + rows, encoding="utf-8")
    (directory / "README.txt").write_text(README.format(version=GENERATOR_VERSION, **parameters), encoding="utf-8")
    marker = {"generator_version": GENERATOR_VERSION, **parameters}
    (directory / MARKER).write_text(json.dumps(marker, indent=4) + "\n", encoding="utf-8")


def _move_into_place(partial: Path, directory: Path, parameters: dict[str, int]) -> None:
    """Rename ``partial`` to ``directory``; if another process was quicker with the same set, its set is kept."""
    try:
        os.replace(partial, directory)
    except OSError:
        if not _is_complete(directory, parameters):
            raise


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: write the sample set and print its folder."""
    parser = argparse.ArgumentParser(prog="python -m scripts.data.sample", description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="folder to create")
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--labelled", type=int, default=24, help="frames that get a mask")
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--groups", type=int, default=20, help="synthetic patients")
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args(arguments))
    output = given.pop("output")
    try:
        print(make_sample_dataset(output, **given))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
