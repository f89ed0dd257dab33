"""What is written down while training: metrics.csv and TensorBoard, one row an epoch; a progress bar for the person."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from tqdm.auto import tqdm

from scripts.engines.frame_trainer import FrameTrainer
from scripts.engines.run_directory import is_main_process
from scripts.io.atomic import write_text

COLUMNS = [
    "epoch", "iteration", "seconds", "lr", "loss", "loss_supervised", "loss_unsupervised", "unsupervised_weight",
    "confident_share", "lesion_share", "val_dice", "val_iou_pooled", "val_dice_pooled",
]  # fmt: skip


class RunLog:
    """Means over the epoch of all that the trainer reads out, with the validation figures beside them.

    Args:
        run_dir: metrics.csv and tensorboard/ go there; rows of a resumed run are appended to the kept ones.
        evaluator: its metrics after validation; None = none.
        tensorboard: write event files too.
    """

    def __init__(self, run_dir: str | Path, evaluator: Engine | None = None, tensorboard: bool = True) -> None:
        self.run_dir = Path(run_dir)
        self.evaluator = evaluator
        self.tensorboard = tensorboard
        self.writer: Any = None
        self.rows: list[dict[str, Any]] = []
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.started: float | None = None

    def attach(self, engine: Engine) -> None:
        """Read after every iteration, write after every epoch."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._read)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._close)

    def _start(self, engine: FrameTrainer) -> None:
        """At the first iteration, when a resumed run knows where it stands."""
        self.started = time.perf_counter()
        path = self.run_dir / "metrics.csv"
        if path.is_file() and engine.state.epoch > 1:
            with path.open(newline="") as file:
                # Epochs after the checkpoint, if any, are run again.
                self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < engine.state.epoch]
            self.started -= float(self.rows[-1]["seconds"]) if self.rows else 0.0
        if self.tensorboard and is_main_process():
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.run_dir / "tensorboard"))

    def _read(self, engine: FrameTrainer) -> None:
        if self.started is None:
            self._start(engine)
        for name, value in engine.state.output[0].items():
            # Kept as tensors: reading a number would make the GPU wait at every iteration.
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def _write(self, engine: FrameTrainer) -> None:
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        if not is_main_process():
            return
        # MONAI's ValidationHandler leaves the validated epoch in the evaluator; older figures are not repeated.
        fresh = self.evaluator is not None and self.evaluator.state.epoch == engine.state.epoch
        validation = dict(self.evaluator.state.metrics) if fresh else {}
        row: dict[str, Any] = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "seconds": round(time.perf_counter() - self.started, 1),
            "lr": engine.optimizer.param_groups[-1]["lr"],
            **means,
            **{name: float(value) for name, value in validation.items() if name.startswith("val_")},
        }
        self.rows.append(row)
        names = COLUMNS + sorted({name for one in self.rows for name in one} - set(COLUMNS))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.run_dir / "metrics.csv", text.getvalue())
        if self.writer is not None:
            for name, value in row.items():
                if name not in ("epoch", "iteration"):
                    self.writer.add_scalar(name, value, engine.state.iteration)

    def _close(self, engine: Engine) -> None:
        if self.writer is not None:
            self.writer.close()


class ProgressBar:
    """One bar for the whole run: loss terms, confident share, predicted lesion share, last validation figure, ETA.

    Args:
        evaluator: its key metric is shown after the first validation.
        every: iterations between two readings; larger ones spare a GPU the waiting.
        description: shown before the bar.
    """

    def __init__(self, evaluator: Engine | None = None, every: int = 5, description: str = "training") -> None:
        self.evaluator = evaluator
        self.every = every
        self.description = description
        self.bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Show from the start to the end, whatever ends the run."""
        if not is_main_process():
            return
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)

    def _step(self, engine: Engine) -> None:
        if self.bar is None:
            total = engine.state.max_epochs * engine.state.epoch_length
            done = engine.state.iteration - 1
            self.bar = tqdm(total=total, initial=done, desc=self.description, unit="it", mininterval=1.0)
        self.bar.update()
        output = engine.state.output
        output = output[0] if isinstance(output, list) and output else output  # a trainer's, see FrameTrainer
        if engine.state.iteration % self.every or not isinstance(output, dict):
            return
        shown = {"loss": "loss", "sup": "loss_supervised", "unsup": "loss_unsupervised", "conf": "confident_share"}
        shown |= {"lesion": "lesion_share", "order": "order_share", "acc": "accuracy"}
        readings = {label: f"{float(output[name]):.3f}" for label, name in shown.items() if name in output}
        if self.evaluator is not None:
            state = self.evaluator.state
            name = getattr(state, "key_metric_name", None) or "val_dice"
            readings |= {name: f"{float(state.metrics[name]):.3f}"} if name in state.metrics else {}
        self.bar.set_postfix(readings, refresh=False)

    def _close(self, engine: Engine, error: BaseException | None = None) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if error is not None:
            raise error
