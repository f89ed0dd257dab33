"""Segment Anything models as promptable segmenters: SAM, MobileSAM, SAM-HQ, SAM 2, EdgeTAM.

Kirillov et al. 2023, "Segment Anything"; Zhang et al. 2023, "Faster Segment Anything" (MobileSAM); Ke et al. 2023,
"Segment Anything in High Quality"; Ravi et al. 2024, "SAM 2"; Zhou et al. 2025, "EdgeTAM".
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.pseudo_labels.embedding_cache import EmbeddingCache, tensors_sha256
from scripts.pseudo_labels.promptable import NO_POINT, PromptableSegmenter, Proposals, SegmenterError, stability_score
from scripts.pseudo_labels.sam_models import SamAdapter, open_sam
from scripts.pseudo_labels.sam_weights import first_line

PADDING_LOGIT = -10.0  # what lies in the padding is not the object: sigmoid(-10) = 0.00005


class SamSegmenter(PromptableSegmenter):
    """A Segment Anything model that answers each prompt with one mask, in float32 and without gradients."""

    def __init__(
        self,
        weights: str | Path | SamAdapter,
        device: str | torch.device = "cpu",
        cache_dir: str | Path = "",
        cache_gb: float = 4.0,
        prompts_per_pass: int = 16,
    ) -> None:
        """Load the model.

        Args:
            weights: folder in the form of the transformers library, a name on its hub, a file of the original release
                (SAM, MobileSAM), or a model that is loaded already.
            device: where the model runs.
            cache_dir: folder that keeps the embeddings of pictures; "" keeps none.
            cache_gb: bound of that folder, in GiB.
            prompts_per_pass: how many prompts the decoder answers at once; more take more memory.

        Raises:
            SegmenterError: the library is missing; the folder, the file, the weights or the device cannot be used; the
                hub cannot be reached.
        """
        if prompts_per_pass < 1:
            raise SegmenterError(f"prompts_per_pass is {prompts_per_pass}; expected 1 or more.")
        self.prompts_per_pass = prompts_per_pass
        self._cache = EmbeddingCache(cache_dir, cache_gb) if str(cache_dir) else None
        self._sam = weights if isinstance(weights, SamAdapter) else open_sam(weights)
        try:
            self._device = torch.device(device)
            self._sam.network.eval().requires_grad_(False).to(self._device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without CUDA
            raise SegmenterError(
                f"device {str(device)!r} cannot be used ({first_line(error)}); give 'cpu', or one that torch lists."
            ) from error
        millions = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        self.name = f"{self._sam.title} ({self._sam.kind}, {millions:.1f} M parameters)"
        self._embeddings: list[Tensor] = []

    @property
    def model(self) -> nn.Module:
        """The library's network, in eval mode."""
        return self._sam.network

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights: names, types, shapes and bytes of all tensors."""
        return tensors_sha256(self.model.state_dict()).hex()

    def set_image(self, image: NDArray[np.uint8], file: str = "") -> None:
        """Take the picture (H, W, 3) uint8 RGB that the next prompts are about; its embeddings may be kept ones.

        Raises:
            SegmenterError: as PromptableSegmenter.set_image; a picture too elongated for the model.
        """
        self._file = file
        super().set_image(image, file)

    def _take(self, image: NDArray[np.uint8]) -> None:
        self._embeddings = []  # none while this picture's are not there
        key = self._key(image) if self._cache is not None else ""
        if self._cache is not None and (kept := self._cache.get(key)):
            self._content = tuple(kept.pop().tolist())
        else:
            try:
                pixels, self._content = self._sam.preprocess(image)
            except ValueError as error:
                raise SegmenterError(
                    f"{self._file or 'picture'}: {image.shape[1]}x{image.shape[0]} pixels (width x height) cannot be "
                    f"scaled to the {self._sam.side} of {self.name} ({first_line(error)}); cut it into less elongated "
                    "parts."
                ) from error
            with torch.no_grad():
                kept = self._sam.encode(pixels.to(self._device))
            if self._cache is not None:
                self._cache.put(key, [*kept, torch.tensor(self._content)])
        self._embeddings = [embedding.to(self._device) for embedding in kept]

    def _key(self, image: NDArray[np.uint8]) -> str:
        """Whatever the embeddings depend on, as 64 hexadecimal digits."""
        digest = hashlib.sha256(f"{self._settings} {image.shape}\n".encode())
        digest.update(image)
        return digest.hexdigest()

    @cached_property
    def _settings(self) -> str:
        return json.dumps([self.fingerprint, self._sam.settings, self._device.type], sort_keys=True, default=str)

    def _predict(
        self,
        points: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        boxes: NDArray[np.float32] | None,
        mask_logits: NDArray[np.float32] | None,
    ) -> Proposals:
        if not self._embeddings:
            raise SegmenterError(f"{self.name}: the last picture could not be taken; call set_image with another one.")
        count = next(len(value) for value in (points, boxes, mask_logits) if value is not None)
        given = np.zeros((count, 0), bool) if labels is None else labels != NO_POINT
        numbers = given.sum(1)
        if boxes is None and mask_logits is None and not numbers.all():
            raise SegmenterError(
                f"{self.name}: prompt {int(numbers.argmin())} has labels {NO_POINT} (no point) only; give it a point, "
                "a box or a mask."
            )
        parts: list[tuple[NDArray[np.intp], Proposals]] = []
        # A point that is none (label -1, or -10 in transformers) is a token that still takes part in attention and so
        # changes the answer. Prompts of as many real points go together instead, without padding.
        for number in np.unique(numbers):
            alike = np.flatnonzero(numbers == number)
            for start in range(0, len(alike), self.prompts_per_pass):
                chosen = alike[start : start + self.prompts_per_pass]
                inputs: dict[str, Tensor] = {}
                if number:
                    real = given[chosen]
                    inputs["points"] = self._coordinates(points[chosen][real]).reshape(len(chosen), -1, 2)
                    inputs["labels"] = torch.from_numpy(labels[chosen][real]).reshape(len(chosen), -1)
                if boxes is not None:
                    inputs["boxes"] = self._coordinates(boxes[chosen])
                if mask_logits is not None:
                    inputs["masks"] = self._lay(torch.from_numpy(mask_logits[chosen])[:, None])
                parts.append((chosen, self._decode(inputs)))
        order = np.argsort(np.concatenate([chosen for chosen, _ in parts]))
        fields = ("masks", "predicted_iou", "stability", "logits")
        return Proposals(*(np.concatenate([getattr(part, field) for _, part in parts])[order] for field in fields))

    @torch.no_grad()
    def _decode(self, inputs: dict[str, Tensor]) -> Proposals:
        """Answer prompts that are in the model's coordinates."""
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        low, iou = self._sam.decode(self._embeddings, **inputs)  # (P, 1, h, w) over the model's input
        logits = self._full(low)[:, 0].cpu().numpy()
        return Proposals(
            masks=logits > 0,
            predicted_iou=iou.clamp(0, 1).cpu().numpy(),
            stability=stability_score(logits),
            logits=self._crop(low)[:, 0].cpu().numpy(),
        )

    def _full(self, low: Tensor) -> Tensor:
        """Logits (P, 1, h, w) over the model's input at the picture's own size, scaled as the releases do it."""
        if self._sam.padded:
            square = F.interpolate(low, (self._sam.side, self._sam.side), mode="bilinear", align_corners=False)
            low = square[..., : self._content[0], : self._content[1]]
        return F.interpolate(low, self._size, mode="bilinear", align_corners=False)

    def _coordinates(self, values: NDArray[np.float32]) -> Tensor:
        """x, y pairs (..., 2 or 4) of the picture in pixels of the model's input."""
        scale = np.array([self._content[1] / self._size[1], self._content[0] / self._size[0]])
        return torch.from_numpy((values.reshape(-1, 2) * scale).astype(np.float32).reshape(values.shape))

    def _crop(self, low: Tensor) -> Tensor:
        """The part of logits (P, 1, h, w) that the picture covers, to a fraction of a cell."""
        rows, columns = (size / self._sam.side for size in self._content)
        if rows == columns == 1:
            return low
        return _stretch(low, math.ceil(low.shape[-2] * rows), math.ceil(low.shape[-1] * columns), rows, columns)

    def _lay(self, logits: Tensor) -> Tensor:
        """Logits (P, 1, h, w) over the picture as the model takes them: over its padded square."""
        if not self._sam.padded:
            return logits
        cells = self._sam.cells
        rows, columns = (size / self._sam.side for size in self._content)
        fitting = min(logits.shape[-2], math.ceil(cells * rows)), min(logits.shape[-1], math.ceil(cells * columns))
        if fitting != tuple(logits.shape[-2:]):  # finer than the grid: average, do not pick
            logits = F.interpolate(logits, fitting, mode="bilinear", align_corners=False, antialias=True)
        laid = _stretch(logits, cells, cells, 1 / rows, 1 / columns)
        centres = (torch.arange(cells) + 0.5) / cells
        outside = (centres[:, None] > rows) | (centres[None, :] > columns)
        return laid.masked_fill(outside, PADDING_LOGIT)


def _stretch(maps: Tensor, height: int, width: int, rows: float, columns: float) -> Tensor:
    """Sample maps (P, 1, h, w) bilinearly: the result covers their fraction rows x columns from the top left on.

    Fractions above 1 go beyond the maps, where their border is continued.
    """
    theta = maps.new_tensor([[columns, 0.0, columns - 1], [0.0, rows, rows - 1]]).expand(len(maps), 2, 3)
    grid = F.affine_grid(theta, [len(maps), 1, height, width], align_corners=False)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
