"""The record of what a run was given: split, seed, and SHA-256 of every file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from scripts.data.checks import MASKS
from scripts.data.errors import DatasetError
from scripts.data.fingerprints import file_sha256, fingerprint, map_files
from scripts.io.atomic import write_text

T = TypeVar("T")
KEYS = ("dataset_dir", "seed", "label_fraction", "split", "sample", "counts", "warnings", "files")


def write_manifest(
    path: str | os.PathLike[str],
    sections: Mapping[str, Sequence[dict[str, Any]]],
    *,
    dataset_dir: str | os.PathLike[str],
    seed: int,
    label_fraction: float,
    split: Mapping[str, float],
    sample: bool = False,
    warnings: Sequence[str] = (),
    told: str = "label",
) -> dict[str, Any]:
    """Write manifest.json in one step (temporary name, then rename) and return its content.

    "file" and "label" are posix paths relative to dataset_dir (a JSON's folder). So is "image", which is there where a
    picture lies outside and "file" is but its name. Hashes are of the files as they are. "blank" is there where all
    pixels have one colour: such pictures are alike wherever they come from.
    Raises OSError that names the path when it cannot be written.
    """
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    root = root.parent if root.is_file() else root
    items = [item for found in sections.values() for item in found]
    images = _hashes(map_files(fingerprint, (item["image"] for item in items), "hashing"))
    masks = (item[key] for item in items for key in MASKS if key in item)
    labels = _hashes(map_files(file_sha256, masks, "hashing masks"))
    content = {
        "dataset_dir": str(dataset_dir),
        "seed": seed,
        "label_fraction": label_fraction,
        "split": dict(split),
        "sample": sample,
        "counts": count_sections(sections, told),
        "warnings": list(warnings),
        "files": [
            {
                "section": name,
                "file": item["file"],
                "group": item["group"],
                "label": Path(os.path.relpath(item["label"], root)).as_posix() if "label" in item else None,
                "sha256": images[item["image"]].sha256,
                "label_sha256": labels[item["label"]] if "label" in item else None,
                **({"blank": True} if images[item["image"]].blank else {}),
                **_elsewhere(item, root),
                **_pseudo_label(item, root, labels),
                **({"severity": item.get("severity")} if told == "severity" else {}),
            }
            for name, found in sections.items()
            for item in found
        ],
    }
    _write(Path(path), content)
    return content


def add_warnings(path: str | os.PathLike[str], warnings: Sequence[str]) -> None:
    """Add to the warnings of a manifest, which the report of its run shows.

    Raises:
        DatasetError: no such file, or not a manifest. OSError: it cannot be written.
    """
    content = read_manifest(path)
    _write(Path(path), content | {"warnings": [*content["warnings"], *warnings]})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        write_text(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error}); choose an output_dir you may write to") from error


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a manifest. Raises DatasetError: no such file, or not a manifest."""
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such manifest; every training run writes one into its output_dir")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a JSON file ({error}); run the training again") from error
    missing = [key for key in KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise DatasetError(f"{path}: not a manifest, it lacks {missing}; give the manifest.json of a run")
    return content


def count_sections(sections: Mapping[str, Sequence[dict[str, Any]]], told: str = "label") -> dict[str, dict[str, int]]:
    """Images, groups and labelled images of each section; those are the ones that have a "label", or a "severity"."""
    return {
        name: {
            "images": len(items),
            "groups": len({item["group"] for item in items}),
            "labelled": sum(told in item for item in items),
        }
        for name, items in sections.items()
    }


def _elsewhere(item: dict[str, Any], root: Path) -> dict[str, str]:
    """Where a picture is that lies outside of the folder; its "file" is a name inside."""
    image = Path(os.path.relpath(item["image"], root)).as_posix()
    return {} if image == item["file"] else {"image": image}


def _pseudo_label(item: dict[str, Any], root: Path, hashes: Mapping[str, str]) -> dict[str, Any]:
    """A mask that nobody drew is named as such."""
    if "pseudo_label" not in item:
        return {}
    path = item["pseudo_label"]
    return {
        "pseudo_label": Path(os.path.relpath(path, root)).as_posix(),
        "pseudo_label_sha256": hashes[path],
        "weight": item["weight"],
    }


def _hashes(found: Mapping[str, T | Exception]) -> dict[str, T]:
    for value in found.values():
        if isinstance(value, Exception):
            raise value
    return dict(found)  # type: ignore[arg-type]
