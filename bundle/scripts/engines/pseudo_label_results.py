"""Pseudo-labels of the frames that come by: masks, a table, a sheet to look at, and a datalist to train on."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.data.fingerprints import file_sha256
from scripts.data.mining import MiningSet, as_entries
from scripts.engines.frame_result import FrameResult
from scripts.engines.picture_results import frame_name
from scripts.io.atomic import write_text
from scripts.io.image_reader import read_rgb
from scripts.io.overlay import draw_overlay
from scripts.io.table import Table
from scripts.io.writers import OutputNamer, write_mask_png, write_overlay_png
from scripts.pseudo_labels import DECISIONS, GIVEN, MinedLabel, PseudoLabelMiner

logger = logging.getLogger(__name__)

COLUMNS = (
    *("file", "decision", "weight", "lesions", "lesion_share", "unknown_share", "student_share", "expected_iou"),
    *("predicted_iou", "stability", "agreement", "student_confidence", "mask"),
)
SCORES = ("predicted_iou", "stability", "agreement", "student_confidence")
TABLE_FILE, LIST_FILE, SUMMARY_FILE, SHEET_FILE = (
    *("pseudo_labels.csv", "pseudo_labels.json"),
    *("mining.json", "pseudo_labels.png"),
)
SHEET_SIDE = 256  # pixels, longer side of a picture on the sheet
SHEET_MOST = 40  # pictures of each decision on it

Draw = Callable[[Path, Iterable[tuple[Image.Image, Image.Image | None, str]]], None]


class PseudoLabelResults:
    """A ResultWriter that mines each frame.

    Writes ``masks/`` (PNG), ``pseudo_labels.csv`` (decision and figures of each frame, the lowest of its lesions),
    ``mining.json`` (how, and how many of each decision), ``pseudo_labels.png`` (mined magenta, student green) and, of
    a dataset, ``pseudo_labels.json``: its labels as they are, its unlabelled frames with their pseudo-labels.

    Args:
        miner: decides.
        mining_set: where the frames come from.
        draw: writes the sheet.
        checkpoint: the student, for ``mining.json``.
        overlays: write ``overlays/`` as well, one picture a frame.
        student_masks: write ``student_masks/``, what the student alone would have given.
        every_frame: a frame that is dropped gets the student's mask, marked as it is: to be corrected by hand.
    """

    def __init__(
        self,
        miner: PseudoLabelMiner,
        mining_set: MiningSet,
        draw: Draw,
        checkpoint: str | Path = "",
        overlays: bool = False,
        student_masks: bool = False,
        every_frame: bool = False,
    ) -> None:
        self.miner, self.mining_set, self.draw = miner, mining_set, draw
        self.checkpoint, self.overlays, self.student_masks = checkpoint, overlays, student_masks
        self.every_frame = every_frame
        self.start(Path())

    def start(self, output_dir: Path) -> None:
        """Begin a new table."""
        self.output_dir = output_dir
        self.table = Table(COLUMNS)
        self.mined: dict[str, tuple[str, float]] = {}  # frame -> mask, weight
        self.counts: Counter[str] = Counter()
        self._tiles: dict[str, list[tuple[Image.Image, None, str]]] = {name: [] for name in DECISIONS}
        self._namer = OutputNamer(self.mining_set.files, suffix="")

    def takes(self, kind: str) -> bool:
        """Every kind."""
        return True

    def add(self, result: FrameResult) -> None:
        """Mine one frame. Raises MediaError or ValueError: it fails alone."""
        picture = read_rgb(result.path)
        label = self.miner.mine(picture, result.probability, result.file)
        name = frame_name(self._namer(result.source), result.file, result.source, result.frame)
        mask, unknown = (_proposal(label), None) if self.every_frame else (label.mask, label.unknown)
        if mask is not None:
            write_mask_png(self.output_dir / "masks" / name, mask, unknown)
        if self.student_masks:
            write_mask_png(self.output_dir / "student_masks" / name, label.student)
        if self.overlays and mask is not None:
            write_overlay_png(self.output_dir / "overlays" / name, picture, mask, label.student)
        self._note(result.file, label, mask, f"masks/{name}")
        if len(self._tiles[label.decision]) < SHEET_MOST:
            self._tiles[label.decision].append(_tile(picture, label, result.file))

    def _note(self, file: str, label: MinedLabel, mask: NDArray[np.bool_] | None, path: str) -> None:
        self.counts[label.decision] += 1
        if label.decision in GIVEN:
            self.mined[file] = (path, label.weight)
        lowest = {name: min((getattr(one, name) for one in label.lesions), default=None) for name in SCORES}
        self.table.add(
            file=file,
            decision=label.decision,
            weight=label.weight,
            lesions=len(label.lesions),
            lesion_share=None if label.mask is None else float(label.mask.mean()),
            unknown_share=None if label.mask is None else 0.0 if label.unknown is None else float(label.unknown.mean()),
            student_share=float(label.student.mean()),
            expected_iou=label.expected_iou,
            mask=None if mask is None else path,
            **lowest,
        )

    def failed(self, item: Mapping[str, Any], error: str) -> None:
        """A frame that cannot be read gets no pseudo-label."""

    def finish_source(self) -> None:
        """Each frame is written when it comes."""

    def finish(self) -> None:
        """Write table, sheet, summary and datalist. Raises OutputError."""
        self.table.write(self.output_dir / TABLE_FILE)
        self.draw(self.output_dir / SHEET_FILE, self._sheet())
        summary = self.summary()  # hashes the student's file
        write_text(self.output_dir / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
        counts = ", ".join(f"{count} {name}" for name, count in summary["decisions"].items() if count)
        logger.info("pseudo-labels for %d of %d frames: %s", len(self.mined), sum(self.counts.values()), counts)
        if self.mining_set.sections is not None:  # Last: who finds it finds all.
            write_text(self.output_dir / LIST_FILE, json.dumps(self._datalist(), indent=1) + "\n")
        if not self.mined:
            logger.warning("no frame has a pseudo-label; look at %s", self.output_dir / SHEET_FILE)

    def summary(self) -> dict[str, Any]:
        """What ``mining.json`` holds."""
        weights = [weight for _, weight in self.mined.values()]
        return {
            "segmenter": self.miner.segmenter.name,
            "segmenter_fingerprint": self.miner.segmenter.fingerprint,
            "passes": self.miner.passes,
            "rules": vars(self.miner.rules),
            "prompts": vars(self.miner.prompts),
            "student": str(self.checkpoint),
            "student_sha256": file_sha256(str(self.checkpoint)) if self.checkpoint else "",
            "frames": sum(self.counts.values()),
            "pseudo_labels": len(self.mined),
            "mean_weight": float(np.mean(weights)) if weights else None,
            "decisions": {name: self.counts[name] for name in DECISIONS},
        }

    def _sheet(self) -> Iterator[tuple[Image.Image, None, str]]:
        for tiles in self._tiles.values():
            yield from tiles

    def _datalist(self) -> dict[str, list[dict[str, Any]]]:
        folder = Path(os.path.abspath(self.output_dir))
        found = []
        for item in self.mining_set.frames:
            mask, weight = self.mined.get(item["file"], (None, 0.0))
            more = {} if mask is None else {"pseudo_label": str(folder / mask), "weight": round(weight, 6)}
            found.append({**item, **more})
        sections = {**(self.mining_set.sections or {}), "unlabeled": found}
        return {name: as_entries(items, folder) for name, items in sections.items()}


def _proposal(label: MinedLabel) -> NDArray[np.bool_]:
    """A mask to correct by hand: where the segmenter is not believed, what the student sees."""
    if label.mask is None:
        return label.student
    return label.mask if label.unknown is None else label.mask | (label.student & label.unknown)


def _tile(picture: NDArray[np.uint8], label: MinedLabel, file: str) -> tuple[Image.Image, None, str]:
    """The picture, small, with both outlines, and what was decided."""
    height, width = picture.shape[:2]
    scale = SHEET_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))

    def small(pixels: NDArray[Any], method: Image.Resampling) -> NDArray[Any]:
        return np.asarray(Image.fromarray(pixels).resize(size, method))

    student = small(label.student, Image.Resampling.NEAREST)
    mask = np.zeros_like(student) if label.mask is None else small(label.mask, Image.Resampling.NEAREST)
    drawn = draw_overlay(small(picture, Image.Resampling.BOX), mask, student)
    weight = f", weight {label.weight:.2f}" if label.mask is not None else ""
    return Image.fromarray(drawn), None, f"{file}\n{label.decision}{weight}"
