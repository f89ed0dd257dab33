"""Which files of the bundle's folder are shipped, and what is wrong with the others."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MEGABYTE = 10**6
#: bytes; the zoo takes no larger file, and what is no weight file it wants smaller still (its pre-commit)
LARGEST_WEIGHTS, LARGEST_FILE = 25 * MEGABYTE, MEGABYTE
WEIGHTS_FILE, COMPANION_FILE = "models/model.pt", "models/model_companion.pt"
#: suffixes that are shipped from each folder
FOLDERS = {"configs": (".json", ".conf"), "docs": (".md", ".png", ".txt"), "scripts": (".py", ".css", ".j2")}
#: what commands write into the bundle's folder, and the weights, which come by --weights
BY_PRODUCTS = (
    *("runs", "predictions", "dist", "models"),
    *("next_frames", "deidentified", "with_geometry", "pseudo_labels"),
)
REQUIRED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "configs/train.json", "docs/README.md")
_TEST = re.compile(r"^(test_.*|.*_test|conftest)\.py$")
_LINK = re.compile(r"\[([^\]\[]*)\]\(([^()\s]+)\)")


@dataclass
class Contents:
    """Files of a bundle's folder.

    Attributes:
        shipped: relative paths, sorted. left_out: by-products at the top. problems: strays and missing files.
    """

    shipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_contents(bundle: Path) -> Contents:
    """Sort the files of a bundle's folder; caches and hidden files are passed over."""
    found = Contents()
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        parts = PurePosixPath(name).parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts) or path.suffix == ".pyc":
            continue
        if parts[0] in BY_PRODUCTS:
            if len(parts) == 1:
                found.left_out.append(name)
        elif path.is_symlink():
            found.problems.append(f"{name} is a link, expected a file: put the file itself there.")
        elif path.is_file():
            _sort(found, name, path)
    for name in REQUIRED:
        if name not in found.shipped:
            found.problems.append(f"{name} is missing: the zoo wants it; put it into {bundle}.")
    return found


def _sort(found: Contents, name: str, path: Path) -> None:
    """Put one file where it belongs."""
    top = PurePosixPath(name).parts[0]
    known = name == "LICENSE" or path.suffix in FOLDERS.get(top, ())
    if not known or _TEST.match(path.name):
        found.problems.append(
            f"{name} is a stray file: expected LICENSE, and in "
            + ", ".join(f"{folder}/ {' '.join(kinds)}" for folder, kinds in FOLDERS.items())
            + "; tests belong into the repository's tests/. Move it out of the bundle's folder."
        )
    else:
        found.shipped.append(name)


def size_problems(folder: Path) -> list[str]:
    """Files of a package that are too large for the zoo."""
    problems = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        weights = name in (WEIGHTS_FILE, COMPANION_FILE)
        most = LARGEST_WEIGHTS if weights else LARGEST_FILE
        if size > most:
            cure = "store it with --storage float16, or train a smaller network" if weights else "make it smaller"
            problems.append(f"{name} has {size / MEGABYTE:.1f} MB, at most {most / MEGABYTE:.0f} MB are taken: {cure}.")
    return problems


def without_outside_links(text: str, name: str) -> str:
    """A page of the docs in which links that leave the bundle are plain text: in a package they lead nowhere.

    Args:
        name: of the page, relative to the bundle.
    """

    def shown(match: re.Match[str]) -> str:
        return match.group(1) if _leaves(match.group(2), name) else match.group(0)

    return _LINK.sub(shown, text)


def link_problems(folder: Path) -> list[str]:
    """Links of the docs to files that are not in the package."""
    problems = []
    for page in sorted((folder / "docs").rglob("*.md")):
        name = page.relative_to(folder).as_posix()
        for _, target in _LINK.findall(page.read_text(encoding="utf-8")):
            file = target.partition("#")[0]
            if file and "://" not in file and not file.startswith("mailto:") and not (page.parent / file).exists():
                problems.append(f"{name} links to {target}, which is not in the package: correct the link.")
    return problems


def _leaves(target: str, name: str) -> bool:
    """Whether a link of a page leads out of the bundle's folder."""
    depth = len(PurePosixPath(name).parts) - 1
    for part in PurePosixPath(target.partition("#")[0]).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False
