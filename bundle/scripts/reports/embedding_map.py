"""What local contrast has learnt, as a picture: the embeddings of a few frames, three directions of them as colours."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from scripts.engines.run_directory import is_main_process
from scripts.io.overlay import draw_overlay
from scripts.io.writers import write_bytes
from scripts.losses.local_contrastive import IGNORED
from scripts.reports.run_files import RunFiles

logger = logging.getLogger(__name__)

NAME = "embedding.png"  # in a run's figures/
FRAMES = 6
TILE = 224  # pixels, side
GAP = 8
PAPER = 255
OUTER = 0.02  # share of pixels at either end that is clipped, so that a few do not take all the colours


@torch.no_grad()
def write_embedding_map(run_dir: str | Path, network: nn.Module, dataset: Dataset, frames: int = FRAMES) -> Path:
    """Write figures/embedding.png: on top frames with their labels outlined, below their embeddings.

    The first three principal components of the unit vectors of all frames shown are red, green and blue: pixels of one
    colour are alike to the network, whichever frame they are in; classes that contrast has drawn apart differ in it.

    Args:
        run_dir: of the pretraining.
        network: (B, 3, H, W) in 0..1 -> embeddings (B, C, h, w); is left in eval mode.
        dataset: items {"image": (3, H, W) uint8, "label": (1, H, W) class index}, at the network's size.
        frames: at most so many are shown, evenly spread over those with foreground.

    Returns:
        the path; of several processes rank 0 writes it.
    """
    target = Path(run_dir) / "figures" / NAME
    if not is_main_process():
        return target
    chosen = _spread(dataset, frames)
    device = next(network.parameters()).device
    network.eval()
    maps = [network(item["image"][None].to(device).float() / 255.0)[0].float().cpu() for item in chosen]
    colours = principal_colours(torch.stack([functional.normalize(one, dim=0) for one in maps]))
    columns = [
        np.concatenate([_frame(item), np.full((GAP, TILE, 3), PAPER, np.uint8), _enlarged(colour)])
        for item, colour in zip(chosen, colours, strict=True)
    ]
    between = np.full((len(columns[0]), GAP, 3), PAPER, np.uint8)
    strip = np.concatenate([part for column in columns for part in (column, between)][:-1], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="PNG")
    write_bytes(target, buffer.getvalue())
    logger.info("Embedding: %s", target)
    return target


def embedding_picture(run: RunFiles) -> str | None:
    """The picture of a run as a data URI; None where there is none, as after global contrast."""
    path = run.path / "figures" / NAME
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else None


def principal_colours(embedding: Tensor) -> Tensor:
    """Embeddings (B, C, h, w) -> uint8 RGB (B, h, w, 3): their first three principal components over all of them."""
    batch, channels, height, width = embedding.shape
    vectors = embedding.permute(0, 2, 3, 1).reshape(-1, channels).double()
    found = main_directions(vectors, 3)
    low, high = torch.quantile(
        found[:: max(1, len(found) // 100_000)], torch.tensor([OUTER, 1 - OUTER]).double(), dim=0
    )
    scaled = ((found - low) / (high - low).clamp(min=1e-12)).clamp(0.0, 1.0)
    scaled = functional.pad(scaled, (0, 3 - scaled.shape[1]))  # fewer than three channels
    return (scaled * 255).round().to(torch.uint8).reshape(batch, height, width, 3)


def main_directions(vectors: Tensor, count: int = 2) -> Tensor:
    """Vectors (N, C) -> their first principal components (N, count), or (N, C) where C is less than that."""
    centred = vectors - vectors.mean(dim=0)
    # Exact, and the same at each call. Signs are arbitrary: the largest entry is made positive.
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -count:].flip(1)
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return centred @ (directions * largest.sign())


def _spread(dataset: Dataset, frames: int) -> list[dict[str, Tensor]]:
    """Items evenly spread over those with foreground; over all of them where there is none."""
    having = [index for index in range(len(dataset)) if bool((dataset[index]["label"] > 0).any())]
    having = having or list(range(len(dataset)))
    places = np.unique(np.linspace(0, len(having) - 1, min(frames, len(having))).round().astype(int))
    return [dataset[having[place]] for place in places]


def _frame(item: dict[str, Tensor]) -> np.ndarray:
    picture = _enlarged(item["image"].permute(1, 2, 0))
    label = Image.fromarray(item["label"][0].numpy().astype(np.uint8)).resize((TILE, TILE), Image.Resampling.NEAREST)
    classes = np.asarray(label)
    for index in np.unique(classes[(classes > 0) & (classes != IGNORED)]):
        picture = draw_overlay(picture, classes == index)
    return picture


def _enlarged(pixels: Tensor) -> np.ndarray:
    """(h, w, 3) uint8 -> (TILE, TILE, 3), its pixels left as they are."""
    image = Image.fromarray(np.ascontiguousarray(pixels.numpy().astype(np.uint8)))
    return np.asarray(image.resize((TILE, TILE), Image.Resampling.NEAREST))
