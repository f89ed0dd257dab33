"""The table of graded pictures, for whole runs."""

from __future__ import annotations

from pathlib import Path


def write_severities(folder: Path, severities: dict[str, float]) -> None:
    """severity.csv of pictures named p<patient>_<eye>.png."""
    lines = [f"{name},{severity:g},patient {int(name[1:3])}" for name, severity in severities.items()]
    (folder / "severity.csv").write_text("\n".join(["file,severity,patient", *lines]) + "\n")
