"""A segmenter that knows the truth, with controlled noise: what the mining makes of a good model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.io.mask_reader import read_mask
from scripts.pseudo_labels import PromptableSegmenter, Proposals
from scripts.pseudo_labels.masks import innermost, iou

SMOOTHNESS = 0.15  # sigma of the noise on the border, in radii of the lesion


class OracleSegmenter(PromptableSegmenter):
    """Answers a prompt with the true lesion that lies under it, its border moved at random.

    Nothing under the prompt: an empty mask with a predicted IoU of 0. The noise depends on the file's name alone.

    Args:
        masks: folder of the true masks, found by the stem of the frame's name.
        noise: sd of the border's displacement, in radii of the lesion.
    """

    def __init__(self, masks: str, noise: float = 0.1) -> None:
        self.masks = {path.stem: path for path in Path(masks).rglob("*") if path.is_file()}
        self.noise = float(noise)
        self.name = f"oracle (noise {self.noise:g})"

    def set_image(self, image: NDArray[np.uint8], file: str = "") -> None:
        """See PromptableSegmenter."""
        truth = read_mask(self.masks[Path(file).stem]) > 0
        self._lesions, self._count = ndimage.label(truth, np.ones((3, 3)))
        self._seed = [ord(letter) for letter in Path(file).stem]
        super().set_image(image, file)

    def _take(self, image: NDArray[np.uint8]) -> None:
        """The picture itself says nothing to it."""

    def _predict(
        self,
        points: NDArray[np.float32] | None,
        labels: NDArray[np.int64] | None,
        boxes: NDArray[np.float32] | None,
        mask_logits: NDArray[np.float32] | None,
    ) -> Proposals:
        found = [self._answer(box) for box in boxes]
        masks = np.stack([mask for mask, _ in found])
        quality = np.array([value for _, value in found], np.float32)
        return Proposals(masks, quality, np.ones(len(found), np.float32), np.where(masks, 6.0, -6.0).astype(np.float32))

    def _answer(self, box: NDArray[np.float32]) -> tuple[NDArray[np.bool_], float]:
        """The lesion that has most pixels in the box, and the IoU of its noisy mask with it."""
        x0, y0, x1, y1 = box
        inside = self._lesions[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        sizes = np.bincount(inside.ravel(), minlength=self._count + 1)
        sizes[0] = 0
        if not sizes.any():
            return np.zeros(self._lesions.shape, bool), 0.0
        truth = self._lesions == sizes.argmax()
        noisy = moved_border(truth, self.noise, self._seed)
        return noisy, iou(noisy, truth)


def moved_border(truth: NDArray[np.bool_], noise: float, seed: list[int]) -> NDArray[np.bool_]:
    """A mask (H, W) whose border is moved by a smooth random field of sd ``noise`` radii of the mask."""
    if noise == 0:
        return truth
    depth = ndimage.distance_transform_edt(np.pad(truth, 1))[1:-1, 1:-1]
    x, y = innermost(truth)
    radius = float(depth[int(y), int(x)])
    field = np.random.default_rng(seed).standard_normal(truth.shape)
    field = ndimage.gaussian_filter(field, max(1.0, SMOOTHNESS * radius))
    signed = np.where(truth, depth, -ndimage.distance_transform_edt(~truth))
    return signed + noise * radius * field / max(float(field.std()), 1e-9) > 0
