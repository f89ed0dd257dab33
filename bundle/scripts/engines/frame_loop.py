"""A network over frames of which some may not be readable: what is found goes to a taker, what fails into a table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scripts.engines.evaluation import prepare_frames
from scripts.engines.frame_results import EXIT_FAILURES, FAILURE_COLUMNS, FAILURES_FILE
from scripts.io.table import Table

logger = logging.getLogger(__name__)


def over_frames(
    network: nn.Module,
    dataloader: DataLoader,
    device: str | torch.device,
    take: Callable[[dict[str, Any], Tensor], object],
    postprocessing: Callable | None = None,
    inferer: Inferer | None = None,
) -> Table:
    """Run a network over frames.

    Args:
        dataloader: of a FrameDataset: "image", "file", "original_size", "error".
        take: gets the item and the prediction of each frame that could be read.
        postprocessing: of the network's output; None = as it is.

    Returns:
        the files that could not be read, each with its error.
    """
    failures = Table(FAILURE_COLUMNS)

    def collect(engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if item["error"]:
                logger.error("%s", item["error"])
                failures.add(file=item["file"], error=item["error"])
            else:
                take(item, output[Keys.PRED])

    evaluator = SupervisedEvaluator(
        device=torch.device(device),
        val_data_loader=dataloader,
        network=network,
        prepare_batch=prepare_frames,
        inferer=inferer,
        postprocessing=postprocessing,
    )
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, collect)
    evaluator.run()
    return failures


def end_with(failures: Table, output_dir: Path) -> None:
    """Write failures.csv, if there are any, and end; that of an earlier run goes.

    Raises:
        SystemExit: exit code 3 when files could not be read.
    """
    if not failures.rows:
        (output_dir / FAILURES_FILE).unlink(missing_ok=True)
        return
    failures.write(output_dir / FAILURES_FILE)
    logger.error("%d files could not be read, see %s", len(failures.rows), output_dir / FAILURES_FILE)
    raise SystemExit(EXIT_FAILURES)
