"""A datalist JSON -> items."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

from scripts.data.errors import DatasetError, listing
from scripts.io.errors import DICOM_SUFFIXES, VIDEO_SUFFIXES
from scripts.io.frame_address import split_address
from scripts.io.label_volume import is_volume

SECTIONS = ("training", "validation", "test", "unlabeled")
_CURE = {
    "missing": "no such file (paths are relative to the JSON's folder)",
    "foreign": "a video or DICOM file as a mask; save the mask as a PNG of the size of its image",
    "frame": "a video has many frames and a label belongs to one: name it, as in clip.mp4#12, or give a label volume",
}


def read_datalist(path: Path, masks_needed: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Read {"training": [...], "validation"?, "test"?, "unlabeled"?} -> the same sections, "training" named "pool".

    An entry is {"image", "label"?, "group"?, "severity"?}, or only the image's path; one of "unlabeled" may have a
    "pseudo_label" (path of a mask that nobody drew) and its "weight" (0..1, by default 1). An image may be a video or
    DICOM file (all its frames, without label or with a volume that labels each) or one frame of it, clip.mp4#12, whose
    group is by default its file. Relative paths are resolved against the JSON's folder. An empty section counts as
    absent.
    Other top-level keys are ignored unless they hold entries: then it is a section under a wrong name.

    Raises DatasetError: not such a JSON; a section of another name (the nearest is named); every bad entry at once:
    no image, no such file, a label missing in validation or test (unless masks_needed is False), a label in unlabeled,
    a severity that is no number, a pseudo-label outside of unlabeled, a weight outside of 0..1.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a JSON file ({error}); mend or export it again") from error
    if not isinstance(content, dict) or "training" not in content:
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f'{path}: found {found}; expected {{"training": [{{"image": ..., "label": ...}}], ...}}')
    for key, value in content.items():
        holds_entries = isinstance(value, list) and value and isinstance(value[0], dict) and "image" in value[0]
        if key not in SECTIONS and holds_entries:
            near = (difflib.get_close_matches(key, SECTIONS, 1, 0.3) or ["unlabeled"])[0]
            raise DatasetError(f"{path}: unknown section {key!r}; expected one of {SECTIONS}, did you mean {near!r}?")
    errors: list[str] = []
    sections: dict[str, list[dict[str, Any]]] = {}
    for name in SECTIONS:
        entries = content.get(name, [])
        if not isinstance(entries, list):
            raise DatasetError(f"{path}: {name!r} is {type(entries).__name__}; expected a list of entries")
        items = [
            _read_entry(entry, f"{name}[{n}]", path.parent, errors, masks_needed) for n, entry in enumerate(entries)
        ]
        if items:
            sections["pool" if name == "training" else name] = [item for item in items if item is not None]
    if errors:
        raise DatasetError(f"{path}: {len(errors)} entries cannot be used; correct or remove them:{listing(errors)}")
    return {"pool": [], **sections}


def _read_entry(entry: Any, where: str, root: Path, errors: list[str], masks_needed: bool) -> dict[str, Any] | None:
    """One entry -> item; what is wrong with it is added to `errors`."""
    before = len(errors)
    if isinstance(entry, str):
        entry = {"image": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or not entry["image"]:
        errors.append(f'{where}: found {entry!r}; expected {{"image": "path", "label": "path"}}')
        return None
    image = _resolve(root, entry["image"])
    file = _name_of(image, root)
    whole = _name_of(split_address(image)[0], root)
    item: dict[str, Any] = {"image": str(image), "file": file, "group": str(entry.get("group") or whole)}
    if entry.get("group") == 0:  # a number is as good a name as any
        item["group"] = "0"
    label = entry.get("label")
    section = where.split("[")[0]
    if label is not None and not isinstance(label, str):
        errors.append(f"{where}: label is {label!r}; expected the path of a mask")
    elif label and section == "unlabeled":
        errors.append(f"{where}: {file} has a label; move it to training or remove the label")
    elif label:
        item["label"] = str(_resolve(root, label))
    elif section in ("validation", "test") and masks_needed:
        errors.append(f"{where}: {file} has no label; figures need one, move the entry to unlabeled")
    _read_pseudo_label(entry, item, where, root, errors)
    for key in ("image", "label", "pseudo_label"):
        if key in item and (reason := _unusable(item[key], key, item.get("label") or item.get("pseudo_label"))):
            errors.append(f"{where}: {item[key]}: {_CURE[reason]}")
    if entry.get("severity") is not None:
        try:
            item["severity"] = float(entry["severity"])
        except (TypeError, ValueError):
            errors.append(f"{where}: severity is {entry['severity']!r}; expected a number")
    return item if len(errors) == before else None


def _read_pseudo_label(entry: dict[str, Any], item: dict[str, Any], where: str, root: Path, errors: list[str]) -> None:
    """Add "pseudo_label" and "weight" to the item, if the entry has them."""
    found, weight = entry.get("pseudo_label"), entry.get("weight", 1.0)
    if found is None:
        return
    if not isinstance(found, str) or not found:
        errors.append(f"{where}: pseudo_label is {found!r}; expected the path of a mask")
    elif not where.startswith("unlabeled"):
        errors.append(
            f"{where}: {item['file']} has a pseudo_label; those belong into unlabeled, a drawn mask is a label"
        )
    elif not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight <= 1:
        errors.append(f"{where}: weight is {weight!r}; expected a number in 0..1")
    else:
        item |= {"pseudo_label": str(_resolve(root, found)), "weight": float(weight)}


def _resolve(root: Path, name: str) -> Path:
    return Path(os.path.abspath(root / os.path.expanduser(name)))


def _unusable(name: str, key: str, label: str | None) -> str | None:
    path, frame = split_address(name)
    if not path.is_file():
        return "missing"
    suffix = path.suffix.lower()
    if key != "image":
        return "foreign" if suffix in VIDEO_SUFFIXES + DICOM_SUFFIXES else None
    many = frame is None and suffix in VIDEO_SUFFIXES
    return "frame" if many and label is not None and not is_volume(label) else None


def _name_of(path: str | os.PathLike[str], root: Path) -> str:
    """Path relative to the datalist's folder, by which outputs are named; a step out of it is called "up"."""
    parts = Path(os.path.relpath(path, root)).parts
    return "/".join("up" if part == ".." else part for part in parts)
