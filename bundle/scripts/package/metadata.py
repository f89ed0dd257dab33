"""metadata.json against what the zoo's schema asks for, and its version against the changelogs."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "configs/metadata.json"
REPOSITORY = "endoscopic-lesion-segmentation"  # its name in pyproject.toml
#: what meta_schema_20240725 requires, and the types of what it does not require
REQUIRED = {
    **dict.fromkeys(("schema", "version", "monai_version", "pytorch_version", "numpy_version"), str),
    **dict.fromkeys(("task", "description", "authors", "copyright"), str),
    **dict.fromkeys(("required_packages_version", "network_data_format", "changelog"), dict),
}
OPTIONAL = {
    **dict.fromkeys(
        ("data_source", "data_type", "image_classes", "label_classes", "pred_classes", "intended_use"), str
    ),
    **dict.fromkeys(("eval_metrics", "supported_apps"), dict),
    "references": list,
}
TENSOR = {
    **dict.fromkeys(("type", "format", "dtype"), str),
    "num_channels": int,
    **dict.fromkeys(("spatial_shape", "value_range"), list),
}
TENSOR_OPTIONAL = {"is_patch_data": bool, "channel_def": dict, "modality": str}
_PLAIN = re.compile(r"\d+(\.\d+)*$")
_SEMANTIC = re.compile(r"\d+\.\d+\.\d+$")
_HEADING = re.compile(r"^## (\S+)", re.MULTILINE)


def read_metadata(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The content of metadata.json, empty where it is not readable, and what is wrong with it."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"{NAME} cannot be read ({error}): put it right."]
    return (content, []) if isinstance(content, dict) else ({}, [f"{NAME} is no JSON object: put it right."])


def format_problems(metadata: dict[str, Any]) -> list[str]:
    """Keys and types."""
    problems = list(_type_problems(metadata, REQUIRED, OPTIONAL, ""))
    versions = {key: metadata.get(key) for key in ("monai_version", "pytorch_version", "numpy_version")}
    packages = metadata.get("required_packages_version")
    versions |= packages if isinstance(packages, dict) else {}
    for name, version in versions.items():
        if isinstance(version, str) and not _PLAIN.match(version):
            problems.append(
                f"{NAME}: the version of {name} is '{version}', the zoo installs it by ==: expected digits and dots."
            )
    for kind, needed in (("inputs", "image"), ("outputs", "pred")):
        tensors = (metadata.get("network_data_format") or {}).get(kind)
        if not isinstance(tensors, dict) or not isinstance(tensors.get(needed), dict):
            problems.append(f"{NAME}: network_data_format has no {kind}#{needed}: the zoo's shape check reads it.")
            continue
        for name, tensor in tensors.items():
            where = f"network_data_format#{kind}#{name}#"
            if not isinstance(tensor, dict):
                problems.append(f"{NAME}: {where[:-1]} is no JSON object: describe the tensor.")
                continue
            problems += _type_problems(tensor, TENSOR, TENSOR_OPTIONAL, where)
            problems += _channel_problems(tensor, where)
    return problems


def _channel_problems(tensor: dict[str, Any], where: str) -> Iterator[str]:
    """A tensor that names other channels than it has."""
    named, count = tensor.get("channel_def"), tensor.get("num_channels")
    if isinstance(named, dict) and isinstance(count, int) and len(named) != count:
        yield f"{NAME}: {where}num_channels is {count}, channel_def names {len(named)}: make them agree."


def _type_problems(
    content: dict[str, Any], required: dict[str, type], optional: dict[str, type], where: str
) -> Iterator[str]:
    """Missing keys, and values of another type."""
    for key, kind in (required | optional).items():
        if key not in content:
            if key in required:
                yield f"{NAME}: {where}{key} is missing: the zoo's schema requires it; expected {_named(kind)}."
            continue
        value = content[key]
        right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        if not right or (value == "" and key in required):
            yield f"{NAME}: {where}{key} is {value!r}, expected {_named(kind)}: put it right."


def _named(kind: type) -> str:
    return {str: "text", dict: "an object", list: "a list", int: "a whole number", bool: "true or false"}[kind]


def version_problems(metadata: dict[str, Any], repository: Path) -> list[str]:
    """A version that is not the newest of the changelog, or another one than that of the repository.

    Args:
        repository: folder around the bundle; where it is the project's, its CHANGELOG.md and pyproject.toml count too.
    """
    version, changelog = metadata.get("version"), metadata.get("changelog")
    if not isinstance(version, str) or not isinstance(changelog, dict):
        return []  # format_problems names it
    problems = [
        f"{NAME}: version '{name}' is not like 1.2.3: write it so."
        for name in dict.fromkeys((version, *changelog))
        if not _SEMANTIC.match(name)
    ]
    if problems:
        return problems
    if version not in changelog:
        problems.append(f"{NAME}: version {version} has no entry in changelog: say there what it brings.")
    newest = max(changelog, key=_ordered, default=version)
    if _ordered(newest) > _ordered(version):
        problems.append(f"{NAME}: version is {version}, the newest entry of changelog is {newest}: make them agree.")
    return problems + list(_repository_problems(version, repository))


def _repository_problems(version: str, repository: Path) -> Iterator[str]:
    """pyproject.toml and CHANGELOG.md of another version; nothing where the bundle is not in its repository."""
    project_file = repository / "pyproject.toml"
    project = tomllib.loads(project_file.read_text(encoding="utf-8"))["project"] if project_file.is_file() else {}
    if project.get("name") != REPOSITORY:
        return
    if project["version"] != version:
        yield f"pyproject.toml: version is {project['version']}, metadata.json has {version}: make them agree."
    changes = repository / "CHANGELOG.md"
    heading = _HEADING.search(changes.read_text(encoding="utf-8")) if changes.is_file() else None
    found = heading.group(1) if heading else "none"
    if found != version:
        yield f"CHANGELOG.md: the newest heading is {found}, metadata.json has {version}: make them agree."


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def schema_problems(folder: Path, schema: Path, scratch: Path) -> list[str]:
    """MONAI's own verification by a copy of the schema file that metadata.json names.

    Raises:
        ImportError: jsonschema is not installed.
    """
    try:
        import jsonschema  # noqa: F401  # named here, with its cure; MONAI would name it in the middle of its work
    except ImportError as error:
        raise ImportError("--schema needs jsonschema: pip install jsonschema, or leave --schema out.") from error
    from monai.bundle import verify_metadata

    if not schema.is_file():
        return [f"--schema {schema} does not exist: give the file that metadata.json's schema names."]
    copy = Path(shutil.copy(schema, scratch / "schema.json"))  # MONAI downloads a file that is not there
    try:
        verify_metadata(meta_file=str(folder / NAME), filepath=str(copy))
    except ValueError as error:
        return [f"{NAME} does not fit the schema {schema.name}: {' '.join(str(error).split())}"]
    return []
