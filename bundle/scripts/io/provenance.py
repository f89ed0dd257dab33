"""How an output came about: a JSON file beside it, with hashes of all that went in."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path

from scripts.io.errors import MediaError
from scripts.io.frame_address import split_address
from scripts.io.writers import write_bytes

_PACKAGES = ("torch", "monai", "pydicom", "highdicom", "av", "numpy")
NOT_INSTALLED = "not installed"


def hash_config(config: Mapping[str, object]) -> str:
    """SHA-256 of a configuration as canonical JSON: keys sorted, no spaces, UTF-8. 64 hexadecimal digits.

    Raises:
        ValueError: a value that JSON cannot hold (NaN, an object).
    """
    return hashlib.sha256(_json(config, indent=None).encode("utf-8", "backslashreplace")).hexdigest()


def file_sha256(path: str | PathLike[str]) -> str:
    """SHA-256 of a file, 64 hexadecimal digits; read once as long as its size and time stay the same.

    Raises:
        MediaError: it cannot be read.
    """
    path = Path(path)
    try:
        stat = path.stat()
        return _file_sha256(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror or error}); it is needed for its SHA-256") from error


@lru_cache(maxsize=256)  # a video or multi-frame DICOM has one output for each of thousands of frames
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def package_versions(packages: tuple[str, ...] | None = None) -> dict[str, str]:
    """Versions of Python and of packages (by default those that shape a mask), "not installed" where one is missing."""
    versions = {"python": platform.python_version()}
    for name in packages or _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = NOT_INSTALLED
    return versions


@dataclass(frozen=True)
class Provenance:
    """What is common to all outputs of a run.

    Args:
        bundle_version: of the bundle.
        weights_sha256: of the weights file.
        config_sha256: of the resolved configuration, see hash_config.
        threshold: probability above which a pixel is lesion, 0..1.
        temperature: by which logits were divided.
        settings: anything else that shaped the result; JSON values, no paths.
    """

    bundle_version: str
    weights_sha256: str
    config_sha256: str
    threshold: float
    temperature: float = 1.0
    settings: Mapping[str, object] = field(default_factory=dict)

    def record(self, output: str | PathLike[str], inputs: Sequence[str | PathLike[str]]) -> dict[str, object]:
        """Describe how `output` (written already) came from `inputs` (files, or frames of them: `clip.mp4#12`).

        Files are named without their folders. Raises MediaError when a file cannot be read.
        """
        return self._record(Path(output), [_describe(item) for item in inputs])

    def write_beside(
        self,
        output_path: str | PathLike[str],
        input_path: str | PathLike[str],
        input_sha256: str | None = None,
    ) -> Path:
        """Write `<output name>.json` beside the output; return its path.

        Args:
            output_path: the output, written already.
            input_path: the file it was made from, or a frame of it (`clip.mp4#12`).
            input_sha256: its hash, where it is known already.

        Raises:
            MediaError: a file cannot be read.
            OutputError: the record cannot be written.
        """
        output = Path(output_path)
        target = output.with_name(f"{output.name}.json")
        record = self._record(output, [_describe(input_path, input_sha256)])
        write_bytes(target, (_json(record, indent=2) + "\n").encode("utf-8", "backslashreplace"))
        return target

    def _record(self, output: Path, inputs: list[dict[str, object]]) -> dict[str, object]:
        return {
            "output": {"name": output.name, "sha256": file_sha256(output)},
            "inputs": inputs,
            "bundle_version": self.bundle_version,
            "weights_sha256": self.weights_sha256,
            "config_sha256": self.config_sha256,
            "threshold": self.threshold,
            "temperature": self.temperature,
            "settings": dict(self.settings),
            "versions": dict(package_versions()),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _describe(item: str | PathLike[str], sha256: str | None = None) -> dict[str, object]:
    """Name, SHA-256 and, where a frame (from 0) is addressed, its number."""
    path, frame = split_address(item)
    described: dict[str, object] = {"name": path.name, "sha256": sha256 or file_sha256(path)}
    return described if frame is None else described | {"frame": frame}


def _json(value: Mapping[str, object], indent: int | None) -> str:
    canonical = {"sort_keys": True, "separators": (",", ":")} if indent is None else {"indent": indent}
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, **canonical)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a setting cannot be written as JSON ({error}); expected text, numbers, lists, dicts"
        ) from None
