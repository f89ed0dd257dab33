"""The handler that turns an evaluator's output into results, frame by frame, and keeps what failed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import decollate_batch
from numpy.typing import NDArray

from scripts.data.mask_folders import mask_folders
from scripts.engines.frame_quality import frame_quality
from scripts.engines.frame_result import MOVING, FrameResult, ResultWriter
from scripts.engines.picture_results import RESULTS_FILE
from scripts.engines.video_results import VIDEOS_FILE
from scripts.io.errors import MediaError
from scripts.io.table import Table
from scripts.io.writers import OutputError, ensure_writable
from scripts.transforms.smoothing import GRID

logger = logging.getLogger(__name__)

# Item key -> what `agreement_of` calls it. The first is compulsory, the others take part when they are there.
COMPARED = {"pred": "network", "pred_companion": "companion", "pred_flip": "flip"}
FAILURE_COLUMNS = ("file", "error")
FAILURES_FILE = "failures.csv"
TABLES = (RESULTS_FILE, VIDEOS_FILE, FAILURES_FILE)
WAITING = 2  # batches that may wait to be written
EXIT_FAILURES = 3  # exit code of a command that finished, but with frames that could not be read


class FrameResultWriter:
    """Handler for an evaluator: measures every frame of ``engine.state.output`` and hands it to the writers.

    The output is a list of items, or one batch dict of equal-sized frames. Each item holds

    - ``file``: str, address relative to the input folder (names the outputs, first column of the tables);
    - ``path``: str, where the frame is read from;
    - ``pred``: tensor (H, W), (1, H, W) or, background first, (2, H, W): lesion probability in 0..1 at the size
      of the upright frame;
    - ``source``, ``kind``, ``frame``, ``time_s``: see FrameResult; by default those of a picture;
    - ``error``: str, optional: the frame could not be read, and why;
    - ``pred_companion``, ``pred_flip``: the same of the other network and of the mirrored frame, mirrored back.
      Optional; what is there takes part in ``agreement`` and is named in ``agreement_of``;
    - ``pred_grid``, ``scene_change``: see SmoothInTimed, optional.

    Frames are postprocessed, measured and written in a thread, so that the network need not wait for it; at most
    WAITING batches are kept.

    A frame fails alone when it cannot be read or its probabilities are of another size, outside 0..1 or not finite; it
    is listed in ``failures.csv``. A missing key or an unwritable output ends the run.
    """

    def __init__(
        self,
        output_dir: str | Path,
        writers: Sequence[ResultWriter],
        postprocessing: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        threshold: float = 0.5,
        lowest_agreement: float = 0.8,
        all_may_fail: bool = False,
    ) -> None:
        """Prepare the handler.

        Args:
            output_dir: folder for all results; created and probed when the run starts.
            writers: each gets the frames of the kinds it takes.
            postprocessing: output and batch of one frame -> an item as above; None where the engine does it.
            threshold: lesion is where the probability is above it.
            lowest_agreement: frames below it are marked "check".
            all_may_fail: a run in which no frame could be written is no error: its frames are a few of many.

        Raises:
            ValueError: threshold outside 0..1 or lowest_agreement outside 0..1.
        """
        for name, value in (("threshold", threshold), ("lowest_agreement", lowest_agreement)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value}: expected a value in 0..1.")
        self.output_dir = Path(output_dir)
        self.writers = tuple(writers)
        self.postprocessing = postprocessing
        self.threshold = threshold
        self.lowest_agreement = lowest_agreement
        self.all_may_fail = all_may_fail
        self._reset()

    def attach(self, engine: Engine) -> None:
        """Register the handler with a MONAI evaluator or any ignite engine."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write_iteration)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def _reset(self) -> None:
        self.failures = Table(FAILURE_COLUMNS)
        self.frames = self.with_lesion = self.compared = self.to_check = 0
        self._source: tuple[str, str] | None = None  # file and kind of the source whose frames are coming
        self._said: set[str] = set()
        self._pending: deque[Future[None]] = deque()

    def start(self, engine: Engine) -> None:
        """Begin new tables and prove that the output folder can be written, and is no data set. Raises OutputError."""
        self._reset()
        # One thread: frames of a source are written in their order, and its open files are that thread's own.
        self._thread = ThreadPoolExecutor(1, "frame results", initializer=torch.set_num_threads, initargs=(1,))
        refuse_data_set(self.output_dir)
        ensure_writable(self.output_dir)
        for table in TABLES:  # of an earlier run: until they are written anew they would speak of other masks
            (self.output_dir / table).unlink(missing_ok=True)
        for writer in self.writers:
            writer.start(self.output_dir)

    def write_iteration(self, engine: Engine) -> None:
        """Hand the frames of one iteration to the thread that writes. Raises what went wrong with earlier ones."""
        self._raise_finished()
        while len(self._pending) >= WAITING:
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._write, engine.state.output, engine.state.batch))

    def _raise_finished(self) -> None:
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def _write(self, output: Any, batch: Any) -> None:
        """Write some frames; keep what fails for failures.csv."""
        for item in self._items(output, batch):
            missing = [key for key in ("file", "path", "pred") if key not in item]
            if missing:
                raise KeyError(
                    f"inference output lacks {missing}, found {sorted(item)}: see FrameResultWriter for its keys."
                )
            item = {"source": item["file"], "kind": "picture", "frame": 0, "time_s": float("nan"), **item}
            source = (str(item["source"]), str(item["kind"]))
            if source != self._source:
                self._finish_source()
                self._source = source
            if self.postprocessing is not None:
                item = self.postprocessing(item)
            wanted = [writer for writer in self.writers if writer.takes(source[1])]
            try:
                if item.get("error"):
                    raise MediaError(str(item["error"]))
                result = self._measure(item)
                for writer in wanted:
                    writer.add(result)
            except (MediaError, ValueError) as error:
                logger.error("%s: no mask written: %s", item["file"], error)
                self.failures.add(file=str(item["file"]), error=str(error))
                for writer in wanted:
                    writer.failed(item, str(error))
                continue
            self.frames += 1
            self.with_lesion += result.figures["lesion_px"] > 0
            self.compared += result.figures["agreement"] is not None
            self.to_check += result.figures["quality"] == "check"

    def _finish_source(self) -> None:
        if self._source is None:
            return
        file, kind = self._source
        for writer in self.writers:
            if not writer.takes(kind):
                continue
            try:
                writer.finish_source()
            except (MediaError, ValueError) as error:
                logger.error("%s: %s", file, error)
                self.failures.add(file=file, error=str(error))
        self._source = None

    def _items(self, output: Any, batch: Any) -> list[dict[str, Any]]:
        """Items of the output; what they lack (names) is taken from the batch, where MONAI's evaluator leaves it."""
        output, batch = (decollate_batch(part) if isinstance(part, Mapping) else part for part in (output, batch))
        items = list(output)
        if isinstance(batch, list) and len(batch) == len(items):
            items = [{**names, **item} for names, item in zip(batch, items, strict=True)]
        return items

    def finish(self, engine: Engine) -> None:
        """Finish all writers, write failures.csv and log a summary.

        Raises:
            RuntimeError: frames came, none of them could be written, and that is an error.
            OutputError: a table cannot be written.
        """
        while self._pending:
            self._pending.popleft().result()
        self._thread.submit(self._finish_source).result()
        self._thread.shutdown()
        for writer in self.writers:
            writer.finish()
        failed = self.output_dir / FAILURES_FILE
        if self.failures.rows:
            self.failures.write(failed)
        else:
            failed.unlink(missing_ok=True)  # of an earlier run into the same folder
        compared = f"agreement below {self.lowest_agreement:g}"
        logger.info(
            "%d frames: %d with lesion, %s, %d failed; results: %s",
            self.frames + len(self.failures.rows),
            self.with_lesion,
            f"{self.to_check} to check ({compared})" if self.compared else "agreement not asked for",
            len(self.failures.rows),
            self.output_dir,
        )
        if self.failures.rows and not self.frames and not self.all_may_fail:
            raise RuntimeError(
                f"none of {len(self.failures.rows)} frames could be written; the reasons are in {failed}."
            )

    def _measure(self, item: Mapping[str, Any]) -> FrameResult:
        present = {name: lesion_map(item[key], key) for key, name in COMPARED.items() if item.get(key) is not None}
        compared = "+".join(present)
        if len(present) < len(COMPARED) and compared not in self._said:
            self._said.add(compared)
            logger.warning("Agreement is over %s only, of %s: see agreement_of.", compared, "+".join(COMPARED.values()))
        shape = present["network"].shape
        for name, probability in present.items():
            if probability.shape != shape:
                raise ValueError(f"{name} probability is {probability.shape}, that of network {shape} (height, width).")
        grid = item.get(GRID) if item["kind"] in MOVING else None
        return FrameResult(
            file=str(item["file"]),
            source=str(item["source"]),
            kind=str(item["kind"]),
            frame=int(item["frame"]),
            time_s=float(item["time_s"]),
            path=str(item["path"]),
            probability=present["network"],
            mask=present["network"] > self.threshold,
            figures=frame_quality(present, self.threshold, self.lowest_agreement),
            grid_masks=None if grid is None else torch.as_tensor(grid).cpu().numpy() > self.threshold,
            scene_change=bool(item.get("scene_change", False)),
        )


