"""What the tests of the package share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from scripts.networks import LESSNet

NAME = "endoscopic_lesion_segmentation"


def files_of(folder: Path) -> dict[str, str]:
    """Relative name -> hash of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def edit(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file, by their path with # between names; None removes one."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("#")
        place = content
        for parent in parents:
            place = place[parent]
        place.pop(last) if value is None else place.__setitem__(last, value)
    path.write_text(json.dumps(content))


def spoil_metadata(**changes: Any) -> Callable[[Path], None]:
    return lambda bundle: edit(bundle / "configs" / "metadata.json", **changes)


def make_frame(folder: Path) -> Path:
    """A picture to compare weights on."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "frame.png")
    return folder / "frame.png"


def state(**options: Any) -> dict[str, torch.Tensor]:
    return LESSNet(encoder_weights="none", **options).state_dict()


def spoilt(name: str, value: float) -> dict[str, torch.Tensor]:
    content = state()
    content[name] = torch.full_like(content[name], value)
    return content
