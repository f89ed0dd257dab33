"""Class indices for volumes and pictures without labels: a folder in, masks out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.utils.data import DataLoader

from scripts.engines.evaluation import prepare_frames
from scripts.engines.frame_results import EXIT_FAILURES, FAILURE_COLUMNS, FAILURES_FILE
from scripts.engines.predictions import ClassMaps
from scripts.io.table import Table
from scripts.io.writers import ensure_writable

logger = logging.getLogger(__name__)


def write_class_masks(
    network: nn.Module,
    dataloader: DataLoader,
    output_dir: str | Path,
    device: str | torch.device,
    postprocessing: Callable,
    inferer: Inferer | None = None,
) -> Path:
    """Run a network over frames and write their classes: a volume as one NIfTI over its source, a picture as PNG.

    A file that cannot be read is listed in failures.csv; the others are written.

    Args:
        dataloader: of a FrameDataset: "image", "file", "original_size", "error".
        output_dir: masks/ goes there.
        postprocessing: logits -> class index (1, H, W) at original size.

    Returns:
        the folder of the masks.

    Raises:
        SystemExit: exit code 3 when files could not be read.
    """
    output_dir = ensure_writable(output_dir)
    frames = dataloader.dataset.data
    masks = ClassMaps(output_dir / "masks", {item["file"]: item["image"] for item in frames})
    failures = Table(FAILURE_COLUMNS)

    def collect(engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if item["error"]:
                logger.error("%s", item["error"])
                failures.add(file=item["file"], error=item["error"])
            else:
                masks.add(item["file"], output[Keys.PRED][0].cpu().numpy())

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
    masks.finish()
    logger.info("Masks: %s", masks.folder)
    if not failures.rows:
        return masks.folder
    failures.write(output_dir / FAILURES_FILE)
    logger.error("%d files could not be read, see %s", len(failures.rows), output_dir / FAILURES_FILE)
    raise SystemExit(EXIT_FAILURES)
