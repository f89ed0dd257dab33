"""model.pt (best, to be used) and last.pt (everything that a run needs to go on exactly)."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.engines.frame_trainer import FrameTrainer
from scripts.engines.run_directory import RunDirectory, is_main_process
from scripts.io.atomic import replacing
from scripts.networks.checkpoints import IMAGE_SIZE, CheckpointError, load_weights, read_file, warn_of_other_size

logger = logging.getLogger(__name__)


class RunCheckpoint:
    """After each epoch writes last.pt and, when the validation figure rose, model.pt; restores last.pt at the start.

    model.pt is {"model": weights to use (the EMA teacher's where there is one), "companion": the student's or absent,
    "epoch", "value", "image_size" where it was given}; it loads with ``weights_only`` and in MONAI Label. A figure that
    is not finite is never best. Of a pretraining both hold the bare segmentation network, and last.pt its projection
    head besides.

    Args:
        run: the run directory; its last.pt is restored if it is resuming.
        evaluator: its state holds the key metric; None = the last epoch is the best.
        key_metric: name of the figure, larger is better.
        ships: "best" = model.pt holds the best epoch on validation; "last" = the last one, whatever its figure.
        image_size: pixels, side of the square that the network is trained at; inference at another one is warned about.

    Raises:
        ValueError: another word for ``ships``.
    """

    def __init__(
        self,
        run: RunDirectory,
        evaluator: Engine | None = None,
        key_metric: str = "val_dice",
        ships: Literal["best", "last"] = "best",
        image_size: int | None = None,
    ) -> None:
        if ships not in ("best", "last"):
            raise ValueError(f"shipped_epoch is {ships!r}; expected 'best' or 'last'.")
        self.run = run
        self.evaluator = evaluator if ships == "best" else None
        self.key_metric = key_metric
        self.facts = {} if image_size is None else {IMAGE_SIZE: int(image_size)}
        self.best_value = float("-inf")
        self.best_epoch = 0
        self.value: float | None = None

    def attach(self, engine: FrameTrainer) -> None:
        """Restore at the start, save after each epoch; attach it after all handlers whose work must be in last.pt."""
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: FrameTrainer) -> None:
        """Write last.pt, and model.pt if this epoch is the best so far."""
        measured = self.evaluator.state.metrics.get(self.key_metric) if self.evaluator is not None else None
        self.value = None if measured is None else float(measured)
        # None: no validation split, or not validated yet. Until there is a figure to beat, the last epoch is the best.
        better = self.best_value == float("-inf") if self.value is None else self.value > self.best_value
        if better:
            self.best_epoch = engine.state.epoch
            self.best_value = self.best_value if self.value is None else self.value
        if not is_main_process():
            return
        if better:
            save_atomically(self.run.path / "model.pt", self._usable(engine))
        save_atomically(self.run.last_checkpoint, self._everything(engine))

    def _usable(self, engine: FrameTrainer) -> dict[str, Any]:
        return engine.shipped_weights() | {"epoch": engine.state.epoch, "value": self.value} | self.facts

    def _everything(self, engine: FrameTrainer) -> dict[str, Any]:
        return {
            "student": engine.bare_network.state_dict(),
            "parts": {name: part.state_dict() for name, part in engine.parts().items()},
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "best": {"value": self.best_value, "epoch": self.best_epoch},
            "random": random_state(),
        } | self.facts

    def restore(self, engine: FrameTrainer) -> None:
        """Put every part back as last.pt has it; nothing is done where the run starts afresh."""
        if not self.run.resuming:
            return
        content = torch.load(self.run.last_checkpoint, map_location="cpu", weights_only=True)
        engine.bare_network.load_state_dict(content["student"])
        for name, part in engine.parts().items():
            if content["parts"][name] or not isinstance(part, torch.amp.GradScaler):
                part.load_state_dict(content["parts"][name])  # a scaler has no state where there was no fp16
        self.best_value, self.best_epoch = content["best"]["value"], content["best"]["epoch"]
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        set_random_state(content["random"])
        if not is_main_process():
            _draw_apart(torch.distributed.get_rank())
        logger.info("Resumed after epoch %d (iteration %d).", content["epoch"], content["iteration"])


def save_atomically(path: str | Path, content: Any) -> None:
    """torch.save under a temporary name, then rename."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def random_state() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators, in types that ``weights_only`` loads."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, python_keys, python_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(python_keys), python_gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put the generators back; GPUs that are not here are left alone."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, python_keys, python_gauss = state["python"]
    random.setstate((version, tuple(python_keys), python_gauss))


def _draw_apart(rank: int) -> None:
    """Other states than the first process's, which were restored: views of two processes must not coincide."""
    seed = int(torch.randint(2**31, ())) + rank
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def load_into(network: nn.Module, path: str | Path, image_size: int | None = None) -> int:
    """Load the weights to use of a model.pt or last.pt (the teacher's, where there is one); returns its epoch or 0.

    Args:
        image_size: pixels, side of the square that the network is going to see; a file that says that it was trained
            at another one is warned about. None = any will do.

    Raises:
        CheckpointError: see scripts.networks.checkpoints.
    """
    content, _ = read_file(path)
    if isinstance(content, dict) and "student" in content:
        teacher = content["parts"].get("teacher")
        prefix = "network."
        weights = (
            content["student"]
            if teacher is None
            else {key.removeprefix(prefix): value for key, value in teacher.items() if key.startswith(prefix)}
        )
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} is of another network; build it with the options of the run that wrote the file (its "
                f"config.json). {error}"
            ) from None
        warn_of_other_size(content, path, image_size)
    else:
        load_weights(network, path, image_size=image_size)
    return int(content.get("epoch", 0)) if isinstance(content, dict) else 0
