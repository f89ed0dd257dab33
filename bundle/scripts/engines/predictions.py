"""What was predicted in an evaluation -> files: lesion masks, class indices, and volumes put together again."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.engines.run_directory import is_main_process
from scripts.io.class_volume import class_volume_names, write_class_png, write_class_volume
from scripts.io.frame_address import split_address
from scripts.io.label_volume import is_volume
from scripts.io.media import open_media
from scripts.io.writers import OutputNamer, write_mask_png
from scripts.metrics.severity_evaluation import SeverityEvaluation
from scripts.metrics.volume_evaluation import VolumeEvaluation

logger = logging.getLogger(__name__)


class Predictions(Protocol):
    """Takes what the evaluation was given."""

    def add(self, file: str, predicted: NDArray[Any]) -> None:
        """One picture or slice, (H, W)."""

    def finish(self) -> None:
        """All have come; every process calls it."""


def predictions_for(evaluation: object, folder: Path, sources: Mapping[str, str]) -> Predictions | None:
    """The writer that suits an evaluation: ClassMaps for VolumeEvaluation, LesionMasks for LesionEvaluation.

    None for SeverityEvaluation: all that is predicted stands in its table.

    Args:
        sources: {"file" of an item: its image's address}, where volumes get their affine from.
    """
    if isinstance(evaluation, SeverityEvaluation):
        return None
    return ClassMaps(folder, sources) if isinstance(evaluation, VolumeEvaluation) else LesionMasks(folder, sources)


class LesionMasks:
    """Lesion probability (H, W) -> PNG, 255 where it is above 0.5, else 0.

    Args:
        files: all that will come, in whichever process: a name does not depend on who comes first.
    """

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        self.folder = folder
        self.namer = OutputNamer(files)

    def add(self, file: str, predicted: NDArray[np.floating]) -> None:
        """Write one mask."""
        write_mask_png(self.folder / self.namer(file), predicted > 0.5)

    def finish(self) -> None:
        """Each mask is written when it comes."""


class ClassMaps:
    """Class index (H, W) -> PNG of class indices; the slices of a volume -> one NIfTI with its shape and affine.

    A volume is written when its last slice has come. Slices wait compressed; in a run of several processes, which share
    the slices out, they are exchanged at the end.
    """

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        self.folder = folder
        self.sources = dict(sources)
        self.namer = OutputNamer(file for file in self.sources if not is_volume(split_address(file)[0]))
        addresses = {file: split_address(file)[0] for file in self.sources}
        self._volumes = {path.as_posix(): split_address(self.sources[file])[0] for file, path in addresses.items()}
        self._names = class_volume_names(name for name in self._volumes if is_volume(name))
        self._waiting: dict[str, dict[int, tuple[bytes, tuple[int, int]]]] = {}

    def add(self, file: str, predicted: NDArray[np.uint8]) -> None:
        """Write one picture, or keep a slice until its volume is whole.

        Raises:
            ValueError: a slice of a volume of which it is not known where it lies.
        """
        volume, index = split_address(file)
        if not is_volume(volume):
            write_class_png(self.folder / self.namer(file), predicted)
            return
        name = volume.as_posix()
        if name not in self._volumes:
            raise ValueError(
                f"{file}: it is not known where this slice lies, so its volume's affine is not; evaluate a data set of "
                'items {"image", "file"}'
            )
        slices = self._waiting.setdefault(name, {})
        packed = zlib.compress(np.ascontiguousarray(predicted, np.uint8).tobytes(), 1)
        slices[index or 0] = (packed, (predicted.shape[0], predicted.shape[1]))
        if len(slices) == len(open_media(self._volumes[name])):
            self._write(name, self._waiting.pop(name))

    def finish(self) -> None:
        """Write the volumes of which not every slice was asked for; the others' slices are 0."""
        waiting, self._waiting = self._waiting, {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, waiting)
            waiting = {}
            for name, slices in (pair for part in parts for pair in part.items()):
                waiting.setdefault(name, {}).update(slices)
        if not is_main_process():
            return
        for name, slices in sorted(waiting.items()):
            frames = len(open_media(self._volumes[name]))
            if len(slices) < frames:
                logger.warning("%s: %d of %d slices were predicted; the others are 0", name, len(slices), frames)
            self._write(name, slices)

    def _write(self, name: str, slices: Mapping[int, tuple[bytes, tuple[int, int]]]) -> None:
        unpacked = {k: np.frombuffer(zlib.decompress(data), np.uint8).reshape(s) for k, (data, s) in slices.items()}
        write_class_volume(self.folder / self._names[name], unpacked, self._volumes[name])
