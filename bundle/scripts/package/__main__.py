"""python -m scripts.package: the bundle as a folder and a zip that the zoo would take, or the list of what is wrong."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.data.errors import DatasetError
from scripts.io.errors import MediaError
from scripts.io.writers import OutputError
from scripts.package.build import Options, build_package
from scripts.package.contents import MEGABYTE
from scripts.package.errors import PackageError
from scripts.package.weights import STORAGE

BUNDLE = Path(__file__).resolve().parents[2]
REFUSED = 1


def main(arguments: Sequence[str] | None = None, bundle: Path = BUNDLE) -> int:
    """Package the bundle; returns the exit code: 0 done, 1 refused."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        folder, zipped = build_package(bundle, Options(**vars(options)), say=lambda line: print(line, flush=True))
    except (PackageError, DatasetError, MediaError, OutputError, ImportError) as error:
        problems = error.problems if isinstance(error, PackageError) else [str(error)]
        print(f"\nREFUSED, nothing was written. What is wrong ({len(problems)}):", flush=True)
        for problem in problems:
            print(f"- {problem}")
        return REFUSED
    size = zipped.stat().st_size / MEGABYTE
    print(f"\n{folder}\n{zipped} ({size:.1f} MB)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.package",
        description="Write the bundle as the MONAI model zoo takes it, a folder and its zip, after the zoo's checks in "
        "their order. Nothing is written when one fails. Exit code: 0 done, 1 refused, 2 wrong option.",
    )
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for both (default: dist)")
    parser.add_argument(
        "--weights", type=Path, help="model.pt of a run (default: models/model.pt of the bundle, if it is there)"
    )
    parser.add_argument("--without_weights", action="store_true", help="package no weights; the package says so")
    parser.add_argument(
        "--storage",
        choices=tuple(STORAGE),
        default="given",
        help="how weights are stored; float16 halves the file, and the masks are compared (default: as given)",
    )
    parser.add_argument(
        "--frames", type=Path, help="pictures for that comparison (default: 16 drawn ones, which prove little)"
    )
    parser.add_argument(
        "--schema", type=Path, help="a copy of the schema file that metadata.json names, to hold metadata.json against"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
