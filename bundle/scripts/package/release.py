"""What the bundle says of the weights it was released with, and a package of other weights must not say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

#: of metadata.json
ENTRIES = ("weights", "eval_metrics", "training")
FILES = ("docs/data_license.txt", "docs/figures/failures.png")
CARD = "docs/README.md"
NOTE = (
    "The weights of this package are not those that the bundle was released with: no figures of them are stated here."
)
_PART = re.compile(r"<!-- released -->.*?<!-- end released -->", re.DOTALL)


def declares(metadata: dict[str, Any]) -> dict[str, str]:
    """{file: SHA-256} of the released weights by metadata.json; empty where it names none."""
    entry = metadata.get("weights")
    return (entry.get("sha256") or {}) if isinstance(entry, dict) else {}


def without_release(metadata: dict[str, Any], files: Sequence[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """metadata.json and the files of a package of other weights, and what was left out of them."""
    kept = {name: value for name, value in metadata.items() if name not in ENTRIES}
    left = [name for name in ENTRIES if name in metadata] + [name for name in FILES if name in files]
    return kept, [name for name in files if name not in FILES], left


def card_without_release(text: str) -> str:
    """The model card without the part on the released weights."""
    return _PART.sub(NOTE, text)
