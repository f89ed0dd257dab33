"""What a network makes of unlabelled frames: how unsure it is of each, and the features to tell them apart by."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.io.errors import MediaError
from scripts.io.frame_address import join_address, split_address
from scripts.io.image_reader import read_rgb
from scripts.io.media import frame_rate_of, open_media
from scripts.selection.candidates import CLEAR, LESION, UNCERTAIN
from scripts.selection.uncertainty import lesion_band_entropy, stratum
from scripts.transforms.resizing import ResizeTo, lesion_probability

logger = logging.getLogger(__name__)

TOP_SHARE = 0.1  # of the frames of a file: its score is the mean of the highest
FRAMES_PER_SECOND = 2.0  # of a moving file that are looked at, as in scripts.data.expansion


class EncoderDecoder(Protocol):
    """The two halves of LESSNet: taps from fine to coarse, and logits from them."""

    def encode(self, x: Tensor) -> list[Tensor]: ...

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor: ...


@dataclass(frozen=True)
class FrameScore:
    """One file, or one frame of it, as the network sees it.

    Attributes:
        id: the path or address (`clip.mp4#12`) as it was given.
        score: lesion_band_entropy, 0 and up; nan where `error` says why.
        stratum: "lesion", "uncertain" or "clear"; "" where there is an error.
        lesion_share: predicted lesion, share of the frame, 0..1; nan where there is an error.
        features: global average of the encoder's deepest map, C numbers; none where there is an error.
        error: why it could not be read or scored; "" = it could.
    """

    id: str
    score: float
    stratum: str
    lesion_share: float
    features: list[float] = field(repr=False)
    error: str = ""


def score_frames(
    network: EncoderDecoder,
    paths: Sequence[str | PathLike[str]],
    *,
    device: str | torch.device,
    image_size: int,
    batch_size: int = 8,
    temperature: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[FrameScore]:
    """Score files one after the other, in the order given.

    A path may name one frame (`clip.mp4#12`). A file of several frames, or a folder of one DICOM series, is scored as a
    whole: the mean of the highest tenth of its frames' scores, the most lesion-like stratum of any, the mean of their
    lesion shares and features; of a moving file FRAMES_PER_SECOND are looked at. Scores are taken on the network's
    grid, since they do not depend on the size.
    A file that cannot be read yields an entry with `error` and never stops the others; frames of it that cannot be
    read are left out (logged) as long as one can.

    Args:
        network: see EncoderDecoder; switched to evaluation.
        image_size: pixels, side of the square that the network sees.
        batch_size: frames a pass.
        temperature: divides the logits.
        progress: called with (files done, files in all).

    Raises:
        ValueError: temperature or batch_size that make no sense.
    """
    if batch_size < 1 or temperature <= 0:
        raise ValueError(f"batch_size is {batch_size}, temperature {temperature}; expected 1 or more, and above 0")
    network.eval()
    waiting: deque[_File] = deque()
    batch: list[tuple[_File, Tensor]] = []
    done = 0

    def flush() -> None:
        if batch:
            probability, features = soft_outputs(
                network, torch.stack([picture for _, picture in batch]), device=device, temperature=temperature
            )
            for (file, _), one, row in zip(batch, probability, features, strict=True):
                file.add(one, row)
            batch.clear()

    def finished() -> Iterator[FrameScore]:
        nonlocal done
        while waiting and waiting[0].complete:
            file = waiting.popleft()
            done += 1
            if progress is not None:
                progress(done, len(paths))
            yield file.result()

    for path in paths:
        file = _File(fspath(path))
        waiting.append(file)
        for picture in file.pictures(image_size):
            batch.append((file, picture))
            if len(batch) >= batch_size:
                flush()
                yield from finished()
    flush()
    yield from finished()


def soft_outputs(
    network: EncoderDecoder, pictures: Tensor, *, device: str | torch.device, temperature: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lesion probability and encoder features of a batch, one pass.

    Shape: pictures (B, 3, H, W) uint8, output (B, H, W) in 0..1 and (B, C).
    """
    with torch.no_grad():
        x = pictures.to(device).float().div_(255.0)
        taps = network.encode(x)
        logits = network.decode(taps, (x.shape[2], x.shape[3])).float() / temperature
        features = taps[-1].float().mean(dim=(2, 3))
    return lesion_probability(logits).cpu().numpy(), features.cpu().numpy()


