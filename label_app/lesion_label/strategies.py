"""Which image to label next: MONAI Label's questions, answered by the bundle's selection."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.strategy import Strategy

from lesion_label.requests import invalid, number_of
from lesion_label.scoring import LesionScoring
from scripts.io.errors import MediaError
from scripts.selection import Candidate, Choice, ChoiceOptions
from scripts.selection.uncertain import PROPORTIONAL

logger = logging.getLogger(__name__)

RESERVED_S = 30 * 60  # seconds for which an image that one client was given is not given to another
ATTEMPTS = 10  # images tried in a row when they cannot be fetched; more of them is a fault of the server's
NOISE = 0.2  # of log(score) at the first rounds; falls as 1 / (1 + labels / NOISE_HALF)
NOISE_HALF = 20
KINDS = 50  # kinds of views that are told apart beyond those asked for; each costs time at every image
SPREAD = 0.05  # cosine distance below which two images are near-duplicates
DESCRIPTIONS = {
    "random": "drawn by lot",
    "first": "in the order of their names",
    "uncertainty": "of which the network is least sure, spread over kinds of images and videos",
    "diversity": "different from each other and from what is labelled, for the first labels",
}


class LesionStrategy(Strategy):
    """One of random, first, uncertainty, diversity.

    Request parameters: n (how many to name, default 1; "choices" lists them), seed, and for uncertainty noise,
    group_cap and strata (false = the highest scores in their order, or {"lesion": 0.6, "uncertain": 0.4} = shares).

    Args:
        kind: which.
        scoring: whose scores are read.
    """

    def __init__(self, kind: str, scoring: LesionScoring) -> None:
        super().__init__(f"Images without label, {DESCRIPTIONS[kind]}")
        self.kind = kind
        self.scoring = scoring

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """{"id", "score", "stratum", "reason", "choices"} of the next image; None when all are labelled."""
        unlabeled = sorted(datastore.get_unlabeled_images())
        if not unlabeled:
            return None
        count = request.get("n", 1)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 1000:
            raise invalid(f"n {count!r}: expected how many images to name, 1 to 1000")
        readable = self.scoring.readable(unlabeled) or unlabeled
        free = self._not_reserved(readable, request.get("client_id"), datastore) or readable
        choices, note = self._fetched(free, count, request, datastore)
        if note:
            logger.warning("%s: %s", self.kind, note)
        first = choices[0]
        score = None if np.isnan(first.score) else round(float(first.score), 5)
        return {
            "id": first.id,
            "score": score,
            "stratum": first.stratum,
            "reason": first.reason + (f" ({note})" if note else ""),
            "weights": self.scoring.store.current(),
            "choices": [one.id for one in choices],
        }

    def _not_reserved(self, images: list[str], client: str | None, datastore: Datastore) -> list[str]:
        """Images that no other client was given a while ago; MONAI Label notes who was given what."""
        now, free = time.time(), []
        for image in images:
            given = datastore.get_image_info(image).get("strategy", {}).values()
            if not any(now - one.get("ts", 0) < RESERVED_S and one.get("client_id") != client for one in given):
                free.append(image)
        return free

    def _fetched(
        self, images: list[str], count: int, request: dict[str, Any], datastore: Datastore
    ) -> tuple[list[Choice], str]:
        """A choice whose first image is at hand. Raises MediaError, MONAILabelException: none of ATTEMPTS is."""
        left = ATTEMPTS
        while True:
            choices, note = self._choose(images, min(count, len(images)), request, datastore)
            try:
                datastore.get_image_uri(choices[0].id)
                return choices, note
            except (MediaError, MONAILabelException) as error:
                self.scoring.refuse(choices[0].id)
                logger.warning("%s is not offered: %s", choices[0].id, getattr(error, "msg", None) or error)
                images = [image for image in images if image != choices[0].id]
                left -= 1
                if not images or not left:
                    raise

    def _choose(
        self, images: list[str], count: int, request: dict[str, Any], datastore: Datastore
    ) -> tuple[list[Choice], str]:
        seed = number_of(request, "seed", 0, whole=True)
        labelled = datastore.get_labeled_images()
        # Another draw after each label, the same for the same state.
        draw = seed + len(labelled)
        if self.kind in ("first", "random"):
            unscored = [Candidate(image, image, float("nan")) for image in images]
            return ChoiceOptions(strategy=self.kind, count=count, seed=draw).choose(unscored), ""
        rows = self.scoring.current().rows
        groups = datastore.groups()
        candidates = [
            Candidate(
                image, groups.get(image, image), row.get("score", float("nan")), row.get("stratum", ""), features(row)
            )
            for image in images
            for row in [rows.get(image, {})]
        ]
        known = [found for image in labelled if (found := features(rows.get(image, {}))) is not None]
        per_group = Counter(groups.get(image, image) for image in labelled)
        per_stratum = _strata_of(labelled, rows)
        scored = sum(not np.isnan(one.score) for one in candidates)
        if self.kind == "uncertainty" and scored:
            options = _by_uncertainty(request, count, draw, len(labelled))
            late = len(candidates) - scored
            kept = per_stratum if options.strata_shares else None
            chosen = options.choose(candidates, per_group, known or None, kept)
            return chosen, f"{late} images have no score yet" if late else ""
        if not any(one.features is not None for one in candidates):
            drawn = ChoiceOptions(strategy="random", count=count, seed=draw).choose(candidates)
            return drawn, "nothing is scored yet: drawn by lot; POST /scoring/lesion scores"
        # As many kinds of views as the labels and this choice could show: asked one by one, it sees what a lot would.
        diverse = ChoiceOptions(strategy="diversity", count=count + min(len(known), KINDS), seed=seed)
        chosen = diverse.choose(candidates, per_group, known or None, per_stratum)[:count]
        return chosen, "no network was trained yet: chosen by diversity" if self.kind == "uncertainty" else ""


def _by_uncertainty(request: dict[str, Any], count: int, seed: int, labelled: int) -> ChoiceOptions:
    """The strategy with the parameters of a request. Raises MONAILabelException: numbers that make no sense."""
    strata = request.get("strata", True)
    noise = number_of(request, "noise", NOISE / (1 + labelled / NOISE_HALF))
    group_cap = number_of(request, "group_cap", None, whole=True)
    try:
        return ChoiceOptions(
            strategy="uncertainty",
            count=count,
            seed=seed,
            noise=noise,
            strata_shares=strata if isinstance(strata, dict) else PROPORTIONAL if strata else None,
            min_distance=SPREAD if strata else 0.0,
            group_cap=group_cap,
        )
    except (TypeError, ValueError) as error:
        raise invalid(f"strata {str(strata)[:80]}: expected true, false or shares of strata ({error})") from error


def _strata_of(images: list[str], rows: dict[str, dict[str, Any]]) -> Counter:
    return Counter(rows[image]["stratum"] for image in images if image in rows and rows[image]["stratum"])


def features(row: dict[str, Any]) -> np.ndarray | None:
    """The features of a row of scores; None where there are none."""
    found = row.get("features")
    return None if found is None or not len(found) or not np.any(found) else np.asarray(found)
