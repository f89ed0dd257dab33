"""A network of 250 parameters and eight frames of 16 px: training in milliseconds, for the tests of the engines."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.engines.schedules import warmup_poly
from scripts.engines.streams import stream_loader
from scripts.engines.teacher import EMATeacher
from scripts.engines.trainer import SemiSupervisedTrainer
from scripts.losses import build_objective, supervised_loss

CPU = torch.device("cpu")


class TinyNet(nn.Module):
    """Two convolutions with what objectives ask of a network: ``encode`` and ``decode``."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)
        self.encoder_weights_report = {"requested": "none", "used": "random", "substituted": False, "message": ""}

    def encode(self, image: Tensor) -> list[Tensor]:
        return [self.encoder(image)]

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        return functional.interpolate(self.head(features[0]), size=size, mode="bilinear")

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image), (image.shape[-2], image.shape[-1]))


def make_network(seed: int = 0, **options: Any) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet(**options)


def make_frames(count: int, labelled: bool = True, seed: int = 0) -> list[dict[str, Any]]:
    """Noise of 16 px with a red square at a random place: "image", "label" (if labelled) uint8 and "file"."""
    generator = torch.Generator().manual_seed(seed)
    frames = []
    for number in range(count):
        image = torch.randint(0, 120, (3, 16, 16), generator=generator, dtype=torch.uint8)
        label = torch.zeros(1, 16, 16, dtype=torch.uint8)
        row, column = torch.randint(0, 10, (2,), generator=generator).tolist()
        label[:, row : row + 6, column : column + 6] = 1
        image[0][label[0] > 0] = 250
        name = f"{'labelled' if labelled else 'unlabelled'}_{number}.png"
        frames.append({"image": image, "file": name} | ({"label": label} if labelled else {}))
    return frames


def make_trainer(
    network: nn.Module,
    max_epochs: int = 2,
    iterations: int = 2,
    batch_size: int = 2,
    objective: str = "supervised",
    options: dict[str, Any] | None = None,
    total: int = 8,
    **changes: Any,
) -> SemiSupervisedTrainer:
    """A trainer over eight labelled and six unlabelled frames; ``total`` iterations are planned for the rate."""
    optimizer = changes.pop("optimizer", None) or torch.optim.AdamW(network.parameters(), lr=0.01)
    unlabeled = stream_loader(make_frames(6, labelled=False, seed=1), batch_size, iterations, seed=1)
    settings: dict[str, Any] = {
        "device": CPU,
        "max_epochs": max_epochs,
        "train_data_loader": stream_loader(make_frames(8), batch_size, iterations),
        "unlabeled_data_loader": None if objective == "supervised" else unlabeled,
        "network": network,
        "optimizer": optimizer,
        "lr_scheduler": warmup_poly(optimizer, total, warmup=2),
        "loss_function": supervised_loss(),
        "objective": build_objective(objective, options),
        "teacher": EMATeacher(network, 0.9),
    }
    return SemiSupervisedTrainer(**(settings | changes))


def same_state(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_state, first, second))
    return first == second