def network_picture(address: str | PathLike[str], image_size: int) -> Tensor:
    """One frame as the network sees it, (3, image_size, image_size) uint8. Raises MediaError."""
    pixels = torch.from_numpy(np.ascontiguousarray(read_rgb(address).transpose(2, 0, 1)))
    return ResizeTo("image", [image_size, image_size])({"image": pixels})["image"]


class _File:
    """A file on its way: frames sent out, frames come back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._unread = ""
        self._unscored = ""
        self._open = True
        self._out = 0
        self._scores: list[float] = []
        self._shares: list[float] = []
        self._strata: set[str] = set()
        self._features: NDArray[np.float64] | float = 0.0

    @property
    def complete(self) -> bool:
        """All its frames have been read and have come back."""
        return not self._open and self._out == len(self._scores)

    def pictures(self, image_size: int) -> Iterator[Tensor]:
        """Its frames, (3, image_size, image_size) uint8 each; those that cannot be read are left out."""
        broken = 0
        try:
            addresses = frames_of(self.name)
        except Exception as error:  # noqa: BLE001 - whatever one file does, the others must be scored
            self._fail(error)
            addresses = []
        for address in addresses:
            try:
                picture = network_picture(address, image_size)
            except Exception as error:  # noqa: BLE001
                broken += 1
                self._fail(error)
                continue
            self._out += 1
            # Before the last one goes out: it may come back at once.
            self._open = address is not addresses[-1]
            yield picture
        self._open = False
        if self._out and broken:
            logger.warning("%s: %d of %d frames cannot be read and are left out", self.name, broken, len(addresses))

    def add(self, probability: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        """What came back for one frame: (h, w) and (C,)."""
        if not (np.isfinite(probability).all() and np.isfinite(features).all()):
            self._unscored = f"{self.name}: the network's output is not a number; check its weights"
            self._scores.append(math.nan)
            return
        self._scores.append(lesion_band_entropy(probability))
        self._shares.append(float((probability > 0.5).mean()))
        self._strata.add(stratum(probability))
        self._features = self._features + features.astype(np.float64)

    def result(self) -> FrameScore:
        """All frames together."""
        if not self._scores or self._unscored:
            error = self._unscored or self._unread or f"{self.name}: it holds no frames"
            logger.warning("not scored: %s", error)
            return FrameScore(self.name, math.nan, "", math.nan, [], error)
        highest = sorted(self._scores)[-math.ceil(TOP_SHARE * len(self._scores)) :]
        kind = next(kind for kind in (LESION, UNCERTAIN, CLEAR) if kind in self._strata)
        features = np.asarray(self._features / len(self._scores)).tolist()
        return FrameScore(self.name, float(np.mean(highest)), kind, float(np.mean(self._shares)), features)

    def _fail(self, error: Exception) -> None:
        cause = error
        while cause.__cause__ is not None and not isinstance(cause, MediaError):
            cause = cause.__cause__  # type: ignore[assignment]
        self._unread = str(cause) if isinstance(cause, MediaError) else f"{self.name}: {type(error).__name__}: {error}"


def frames_of(path: str | PathLike[str]) -> list[str]:
    """Addresses of the frames of a file that are looked at; the path itself where it is one. Raises MediaError."""
    file, index = split_address(path)
    if index is not None:
        return [fspath(path)]
    if file.is_dir():
        from scripts.io.dicom_series import read_series  # pydicom, only where it is needed

        return [join_address(member, number) for member, number in read_series(file)[0]]
    media = open_media(file)
    if len(media) == 1:
        return [fspath(path)]
    fps = frame_rate_of(media)
    stride = max(1, round(fps / FRAMES_PER_SECOND)) if fps else 1
    if stride > 1:
        logger.info("%s: every %dth of its %d frames is looked at", path, stride, len(media))
    return [join_address(file, number) for number in range(0, len(media), stride)]
