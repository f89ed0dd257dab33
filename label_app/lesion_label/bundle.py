"""Where the bundle lies, and what its configs say."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "endoscopic_lesion_segmentation"
VARIABLE = "LESION_BUNDLE"


class BundleNotFoundError(FileNotFoundError):
    """No folder holds the bundle; the message names where it was looked for."""


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder: configs/, scripts/, models/."""

    root: Path

    @property
    def metadata(self) -> dict[str, Any]:
        """configs/metadata.json."""
        return json.loads((self.root / "configs" / "metadata.json").read_text(encoding="utf-8"))

    @property
    def released_weights(self) -> Path:
        """models/model.pt, which this app reads and never writes."""
        return self.root / "models" / "model.pt"

    def config(self, **overrides: Any) -> Any:
        """MONAI's parser of configs/inference.json with ids replaced."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(self.root / "configs" / "inference.json")
        parser.config.update({"bundle_root": str(self.root), **overrides})
        return parser

    def network(self, weights: Path | None, device: str, encoder_weights: str = "none") -> Any:
        """The config's network on a device, ready for inference.

        Args:
            weights: file for all of it; None = the encoder's weights alone.

        Raises:
            CheckpointError: see scripts.networks.checkpoints.
        """
        from scripts.networks.checkpoints import ready_network

        config = self.config()
        config["network_def"]["encoder_weights"] = encoder_weights
        network = config.get_parsed_content("network_def", instantiate=True)
        return ready_network(network, device, weights, image_size=config.get_parsed_content("image_size")).eval()


def find_bundle(app_dir: str | Path, conf: Mapping[str, str]) -> Bundle:
    """The bundle that the app serves, its scripts made importable.

    Looked for in this order: ``--conf bundle FOLDER``, the environment variable LESION_BUNDLE, ``model/<name>`` of the
    app (a packaged bundle, where MONAI Label keeps its own), ``bundle`` beside the app (this repository).

    Raises:
        BundleNotFoundError: none of them is a bundle, or ``--conf models`` asks for another model.
    """
    asked = [name.strip() for name in conf.get("models", NAME).split(",") if name.strip()]
    if asked not in ([NAME], ["all"]):
        raise BundleNotFoundError(f"--conf models {','.join(asked)}: this app serves {NAME} alone; expected that name")
    app = Path(app_dir).resolve()
    named = [conf.get("bundle", ""), os.environ.get(VARIABLE, "")]
    places = [Path(place).expanduser().resolve() for place in named if place]
    places += [] if places else [app / "model" / NAME, app.parent / "bundle"]
    for place in places:
        if (place / "configs" / "inference.json").is_file() and (place / "scripts").is_dir():
            if str(place) not in sys.path:
                sys.path.insert(0, str(place))
            return Bundle(place)
    raise BundleNotFoundError(
        f"no bundle in {', '.join(map(str, places))}: expected a folder with configs/inference.json and scripts/; "
        f"name it with --conf bundle FOLDER or {VARIABLE}"
    )
