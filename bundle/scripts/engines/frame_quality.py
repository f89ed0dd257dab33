"""Inference results a frame at a time: mask, overlay, table row, and a flag for the frames a person should look at.

There is no ground truth at inference. What can be seen is whether predictions that should be the same are: those of the
shipped network, of its companion (student or EMA teacher, whichever was not shipped) and of the shipped network on the
mirrored frame. Where their masks disagree, the mask is doubtful.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from numpy.typing import NDArray

from scripts.io.errors import MediaError
from scripts.io.image_reader import read_rgb
from scripts.io.writers import OutputNamer, ensure_writable, write_bytes, write_mask_png, write_overlay_png

logger = logging.getLogger(__name__)

# Item key -> what `agreement_of` calls it. The first is compulsory, the others take part when they are there.
SOURCES = {"pred": "network", "pred_companion": "companion", "pred_flip": "flip"}
RESULT_COLUMNS = (
    *("file", "width", "height", "lesion_px", "lesion_share", "mean_confidence", "lesion_confidence"),
    *("agreement", "agreement_of", "quality", "mask", "overlay"),
)
FAILURE_COLUMNS = ("file", "error")
RESULTS_FILE, FAILURES_FILE = "results.csv", "failures.csv"


def pairwise_agreement(masks: Sequence[NDArray[np.bool_]]) -> float | None:
    """Return the mean Dice over all pairs of the (H, W) bool masks, 0..1; None for fewer than two masks.

    Two empty masks agree (1); an empty and a non-empty one do not (0).

    Raises:
        ValueError: masks of different shapes.
    """
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise ValueError(f"masks of shapes {sorted(shapes)}, expected one shape: bring them to the frame's size first.")
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    scores = []
    for a, b in combinations(range(len(masks)), 2):
        total = sizes[a] + sizes[b]
        scores.append(2.0 * np.count_nonzero(masks[a] & masks[b]) / total if total else 1.0)
    return float(np.mean(scores)) if scores else None


def frame_quality(
    probabilities: Mapping[str, NDArray[np.floating]], threshold: float = 0.5, lowest_agreement: float = 0.8
) -> dict[str, Any]:
    """Return the figures of one frame.

    Args:
        probabilities: name -> lesion probability (H, W) in 0..1; the first is the network whose mask is written.
        threshold: lesion is where the probability is above it (0.5: the arg max of two classes).
        lowest_agreement: ``quality`` is "check" below it. 0.8: two masks of equal size that share 80 % of their pixels.

    Returns:
        ``width``, ``height`` and ``lesion_px`` in pixels; ``lesion_share`` of the whole frame, 0..1;
        ``mean_confidence``, mean of max(p, 1 - p) over the whole frame, 0.5..1; ``lesion_confidence``, mean of p over
        the predicted lesion, None without one; ``agreement``, see pairwise_agreement, None with one network;
        ``agreement_of``, the names joined by "+"; ``quality``, "ok" or "check" ("check" too if there was nothing to
        compare).
    """
    names = list(probabilities)
    masks = [np.asarray(probabilities[name]) > threshold for name in names]
    lesion = np.asarray(probabilities[names[0]], dtype=np.float64)
    lesion_px = int(np.count_nonzero(masks[0]))
    agreement = pairwise_agreement(masks)
    return {
        "width": lesion.shape[1],
        "height": lesion.shape[0],
        "lesion_px": lesion_px,
        "lesion_share": lesion_px / lesion.size,
        "mean_confidence": float(np.maximum(lesion, 1.0 - lesion).mean()),
        "lesion_confidence": float(lesion[masks[0]].mean()) if lesion_px else None,
        "agreement": agreement,
        "agreement_of": "+".join(names),
        "quality": "ok" if agreement is not None and agreement >= lowest_agreement else "check",
    }


class FrameTable:
    """Rows of a CSV file, written at once; shares and scores with six digits, None as an empty cell."""

    def __init__(self, columns: Sequence[str] = RESULT_COLUMNS) -> None:
        self.columns = tuple(columns)
        self.rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Add one row.

        Raises:
            ValueError: a column is missing or unknown.
        """
        if set(row) != set(self.columns):
            raise ValueError(f"row has columns {sorted(row)}, expected {sorted(self.columns)}.")
        self.rows.append(row)

    def write(self, path: str | Path) -> None:
        """Write header and rows, in the order they were added, to ``path``. Raises OutputError."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: f"{cell:.6f}" if isinstance(cell, float) else cell for name, cell in row.items()})
        write_bytes(path, text.getvalue().encode("utf-8"))


class FrameResultWriter:
    """Handler for an evaluator: writes mask, overlay and table row of every frame of ``engine.state.output``.

    The output is a list of items, or one batch dict of equal-sized frames. Each item holds

    - ``file``: str, path relative to the input folder (names the outputs, first column of the table);
    - ``path``: str, where the picture is read from for the overlay;
    - ``pred``: tensor (H, W), (1, H, W) or, background first, (2, H, W): lesion probability in 0..1 at the size
      of the upright picture;
    - ``error``: str, optional: the frame could not be read, and why;
    - ``pred_companion``, ``pred_flip``: the same of the other network and of the mirrored frame,
      mirrored back. Optional; what is there takes part in ``agreement`` and is named in ``agreement_of``.

    Written below ``output_dir``: ``masks/`` and ``overlays/`` (sub-folders as in the input), ``results.csv`` at the
    end, and ``failures.csv`` when frames failed. A frame fails alone when its picture cannot be read or its
    probabilities are of another size, outside 0..1 or not finite. A missing key or an unwritable output ends the run.
    """

    def __init__(
        self,
        output_dir: str | Path,
        files: Sequence[str] = (),
        threshold: float = 0.5,
        lowest_agreement: float = 0.8,
        overlays: bool = True,
    ) -> None:
        """Prepare the writer.

        Args:
            output_dir: folder for all results; created and probed when the run starts.
            files: all ``file`` values of the run if known, so that output names do not depend on the order of frames.
            threshold: lesion is where the probability is above it.
            lowest_agreement: frames below it are marked "check".
            overlays: whether overlay pictures are written.

        Raises:
            ValueError: threshold outside 0..1 or lowest_agreement outside 0..1.
        """
        for name, value in (("threshold", threshold), ("lowest_agreement", lowest_agreement)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value}: expected a value in 0..1.")
        self.output_dir = Path(output_dir)
        self.files = tuple(files)
        self.threshold = threshold
        self.lowest_agreement = lowest_agreement
        self.overlays = overlays
        self._start()

    def attach(self, engine: Engine) -> None:
        """Register the handler with a MONAI evaluator or any ignite engine."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write_iteration)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def _start(self) -> None:
        self.results, self.failures = FrameTable(), FrameTable(FAILURE_COLUMNS)
        self._namer = OutputNamer(self.files)
        self._said: set[str] = set()

    def start(self, engine: Engine) -> None:
        """Begin a new table and prove that the output folder can be written. Raises OutputError."""
        self._start()
        ensure_writable(self.output_dir)

    def write_iteration(self, engine: Engine) -> None:
        """Write the frames of one iteration; keep what fails for failures.csv."""
        for item in self._items(engine):
            missing = [key for key in ("file", "path", "pred") if key not in item]
            if missing:
                raise KeyError(
                    f"inference output lacks {missing}, found {sorted(item)}: see FrameResultWriter for its keys."
                )
            try:
                if item.get("error"):
                    raise MediaError(str(item["error"]))
                self._write_frame(item)
            except (MediaError, ValueError) as error:
                logger.error("%s: no mask written: %s", item["file"], error)
                self.failures.add(file=str(item["file"]), error=str(error))

    @staticmethod
    def _items(engine: Engine) -> list[dict[str, Any]]:
        """Items of the output; what they lack (names) is taken from the batch, where MONAI's evaluator leaves it."""
        output, batch = (
            decollate_batch(part) if isinstance(part, Mapping) else part
            for part in (engine.state.output, engine.state.batch)
        )
        if not isinstance(batch, list) or len(batch) != len(output):
            return list(output)
        return [{**names, **item} for names, item in zip(batch, output, strict=True)]

    def finish(self, engine: Engine) -> None:
        """Write the tables and log a summary.

        Raises:
            RuntimeError: frames came, and none of them could be written.
            OutputError: a table cannot be written.
        """
        self.results.write(self.output_dir / RESULTS_FILE)
        failed = self.output_dir / FAILURES_FILE
        if self.failures.rows:
            self.failures.write(failed)
        else:
            failed.unlink(missing_ok=True)  # of an earlier run into the same folder
        rows = self.results.rows
        logger.info(
            "%d frames: %d with lesion, %d to check (%s), %d failed; table: %s",
            len(rows) + len(self.failures.rows),
            sum(row["lesion_px"] > 0 for row in rows),
            sum(row["quality"] == "check" for row in rows),
            f"agreement below {self.lowest_agreement:g}, or nothing to compare",
            len(self.failures.rows),
            self.output_dir / RESULTS_FILE,
        )
        if self.failures.rows and not rows:
            raise RuntimeError(
                f"none of {len(self.failures.rows)} frames could be written; the reasons are in {failed}."
            )

    def _write_frame(self, item: Mapping[str, Any]) -> None:
        file = str(item["file"])
        present = {name: _lesion_map(item[key], key) for key, name in SOURCES.items() if item.get(key) is not None}
        compared = "+".join(present)
        if len(present) < len(SOURCES) and compared not in self._said:
            self._said.add(compared)
            logger.warning("Agreement is over %s only, of %s: see agreement_of.", compared, "+".join(SOURCES.values()))
        shape = present["network"].shape
        for name, probability in present.items():
            if probability.shape != shape:
                raise ValueError(f"{name} probability is {probability.shape}, that of network {shape} (height, width).")
        try:
            picture = read_rgb(item["path"])  # even without overlays: proves that the mask has the size of the picture
        except OSError as error:  # no permission, a network drive gone: this frame's fault, not the output folder's
            raise MediaError(f"{item['path']}: cannot be opened ({error}); check its permissions") from error
        if picture.shape[:2] != shape:
            raise ValueError(
                f"probability is {shape}, the picture {picture.shape[:2]} (height, width): resize it back."
            )
        figures = frame_quality(present, self.threshold, self.lowest_agreement)
        mask = present["network"] > self.threshold
        name = self._namer(file)
        mask_name, overlay_name = f"masks/{name}", f"overlays/{name}" if self.overlays else None
        write_mask_png(self.output_dir / mask_name, mask)
        if overlay_name:
            write_overlay_png(self.output_dir / overlay_name, picture, mask)
        self.results.add(file=file, **figures, mask=mask_name, overlay=overlay_name)


def _lesion_map(probability: Any, key: str) -> NDArray[np.float32]:
    """Return the lesion probability (H, W) of (H, W), (1, H, W) or (2, H, W). Raises ValueError."""
    values = torch.as_tensor(probability).detach().float().cpu().numpy()
    if values.ndim == 3 and values.shape[0] in (1, 2):
        values = values[-1]
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{key} has shape {values.shape}, expected (H, W), (1, H, W) or (2, H, W).")
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{key} holds values that are not finite: the network's weights or the frame are broken.")
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise ValueError(f"{key} ranges over {low:.3g}..{high:.3g}, expected 0..1: apply the softmax first.")
    return np.clip(values, 0.0, 1.0)
