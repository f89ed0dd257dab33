"""Noise fields the synthetic sample frames are painted with: periodic tiles, smooth fields, vessels, bubbles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[np.float32]


def periodic_noise(rng: np.random.Generator, size: int, slope: float, lowest: float, highest: float) -> Field:
    """Return a seamless (size, size) tile of zero mean and unit deviation with a power-law spectrum.

    Amplitude falls as frequency ** -slope between ``lowest`` and ``highest`` (cycles per tile) and is zero outside.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]) * size
    inside = (frequency >= lowest) & (frequency <= highest)
    amplitude = np.where(inside, np.maximum(frequency, 1.0) ** -slope, 0.0)
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    tile = np.fft.irfft2(spectrum * amplitude, s=(size, size))
    return ((tile - tile.mean()) / tile.std()).astype(np.float32)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Return a (size, size) field of about zero mean and unit deviation that varies over ``cells`` cells a side."""
    coarse = rng.standard_normal((cells + 3, cells + 3)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    return (fine - fine.mean()) / (fine.std() + 1e-6)


def layered_noise(rng: np.random.Generator, size: int, cells: int, octaves: int) -> Field:
    """Return (size, size) noise of unit deviation: ``octaves`` layers, each twice as fine and half as strong."""
    total = sum(smooth_noise(rng, size, cells * 2**k) * 0.5**k for k in range(octaves))
    return (total / total.std()).astype(np.float32)


def vessel_tile(rng: np.random.Generator, size: int) -> Field:
    """Return a seamless (size, size) tile in 0..1 of thin winding lines that fade in and out, as vessels do.

    A line is a zero crossing of smooth noise; its width follows a second noise, so that branches taper.
    """
    tile = np.zeros((size, size), np.float32)
    for lowest, highest, width, strength in ((2, 7, 0.055, 1.0), (5, 16, 0.07, 0.6)):
        course = periodic_noise(rng, size, 1.0, lowest, highest)
        presence = 1.0 / (1.0 + np.exp(-3.0 * (periodic_noise(rng, size, 1.0, 1, 5) - 0.5)))
        lines = np.exp(-((course / (width * (0.5 + presence))) ** 2)) * presence * strength
        tile = np.maximum(tile, lines)
    return tile.astype(np.float32)


def sample_tile(tile: Field, rows: Field, columns: Field) -> Field:
    """Return the tile read bilinearly at (rows, columns), in tile pixels, wrapping round at its borders."""
    return ndimage.map_coordinates(tile, np.stack((rows, columns)), order=1, mode="grid-wrap", prefilter=False)


def smoothstep(low: float, high: float, value: Field) -> Field:
    """Return 0 below ``low``, 1 above ``high`` and 3t^2 - 2t^3 between."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bubbles(rng: np.random.Generator, x: Field, y: Field, count: int) -> tuple[Field, Field]:
    """Return (rim, glint), both (H, W) in 0..1, of ``count`` foam bubbles crowded about one spot.

    ``x`` and ``y`` are (H, W) positions in -1..1. The rim is bright towards the light, the glint is a small spot.
    """
    rim, glint = np.zeros_like(x), np.zeros_like(x)
    spot = rng.uniform(-0.6, 0.6, 2)
    for _ in range(count):
        cx, cy = spot + rng.normal(0.0, 0.16, 2)
        radius = float(rng.uniform(0.02, 0.075))
        distance = np.hypot(x - cx, y - cy)
        side = 0.55 + 0.45 * ((x - cx) * -0.7 + (y - cy) * -0.7) / radius
        rim = np.maximum(rim, np.exp(-(((distance - radius) / 0.011) ** 2)) * np.clip(side, 0.1, 1.0))
        rim *= np.where(distance < radius * 0.8, 0.75, 1.0)
        glint = np.maximum(glint, np.exp(-(((x - cx + radius * 0.4) ** 2 + (y - cy + radius * 0.4) ** 2) / 0.012**2)))
    return rim.astype(np.float32), glint.astype(np.float32)
