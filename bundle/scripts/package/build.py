"""From the bundle's folder to a checked package and its zip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from scripts.data.frames import list_frames
from scripts.data.sample import make_sample_dataset
from scripts.engines.inference import BUNDLE_NAME
from scripts.io.atomic import PARTIAL
from scripts.io.writers import ensure_writable
from scripts.package import metadata as meta
from scripts.package import release
from scripts.package.archive import write_zip
from scripts.package.contents import (
    WEIGHTS_FILE,
    link_problems,
    list_contents,
    size_problems,
    without_outside_links,
)
from scripts.package.errors import PackageError
from scripts.package.weights import PackedWeights, entry_problems, pack_weights

CHECKER = Path(__file__).with_name("zoo_checks.py")
MOST_FRAMES = 50  # compared for the parity of float16
DRAWN = "frames drawn by scripts/data/sample.py"
#: Configs that have an image_size of their own: all of them get the one that the weights were trained at.
SIZED = ("configs/inference.json", "configs/next_frames.json", "configs/train.json")


@dataclass(frozen=True)
class Options:
    """What a person asks of a package.

    Attributes:
        output: folder that gets the package and the zip. weights: a run's model.pt; None = the bundle's own, if any.
        without_weights: make a package that says that it has none. storage: "given", "float32" or "float16".
        frames: pictures for the parity of float16; None = drawn ones. schema: copy of the zoo's schema, or None.
    """

    output: Path
    weights: Path | None = None
    without_weights: bool = False
    storage: str = "given"
    frames: Path | None = None
    schema: Path | None = None


def build_package(bundle: Path, options: Options, say: Callable[[str], None] = print) -> tuple[Path, Path]:
    """Write output/endoscopic_lesion_segmentation and its .zip; nothing is written when a check fails.

    Args:
        bundle: folder with configs/, docs/, scripts/.
        say: takes a line of progress.

    Returns:
        the folder and the zip.

    Raises:
        PackageError: with all that is wrong.
        OutputError: the output cannot be written.
    """
    _check_place(bundle, options.output)
    contents = list_contents(bundle)
    metadata, problems = meta.read_metadata(bundle)
    if metadata:
        problems = meta.version_problems(metadata, bundle.parent) + meta.format_problems(metadata)
    _report(say, "files", contents.problems)
    own_weights = options.weights is None and not options.without_weights
    for name in contents.left_out:
        own = f" but for {WEIGHTS_FILE} and its companion" if own_weights and WEIGHTS_FILE.startswith(name) else ""
        say(f"   {name}/ is left out{own}: commands write there")
    _report(say, "version, changelog and metadata", problems)
    if contents.problems or problems:
        raise PackageError(contents.problems + problems)
    output = ensure_writable(options.output)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=output) as scratch:
        work = Path(scratch)
        packed = _weights(bundle, options, work, say)
        metadata, files, problems = _about_weights(metadata, contents.shipped, packed, options, say)
        staged = _stage(bundle, files, metadata, packed, work / BUNDLE_NAME)
        for name in _set_image_size(staged, packed.image_size):
            say(f"   {name}: image_size is {packed.image_size} here, at which these weights were trained")
        problems += size_problems(staged) + link_problems(staged)
        _report(say, "weights, sizes and links", problems)
        if options.schema is not None:
            problems += meta.schema_problems(staged, options.schema, work)
            _report(say, f"schema {options.schema.name}", problems)
        if problems:
            raise PackageError(problems)
        problems = list(_zoo_problems(staged, work, say))
        if problems:
            raise PackageError(problems)
        zipped = work / f"{BUNDLE_NAME}.zip"
        write_zip(staged, zipped)
        return _put(staged, output / BUNDLE_NAME), _put(zipped, output / zipped.name)


def _report(say: Callable[[str], None], what: str, problems: list[str]) -> None:
    say(f"{'failed' if problems else 'ok'} {what}")


def _check_place(bundle: Path, output: Path) -> None:
    """Nothing that is not a package may be replaced, and no package made inside of what is shipped."""
    inside = output.resolve()
    if any(inside.is_relative_to(bundle / name) for name in ("configs", "docs", "scripts", "models")):
        raise PackageError([f"--output {output} is a folder that is shipped: give another one, for example dist."])
    target = output / BUNDLE_NAME
    if target.exists() and not (target / meta.NAME).is_file():
        raise PackageError([f"{target} is there and is no package: move it away, or give another --output."])
    if inside == bundle.resolve().parent and target.resolve() == bundle.resolve():
        raise PackageError([f"--output {output} would replace the bundle itself: give another one."])


def _weights(bundle: Path, options: Options, work: Path, say: Callable[[str], None]) -> PackedWeights:
    """The weights as they are stored, or what the package says of having none."""
    if options.without_weights:
        if options.weights is not None:
            raise PackageError(["--weights and --without_weights were both given: leave one of them out."])
        say("ok no weights, as asked for; the package says so")
        return PackedWeights()
    checkpoint = options.weights or bundle / WEIGHTS_FILE
    if options.weights is None and not checkpoint.is_file():
        raise PackageError(
            [f"{WEIGHTS_FILE} is missing: give --weights runs/NAME/model.pt of a run, or say --without_weights."]
        )
    addresses: list[Path] = []
    if options.storage == "float16":
        folder = options.frames or make_sample_dataset(work / "drawn", frames=16, labelled=0, groups=8) / "images"
        addresses = [Path(item["image"]) for item in islice(list_frames(str(folder)), MOST_FRAMES)]
    name = options.frames.name if options.frames else DRAWN
    packed = pack_weights(checkpoint, bundle, options.storage, addresses, name)
    say(f"ok weights of {checkpoint}, {packed.entry['storage']}: {packed.entry.get('parity', 'as they were trained')}")
    return packed


def _about_weights(
    metadata: dict[str, Any], files: list[str], packed: PackedWeights, options: Options, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """metadata.json with what the weights are, the files to ship, and what is wrong.

    The bundle's figures are of the weights that it was released with; a package of others, or of none, has none.
    """
    declared = release.declares(metadata)
    problems = entry_problems(declared, packed.entry)
    if declared and not problems:
        return metadata, files, []  # its entry also has the parity that was measured at the release
    if options.weights is None and not options.without_weights:
        return metadata | {"weights": packed.entry}, files, problems
    if declared:
        metadata, files, left = release.without_release(metadata, files)
        say(f"   {', '.join(left)} are left out: they are about the weights of the release")
    return metadata | {"weights": packed.entry}, files, []


def _stage(bundle: Path, files: list[str], metadata: dict[str, Any], packed: PackedWeights, target: Path) -> Path:
    """Copy what is shipped; metadata.json says what the weights are."""
    for name in files:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name == meta.NAME:
            place.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
        elif name.endswith(".md"):
            text = (bundle / name).read_text(encoding="utf-8")
            if name == release.CARD and "eval_metrics" not in metadata:
                text = release.card_without_release(text)
            place.write_text(without_outside_links(text, name), encoding="utf-8")
        else:
            shutil.copyfile(bundle / name, place)
    for name, data in packed.files.items():
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_bytes(data)
    return target


def _set_image_size(staged: Path, image_size: int | None) -> Iterator[str]:
    """Give the package's configs the size that its weights were trained at; yields the names of those changed."""
    for name in SIZED if image_size is not None else ():
        place = staged / name
        config = json.loads(place.read_text(encoding="utf-8"))
        if config["image_size"] != image_size:
            config["image_size"] = image_size
            place.write_text(json.dumps(config, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
            yield name


def _zoo_problems(staged: Path, work: Path, say: Callable[[str], None]) -> Iterator[str]:
    """The checks that run the package, in a process that has nothing but it."""
    surroundings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MONAI_LABEL_STUDIES")}
    # No caches in the package; the checks need no GPU, and results must not depend on one.
    surroundings |= {"PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}
    scratch = work / "checks"
    scratch.mkdir()
    with (scratch / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", str(CHECKER), str(staged), str(scratch)],
            cwd=scratch, env=surroundings, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        finished = 0
        for line in process.stdout or ():
            say(line.rstrip())
            finished += 1
            if line.startswith("failed "):
                yield f"{line.removeprefix('failed ').strip()}: correct the config or the part that it names."
    if process.wait() != 0 or not finished:
        tail = " ".join((scratch / "log.txt").read_text(errors="replace").splitlines()[-3:])
        yield f"the zoo's checks ended with exit code {process.returncode} ({tail}): run the bundle's tests."


def _put(made: Path, target: Path) -> Path:
    """Move a finished folder or file to its place; an earlier package gives way at the last moment."""
    if target.is_dir():
        old = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent)) / "old"
        os.replace(target, old)
        os.replace(made, target)
        shutil.rmtree(old.parent)
    else:
        os.replace(made, target)
    return target
