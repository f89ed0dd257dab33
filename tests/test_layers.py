"""The parts know nothing of the folders above them, and a file holds one idea."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "bundle" / "scripts"
#: from the top down; DESIGN has data below io, but data checks and hashes pictures, which io reads
LAYERS = (
    "package",  # a command
    "reports",
    "engines",
    "selection",
    "pseudo_labels",
    "metrics",
    "losses",
    "networks",
    "transforms",
    "data",
    "io",
)
FILES = sorted(SCRIPTS.rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    """Names of the folders of scripts/ that a file imports, lazily or not."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.append(node.module or "")
    return {module.split(".")[1] for module in modules if module.startswith("scripts.")}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != SCRIPTS], ids=lambda p: f"{p.parent.name}/{p.name}")
def test_arrows_point_down(path: Path) -> None:
    own = path.relative_to(SCRIPTS).parts[0]
    above = LAYERS[: LAYERS.index(own)]
    assert not imported_parts(path) & set(above)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_files_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
