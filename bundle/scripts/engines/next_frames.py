"""The frames of a folder to label next, as a command: a table, a sheet of pictures, an exit code."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from scripts.data.candidates import Item, read_candidates
from scripts.data.errors import DatasetError
from scripts.engines.checkpoints import load_into
from scripts.engines.frame_results import EXIT_FAILURES
from scripts.engines.frame_scores import FrameScore, network_picture, score_frames, soft_outputs
from scripts.io.errors import MediaError
from scripts.io.image_reader import read_rgb
from scripts.io.table import Table
from scripts.io.writers import ensure_writable
from scripts.networks.checkpoints import CheckpointError
from scripts.networks.less_net import LESSNet
from scripts.selection import Candidate, Choice, ChoiceOptions

logger = logging.getLogger(__name__)

COLUMNS = ("rank", "file", "group", "score", "stratum", "reason")


@dataclass(frozen=True)
class FrameScorer:
    """The network that looks at the frames, and how.

    Attributes:
        trained: whether it was trained on lesions; without, only its encoder says something.
        image_size: pixels, side of the square it sees. batch_size: frames a pass. temperature: divides the logits.
    """

    network: LESSNet
    trained: bool
    device: torch.device
    image_size: int
    batch_size: int = 8
    temperature: float = 1.0

    def score(self, items: Sequence[Item], what: str) -> Iterator[FrameScore]:
        """Score items, in their order."""
        found = score_frames(
            self.network,
            [item["image"] for item in items],
            device=self.device,
            image_size=self.image_size,
            batch_size=self.batch_size,
            temperature=self.temperature,
        )
        return iter(tqdm(found, desc=what, total=len(items), delay=2, leave=False))

    def probability(self, address: str) -> Image.Image | None:
        """Lesion probability of one frame, mode F; None where the network was not trained. Raises MediaError."""
        if not self.trained:
            return None
        picture = network_picture(address, self.image_size)[None]
        probability, _ = soft_outputs(self.network, picture, device=self.device, temperature=self.temperature)
        return Image.fromarray(probability[0])


def build_scorer(
    network: LESSNet,
    checkpoint: str | Path,
    encoder_weights: str,
    options: ChoiceOptions,
    device: str | torch.device,
    image_size: int,
    batch_size: int = 8,
    temperature: float = 1.0,
) -> FrameScorer | None:
    """The network with its weights, as the strategy needs it; None where it needs none.

    Args:
        checkpoint: model.pt or last.pt of a run.
        encoder_weights: what the network's encoder was started from; not empty = no checkpoint is loaded, which serves
            diversity alone.

    Raises:
        ValueError: uncertainty without a checkpoint.
        CheckpointError: weights that are missing or do not fit.
    """
    if not options.needs_network:
        return None
    diverse = options.strategy == "diversity"
    if encoder_weights and not diverse:
        raise ValueError(
            f"encoder_weights is {encoder_weights!r}, but {options.strategy} needs a network trained on "
            "lesions: leave it out and give --checkpoint model.pt, or choose by --strategy diversity"
        )
    if encoder_weights:
        report = network.encoder_weights_report
        logger.info("no checkpoint: frames are told apart by the encoder alone; %s", report["message"])
        if report["used"] == "random":
            logger.warning("nobody trained this encoder: its features tell frames apart by little more than colour")
    elif Path(checkpoint).is_file():
        load_into(network, checkpoint, image_size)
    else:
        cure = ", or, for diversity, --encoder_weights imagenet (or a path)" if diverse else ""
        raise CheckpointError(f"{checkpoint} does not exist; give --checkpoint model.pt of a run{cure}")
    sizes = {"image_size": int(image_size), "batch_size": int(batch_size)}
    network = network.to(device).eval()
    return FrameScorer(network, not encoder_weights, torch.device(device), **sizes, temperature=float(temperature))


def write_next_frames(
    dataset_dir: str | Path,
    output_dir: str | Path,
    options: ChoiceOptions,
    scorer: FrameScorer | None,
    draw: Callable[[Path, Iterator[tuple[Image.Image, Image.Image | None, str]]], None],
    allow_failures: bool = False,
) -> list[Choice]:
    """Choose frames of a dataset folder and write next_frames.csv, next_frames.png and, if need be, failures.csv.

    Args:
        dataset_dir: see read_candidates.
        scorer: see build_scorer.
        draw: writes a picture of (frame RGB, lesion probability or None, caption), one after the other.
        allow_failures: do not end with exit code 3 when files could not be read.

    Raises:
        DatasetError: nothing to choose from.
        SystemExit: exit code 3 when files could not be read; the tables are written.
    """
    labelled_items, items = read_candidates(dataset_dir)
    if not items:
        raise DatasetError(f"{dataset_dir}: every frame has a mask already; add frames, or give another dataset_dir")
    output_dir = ensure_writable(output_dir)
    logger.info("%d frames without a mask, %d with one", len(items), len(labelled_items))
    per_group = Counter(item["group"] for item in labelled_items)
    failures: dict[str, str] = {}
    features: list[NDArray[np.float32]] = []
    if scorer is None:
        candidates = [Candidate(item["file"], item["group"], math.nan) for item in items]
    else:
        candidates = _scored(scorer, items, failures)
        if labelled_items and options.compares_with_labelled:
            found = scorer.score(labelled_items, "labelled frames")
            features = [np.float32(seen.features) for seen in found if not seen.error]
    images = {item["file"]: item["image"] for item in items}
    chosen = options.choose(candidates, per_group, features)
    while broken := _unreadable(chosen, images) if scorer is None else {}:
        failures |= broken  # Nobody has looked at them before: others take their place.
        candidates = [candidate for candidate in candidates if candidate.id not in failures]
        chosen = options.choose(candidates, per_group, features)
    if not chosen:
        raise DatasetError(
            f"{dataset_dir}: none of its {len(items)} frames can be read: {next(iter(failures.values()))}"
        )
    if len(chosen) < options.count:
        logger.warning("%d frames were asked for, there are %d", options.count, len(chosen))
    _write_tables(output_dir, chosen, failures)
    draw(output_dir / "next_frames.png", _sheet(chosen, images, scorer))
    logger.info("%d frames to label next: %s", len(chosen), output_dir / "next_frames.csv")
    if failures:
        logger.warning("%d frames cannot be read: %s", len(failures), output_dir / "failures.csv")
        if not allow_failures:
            raise SystemExit(EXIT_FAILURES)
    return chosen


def _scored(scorer: FrameScorer, items: Sequence[Item], failures: dict[str, str]) -> list[Candidate]:
    candidates = []
    for item, seen in zip(items, scorer.score(items, "frames"), strict=True):
        if seen.error:
            failures[item["file"]] = seen.error
            continue
        # Of an untrained decoder score and stratum would be noise that looks like figures.
        score, kind = (seen.score, seen.stratum) if scorer.trained else (math.nan, "")
        candidates.append(Candidate(item["file"], item["group"], score, kind, np.float32(seen.features)))
    return candidates


def _unreadable(chosen: Sequence[Choice], images: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for each in chosen:
        try:
            read_rgb(images[each.id])
        except MediaError as error:
            found[each.id] = str(error)
    return found


def _write_tables(output_dir: Path, chosen: Sequence[Choice], failures: Mapping[str, str]) -> None:
    table = Table(COLUMNS)
    for each in chosen:
        score = None if math.isnan(each.score) else each.score
        row = (each.rank, each.id, each.group, score, each.stratum, each.reason)
        table.add(**dict(zip(COLUMNS, row, strict=True)))
    table.write(output_dir / "next_frames.csv")
    (output_dir / "failures.csv").unlink(missing_ok=True)  # of an earlier call
    if failures:
        broken = Table(("file", "error"))
        for file, error in sorted(failures.items()):
            broken.add(file=file, error=error)
        broken.write(output_dir / "failures.csv")


def _sheet(
    chosen: Sequence[Choice], images: Mapping[str, str], scorer: FrameScorer | None
) -> Iterator[tuple[Image.Image, Image.Image | None, str]]:
    for each in chosen:
        score = "" if math.isnan(each.score) else f"  {each.score:.3f}"
        caption = f"{each.rank}{score}  {each.stratum}\n{each.id}"
        probability = None if scorer is None else scorer.probability(images[each.id])
        yield Image.fromarray(read_rgb(images[each.id])), probability, caption
