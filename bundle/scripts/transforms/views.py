"""Random views of a batch, made by kornia: the geometry of each is known, so that views can be laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import kornia.augmentation as kornia_augmentation
import torch
from kornia.geometry.transform import warp_perspective
from torch import Tensor, nn


@dataclass
class View:
    """A view of a batch.

    Attributes:
        image: (B, 3, H, W) in 0..1.
        label: (B, 1, H, W) class index, or None.
        matrix: (B, 3, 3) homography from the source's pixels to the view's pixels.
    """

    image: Tensor
    label: Tensor | None
    matrix: Tensor

    def align(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Lay a map over this view that was computed on its source.

        Args:
            source: (B, C, H, W) on the source's grid.

        Returns:
            The map on this view's grid (B, C, H, W), and a mask (B, 1, H, W) of the pixels that come from inside the
            source: 1 valid, 0 made up.
        """
        return _warp(source, self.matrix)

    def valid(self) -> Tensor:
        """Mask (B, 1, H, W) of the view's pixels that come from inside the source: 1 valid, 0 made up."""
        return self.align(torch.ones_like(self.image[:, :1]))[1]

    def undo(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Bring a map (B, C, H, W) computed on this view back to its source's grid, with its mask of valid pixels."""
        inverse = torch.linalg.inv(self.matrix)
        _, shown = _warp(torch.ones_like(target[:, :1]), self.matrix)
        # There and back: what the view cut off, and the rim that was mixed with its border, is not comparable.
        returned, _ = _warp(shown, inverse)
        return _warp(target, inverse)[0], (returned > 0.999).to(target.dtype)


def _precisely(image: Tensor) -> torch.autocast:
    """Geometry outside autocast: places multiplied in half precision come to lie up to two pixels beside themselves."""
    return torch.autocast(image.device.type, enabled=False)


def _warp(image: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    size = (image.shape[-2], image.shape[-1])
    with _precisely(image):
        moved, inside = (
            warp_perspective(source, matrix.float(), size, mode="bilinear", padding_mode="zeros", align_corners=True)
            for source in (image.float(), torch.ones_like(image[:, :1], dtype=torch.float32))
        )
    return moved.to(image.dtype), (inside > 0.999).to(image.dtype)


class RandomView(nn.Module):
    """Geometry on picture and label alike, then colour on the picture alone.

    Colour changes come last and stay in 0..1: they never see normalised values (a fault of the released LESS-Net
    code, whose jitter clamps normalised tensors to 0..1).
    """

    def __init__(self, geometry: Sequence[nn.Module], photometry: Sequence[nn.Module]) -> None:
        super().__init__()
        self.geometry = (
            kornia_augmentation.AugmentationSequential(
                *geometry,
                data_keys=["input", "mask"],
                same_on_batch=False,
                extra_args={"mask": {"resample": "nearest", "align_corners": None}},
            )
            if geometry
            else None
        )
        self.photometry = nn.Sequential(*photometry)

    @torch.no_grad()
    def forward(self, image: Tensor, label: Tensor | None = None) -> View:
        """Draw one view for each picture: image (B, 3, H, W) in 0..1, label (B, 1, H, W) or None."""
        with _precisely(image):
            return self._draw(image, label)

    def _draw(self, image: Tensor, label: Tensor | None) -> View:
        matrix = torch.eye(3, device=image.device).expand(len(image), 3, 3)
        if self.geometry is not None:
            mask = torch.zeros_like(image[:, :1]) if label is None else label.to(image.dtype)
            image, mask = self.geometry(image, mask)
            matrix = self.geometry.transform_matrix
            label = None if label is None else mask.round().to(label.dtype)
        return View(self.photometry(image).clamp(0.0, 1.0), label, matrix)


def view(
    horizontal_flip: float = 0.0,
    vertical_flip: float = 0.0,
    rotation: float = 0.0,
    scale: Sequence[float] | None = None,
    translation: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    jitter_probability: float = 0.8,
    grayscale: float = 0.0,
    blur_probability: float = 0.0,
    blur_sigma: Sequence[float] = (0.1, 2.0),
) -> RandomView:
    """A random view declared by its strengths; what is 0 costs nothing.

    Args:
        horizontal_flip, vertical_flip: probability.
        rotation: degrees, drawn from -rotation..rotation.
        scale: [smallest, largest] zoom; None = no zoom.
        translation: largest shift as a share of the side.
        brightness, contrast, saturation: factor drawn from 1 - x..1 + x.
        hue: shift drawn from -hue..hue, in turns (0.5 = half the colour circle). Keep it small: colour is the signal.
        jitter_probability: share of pictures whose colours are changed.
        grayscale: probability of dropping colour.
        blur_probability: share of pictures that are blurred.
        blur_sigma: Gaussian sigma in pixels, [smallest, largest].
    """
    geometry: list[nn.Module] = []
    if horizontal_flip:
        geometry.append(kornia_augmentation.RandomHorizontalFlip(p=horizontal_flip))
    if vertical_flip:
        geometry.append(kornia_augmentation.RandomVerticalFlip(p=vertical_flip))
    if rotation or scale or translation:
        geometry.append(
            kornia_augmentation.RandomAffine(
                degrees=float(rotation),
                translate=(translation, translation) if translation else None,
                scale=(float(scale[0]), float(scale[1])) if scale else None,
                p=1.0,
            )
        )
    photometry: list[nn.Module] = []
    if brightness or contrast or saturation or hue:
        photometry.append(kornia_augmentation.ColorJitter(brightness, contrast, saturation, hue, p=jitter_probability))
    if grayscale:
        photometry.append(kornia_augmentation.RandomGrayscale(p=grayscale))
    if blur_probability:
        photometry.append(
            kornia_augmentation.RandomGaussianBlur((11, 11), (blur_sigma[0], blur_sigma[1]), p=blur_probability)
        )
    return RandomView(geometry, photometry)
