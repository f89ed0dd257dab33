"""Class indices for volumes and pictures without labels: a folder in, masks out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from monai.inferers import Inferer
from torch import nn
from torch.utils.data import DataLoader

from scripts.engines.frame_loop import end_with, over_frames
from scripts.engines.frame_results import refuse_data_set
from scripts.engines.predictions import ClassMaps
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
    refuse_data_set(Path(output_dir))
    output_dir = ensure_writable(output_dir)
    masks = ClassMaps(output_dir / "masks", {item["file"]: item["image"] for item in dataloader.dataset.data})
    failures = over_frames(
        network,
        dataloader,
        device,
        lambda item, classes: masks.add(item["file"], classes[0].cpu().numpy()),
        postprocessing,
        inferer,
    )
    masks.finish()
    logger.info("Masks: %s", masks.folder)
    end_with(failures, output_dir)
    return masks.folder
