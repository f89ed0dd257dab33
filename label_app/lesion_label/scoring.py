"""How much a label of each untouched image would teach: soft outputs of the network, kept beside its weights."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lesion_label.bundle import Bundle
from lesion_label.requests import device_of
from lesion_label.weights import WeightsError, WeightsStore
from scripts.data.fingerprints import file_sha256
from scripts.io.atomic import replacing
from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

FILE = "scores.npz"
UNREADABLE_S = 30 * 60  # seconds for which an image that could not be fetched is not offered again
COLD = "encoder only"  # begins what stands in place of the weights' hash where no network was trained yet


@dataclass
class Scores:
    """What was found out about images, by their ids.

    Attributes:
        weights: SHA-256 of the weights that found it, or COLD and the encoder_weights asked for.
        rows: {id: {"score", "stratum", "lesion_share", "features", "error"}}.
        encoder: what the encoder really started from, where that alone found it: "auto" may mean random numbers today
            and ImageNet tomorrow.
    """

    weights: str = ""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    encoder: str = ""

    @classmethod
    def read(cls, path: Path) -> Scores:
        """From a file; nothing where there is none or it cannot be read (it is made again)."""
        try:
            with np.load(path, allow_pickle=False) as content:
                columns = {name: content[name] for name in content.files}
            return cls._of(columns)
        except FileNotFoundError:
            return cls()
        except Exception as error:  # zipfile and numpy have a dozen for damage, and all of it can be made again
            logger.warning("%s cannot be read (%s): images are scored anew", path.name, error)
            return cls()

    @classmethod
    def _of(cls, columns: dict[str, np.ndarray]) -> Scores:
        encoder = str(columns.pop("encoder", ""))
        names = [name for name in columns if name != "weights"]
        lists = {name: list(columns[name]) if name == "features" else columns[name].tolist() for name in names}
        found = zip(*lists.values(), strict=True)
        rows = {row[names.index("id")]: dict(zip(names, row, strict=True)) for row in found}
        return cls(str(columns["weights"]), rows, encoder)

    def write(self, path: Path) -> None:
        """To a file, whole or not at all."""
        rows = [{"id": name, **row} for name, row in self.rows.items()]
        width = max((len(row["features"]) for row in rows), default=0)
        columns: dict[str, Any] = {"weights": np.array(self.weights), "encoder": np.array(self.encoder)}
        for name in ("id", "score", "stratum", "lesion_share", "error"):
            columns[name] = np.array([row[name] for row in rows])
        columns["features"] = np.zeros((len(rows), width), np.float32)
        for position, row in enumerate(rows):
            columns["features"][position, : len(row["features"])] = row["features"]
        with replacing(path) as temporary:
            np.savez(temporary, **columns)


class LesionScoring(ScoringMethod):
    """Scores images by the soft output of the network: entropy in the lesion band, stratum, encoder features.

    One process, batches of frames: the number of threads that MONAI Label would take changes nothing. Images whose
    scores belong to the current weights are not looked at again; those that could not be read are, each time.

    Args:
        encoder_weights: of the network that gives features before anything was trained.
    """

    def __init__(self, bundle: Bundle, store: WeightsStore, encoder_weights: str = "auto") -> None:
        super().__init__("Entropy in the lesion band, and encoder features, of images without a final label")
        self.bundle = bundle
        self.store = store
        self.encoder_weights = encoder_weights
        self._refused: dict[str, float] = {}  # images that could not be fetched -> when they may be offered again

    @property
    def path(self) -> Path:
        """The file of scores."""
        return self.store.folder / FILE

    def weights_id(self) -> str:
        """What scores must belong to, to be worth anything."""
        try:
            return file_sha256(str(self.store.path()))
        except WeightsError:
            path = Path(self.encoder_weights).expanduser()
            return f"{COLD}: {self.encoder_weights}" + (f" {file_sha256(str(path))}" if path.is_file() else "")

    def current(self) -> Scores:
        """The scores of the current weights; none of others."""
        scores = Scores.read(self.path)
        return scores if scores.weights == self.weights_id() else Scores(self.weights_id())

    def missing(self, datastore: Datastore) -> list[str]:
        """Images without a label and without a score."""
        known = self.current().rows
        return [name for name in datastore.get_unlabeled_images() if name not in known]

    def refuse(self, image: str) -> None:
        """Note that an image could not be fetched."""
        self._refused[image] = time.monotonic() + UNREADABLE_S

    def readable(self, images: list[str]) -> list[str]:
        """Those of the images of which nothing speaks against it that they can be read."""
        rows, now = self.current().rows, time.monotonic()
        return [one for one in images if not rows.get(one, {}).get("error") and now >= self._refused.get(one, 0.0)]

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score what has no score -> counts and seconds. Labelled images are scored for their features alone."""
        from scripts.engines.frame_scores import score_frames

        begun = time.time()
        scores = self.current()
        wanted = [name for name in datastore.list_images() if scores.rows.get(name, {"error": "not seen"})["error"]]
        device = device_of(request.get("device"))
        network = self._network(device) if wanted else None
        if network is not None and scores.encoder != (used := _encoder_of(network, scores)):
            scores = Scores(scores.weights, encoder=used)
            wanted = datastore.list_images()
        paths: dict[str, str] = {}
        for name in wanted:
            try:
                paths[str(datastore.get_image_uri(name))] = name
            except (MediaError, MONAILabelException) as error:
                scores.rows[name] = _unread(getattr(error, "msg", None) or str(error))
                logger.warning("%s was not scored: %s", name, scores.rows[name]["error"])
        if network is not None and paths:
            config = self.bundle.config()
            found = score_frames(
                network,
                list(paths),
                device=device,
                image_size=config.get_parsed_content("image_size"),
                batch_size=config.get_parsed_content("batch_size"),
                temperature=config.get_parsed_content("temperature"),
            )
            cold = scores.weights.startswith(COLD)
            for one in found:
                if one.error:
                    scores.rows[paths[one.id]] = _unread(one.error)
                    logger.warning("%s was not scored: %s", paths[one.id], one.error)
                    continue
                scores.rows[paths[one.id]] = {
                    "score": float("nan") if cold else one.score,
                    "stratum": "" if cold else one.stratum,
                    "lesion_share": float("nan") if cold else one.lesion_share,
                    "features": np.asarray(one.features, np.float32),
                    "error": "",
                }
        if wanted:
            scores.write(self.path)
        failed = [name for name in wanted if scores.rows.get(name, {}).get("error")]
        logger.info("Scored %d images in %.1f s, %d cannot be read", len(wanted), time.time() - begun, len(failed))
        return {
            "scored": len(wanted),
            "known": len(scores.rows),
            "failed": failed,
            "weights": self.store.current() or COLD,
            "seconds": round(time.time() - begun, 2),
        }

    def _network(self, device: str) -> torch.nn.Module:
        try:
            return self.bundle.network(self.store.path(), device)
        except WeightsError:
            logger.warning("No weights yet: images are told apart by encoder_weights %s alone.", self.encoder_weights)
            with torch.random.fork_rng([]):
                torch.manual_seed(0)  # features of random numbers, too, must compare with those of another day
                return self.bundle.network(None, device, self.encoder_weights)


def _encoder_of(network: torch.nn.Module, scores: Scores) -> str:
    """What an encoder without trained network started from; "" with one, whose hash says it."""
    report = network.encoder_weights_report
    return f"{report['used']} {report.get('sha256', '')}".strip() if scores.weights.startswith(COLD) else ""


def _unread(error: str) -> dict[str, Any]:
    """The row of an image that could not be read, and why."""
    nothing = float("nan")
    return {"score": nothing, "stratum": "", "lesion_share": nothing, "features": np.zeros(0), "error": error}