def refuse_data_set(output_dir: Path) -> None:
    """Raise OutputError where masks/ of the output folder would be the drawn masks of a data set.

    Beside images/ they are, unless a table says that they were predicted.
    """
    predicted = any((output_dir / table).is_file() for table in TABLES)
    if "masks" in mask_folders(output_dir) and not predicted:
        raise OutputError(
            f"{output_dir}: holds images/ and masks/, a data set, and predictions would be written over its masks; "
            "give another output_dir."
        )


def report_failures(results: FrameResultWriter, allow: bool = False) -> None:
    """End the command with exit code 3 if a frame or file failed, after all others were written.

    Args:
        allow: only say so.
    """
    rows = results.failures.rows
    if not rows:
        return
    where = results.output_dir / FAILURES_FILE
    logger.error("%d frames or files could not be read; they are listed in %s", len(rows), where)
    if not allow:
        raise SystemExit(EXIT_FAILURES)


def lesion_map(probability: Any, key: str) -> NDArray[np.float32]:
    """Return the lesion probability (H, W) of (H, W), (1, H, W) or (2, H, W). Raises ValueError."""
    values = torch.as_tensor(probability).detach().as_subclass(torch.Tensor).float().cpu()
    if values.ndim == 3 and values.shape[0] in (1, 2):
        values = values[-1]
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"{key} has shape {tuple(values.shape)}, expected (H, W), (1, H, W) or (2, H, W).")
    low, high = (float(bound) for bound in values.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):  # nan is the least and the largest of what holds one
        raise ValueError(f"{key} holds values that are not finite: the network's weights or the frame are broken.")
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise ValueError(f"{key} ranges over {low:.3g}..{high:.3g}, expected 0..1: apply the softmax first.")
    return (values if low >= 0.0 and high <= 1.0 else values.clamp(0.0, 1.0)).numpy()
