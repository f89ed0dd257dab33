"""One synthetic endoscopy frame and its blood mask, painted for a synthetic patient.

The wall is a tube seen from inside: a pixel at radius r from the lumen has log-depth u = -ln r, so that (angle, u) is a
conformal map of the wall and texture read there shrinks towards the lumen. Fluids (blood, bile) darken by the law of
Beer and Lambert, colour * exp(-thickness * absorption), so a thin film keeps the wall's texture and a pool hides it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.data.sample_texture import (
    Field,
    bubbles,
    layered_noise,
    periodic_noise,
    sample_tile,
    smooth_noise,
    smoothstep,
    vessel_tile,
)

MUCOSA = np.array(
    [[0.88, 0.48, 0.40], [0.90, 0.58, 0.32], [0.87, 0.66, 0.52], [0.80, 0.33, 0.24]]
)  # pink, orange, pale, red
TILE = 256  # side of a texture tile, pixels
FRESH_BLOOD = np.array([0.55, 2.9, 2.9], np.float32)  # absorption of red, green, blue per unit of thickness
OLD_BLOOD = np.array([1.15, 2.6, 2.3], np.float32)
BILE = np.array([0.25, 0.40, 1.7], np.float32)
REDNESS = np.array([0.10, 0.75, 0.70], np.float32)  # inflamed mucosa: the same direction as blood, but weaker and soft


@dataclass(frozen=True)
class Patient:
    """What all frames of one synthetic patient share: colour, wall texture, light and camera."""

    mucosa: NDArray[np.float32]  # (3,) albedo, 0..1
    gains: NDArray[np.float32]  # (3,) white balance
    exposure: float
    gamma: float
    reach: float  # radius at which the light has fallen to half, in half image sides
    field: str  # "circle", "octagon" or "square": outline of the visible field
    field_radius: float
    bump: Field  # (TILE, TILE) wall relief
    slope: Field  # (TILE, TILE) its derivative along the tube
    patch: Field  # (TILE, TILE) slow colour changes
    vessels: Field  # (TILE, TILE) 0..1
    relief: float
    vessel_strength: float
    folds: float  # folds per unit of log-depth
    fold_depth: float
    wetness: float  # share of pixels that glare
    blur: float  # pixels at 256 px
    noise: float  # deviation of sensor noise, grey levels
    blood_age: float  # 0 fresh, 1 old


def make_patient(rng: np.random.Generator) -> Patient:
    """Return a random patient."""
    mixture = rng.dirichlet((0.8, 0.8, 0.6, 0.7))
    mucosa = mixture @ MUCOSA * rng.uniform(0.9, 1.05)
    fineness = float(rng.uniform(0.6, 1.1))
    bump = periodic_noise(rng, TILE, fineness, 7, 110)
    slope = np.gradient(np.pad(bump, 1, mode="wrap"), axis=0)[1:-1, 1:-1]
    return Patient(
        mucosa=mucosa.astype(np.float32),
        gains=rng.normal(1.0, 0.05, 3).astype(np.float32),
        exposure=float(rng.uniform(0.92, 1.3)),
        gamma=float(rng.uniform(0.8, 1.1)),
        reach=float(rng.uniform(0.22, 0.5)),
        field=str(rng.choice(("circle", "octagon", "octagon", "square"))),
        field_radius=float(rng.uniform(0.95, 1.0)),
        bump=bump,
        slope=(slope / slope.std()).astype(np.float32),
        patch=periodic_noise(rng, TILE, 1.6, 1, 12),
        vessels=vessel_tile(rng, TILE),
        relief=float(rng.uniform(0.015, 0.06)),
        vessel_strength=float(rng.uniform(0.15, 0.75)),
        folds=float(rng.uniform(0.9, 2.2)),
        fold_depth=float(rng.uniform(0.2, 0.6)),
        wetness=float(rng.uniform(0.002, 0.016)),
        blur=float(rng.uniform(0.4, 1.0)),
        noise=float(rng.uniform(1.0, 3.0)),
        blood_age=float(rng.beta(0.8, 1.6)),
    )


def visible_field(shape: str, radius: float, x: Field, y: Field) -> NDArray[np.bool_]:
    """Return (H, W) bool: the part of the frame inside the circular, octagonal or corner-cut square outline."""
    if shape == "circle":
        return np.hypot(x, y) <= radius
    ax, ay = np.abs(x), np.abs(y)
    cut = 1.45 if shape == "octagon" else 1.8
    return (np.maximum(ax, ay) <= radius) & (ax + ay <= cut * radius)


def blood_field(rng: np.random.Generator, share: float, x: Field, y: Field, light: Field) -> Field:
    """Return (H, W): how readily each pixel bleeds; the frame's blood is where it is highest.

    A pool about a low point, a stream that meanders down from a source, or both; never far into the dark lumen, where
    nobody could draw its outline.
    """
    kind = rng.choice(("pool", "stream", "both", "spots"), p=(0.35, 0.25, 0.25, 0.15))
    size = x.shape[0]
    wobble = layered_noise(rng, size, 4, 4)
    scale = np.sqrt(share) + 0.03
    centre = rng.uniform(-0.6, 0.6, 2)
    parts = []
    if kind in ("pool", "both"):
        turn = rng.uniform(0.0, np.pi)
        along = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
        across = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
        parts.append(-np.hypot(along / rng.uniform(1.0, 1.9), across) / scale)
    if kind in ("stream", "both"):
        heading = rng.uniform(0.0, 2.0 * np.pi)
        steps = 26
        headings = heading + np.cumsum(rng.normal(0.0, 0.28, steps))
        stride = (0.5 + 1.1 * np.sqrt(share)) / steps
        path = centre + stride * np.cumsum(np.stack((np.cos(headings), np.sin(headings)), 1), axis=0)
        widths = np.linspace(0.6, 1.5, steps) * (0.03 + 0.25 * scale)  # it widens on its way down
        nearest = np.full_like(x, np.inf)
        for (px, py), width in zip(path, widths, strict=True):
            np.minimum(
                nearest, ((x - np.float32(px)) ** 2 + (y - np.float32(py)) ** 2) / np.float32(width**2), out=nearest
            )
        parts.append(-np.sqrt(nearest))
    if kind == "spots":
        for px, py in centre + rng.normal(0.0, 0.3, (int(rng.integers(2, 6)), 2)):
            parts.append(-np.hypot(x - px, y - py) / (scale * rng.uniform(0.25, 0.7)))
    return np.max(parts, axis=0) + 0.33 * wobble - 6.0 * np.clip(0.3 - light, 0.0, None)


def highest_pixels(field: Field, allowed: NDArray[np.bool_], count: int) -> tuple[NDArray[np.bool_], float]:
    """Return (mask (H, W) bool of the ``count`` highest allowed pixels, the field's value at its border)."""
    candidates = np.where(allowed, field, -np.inf).ravel()
    order = np.argpartition(candidates, candidates.size - count)[candidates.size - count :]
    mask = np.zeros(candidates.size, bool)
    mask[order] = True
    mask &= allowed.ravel()
    return mask.reshape(field.shape), float(candidates[order].min())


def render_frame(
    patient: Patient, rng: np.random.Generator, size: int, blood_share: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return (frame (H, W, 3) uint8 RGB, blood (H, W) bool) with blood on ``blood_share`` (0..1) of the whole frame."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size) * 2.0 - 1.0
    x, y = np.meshgrid(axis, axis)
    pixel = size / 256.0  # lengths below are in pixels of a 256 px frame

    # The tube: where the lumen is, depth and angle of each pixel.
    far, where = rng.uniform(0.0, 1.15), rng.uniform(0.0, 2.0 * np.pi)
    dx = x - np.float32(far * np.cos(where)) + 0.06 * smooth_noise(rng, size, 3)
    dy = (y - np.float32(far * np.sin(where)) + 0.06 * smooth_noise(rng, size, 3)) * np.float32(rng.uniform(0.75, 1.3))
    radius = np.hypot(dx, dy) + np.float32(0.02)
    angle, depth = np.arctan2(dy, dx), -np.log(radius)
    per_radian = 2.0 * TILE / (2.0 * np.pi)  # the tile runs twice round the tube
    rows = depth * np.float32(per_radian) + np.float32(rng.uniform(0, TILE))
    columns = angle * np.float32(per_radian) + np.float32(rng.uniform(0, TILE))

    # Light: fall-off towards the lumen, folds as overlapping steps, relief, vignette.
    light = radius**1.6 / (radius**1.6 + np.float32(patient.reach**1.6))
    lobes = int(rng.integers(2, 4))
    ripple = 0.13 * np.sin(lobes * angle + np.float32(rng.uniform(0, 6.28))) + 0.12 * smooth_noise(rng, size, 4)
    phase = np.float32(patient.folds) * depth + ripple + np.float32(rng.uniform(0, 1))
    step = phase - np.floor(phase)
    step = step * step * (1.0 - smoothstep(0.90, 1.0, step))
    strength = np.float32(patient.fold_depth) * np.clip(0.75 + 0.5 * smooth_noise(rng, size, 3), 0.0, 1.3)
    light *= 1.0 + strength * (1.6 * step - 0.55)
    light *= 1.0 - np.float32(rng.uniform(0.1, 0.45)) * np.clip(x * x + y * y, 0, 2) ** 1.5
    light *= 1.0 + 0.10 * smooth_noise(rng, size, 2)
    slope = sample_tile(patient.slope, rows, columns) * np.float32(patient.relief)
    visible = visible_field(patient.field, patient.field_radius, x, y)

    # The wall's colour: slow changes, inflamed patches, vessels. Vessels and patches are red, and are not blood.
    patch = sample_tile(patient.patch, rows * 0.5, columns * 0.5)
    inflamed = rng.uniform(0.0, 0.95) * smoothstep(0.3, 2.4, layered_noise(rng, size, 3, 4)) + 0.11 * np.clip(
        patch, -2, 2
    )
    inflamed += 0.8 * np.clip(1.0 - light, 0.0, 1.0)  # deep in the tube light has met the red wall more than once
    vessels = sample_tile(patient.vessels, rows, columns) * np.float32(patient.vessel_strength)
    thickness = (inflamed + vessels)[..., None] * REDNESS
    if rng.random() < 0.2:  # bile-stained fluid: a pool that is not blood
        stain = smoothstep(0.4, 2.0, layered_noise(rng, size, 3, 3)) * np.float32(rng.uniform(0.3, 1.0))
        thickness = thickness + stain[..., None] * BILE

    # Blood: the exact area asked for, thin at its edge, its surface smoother than the wall.
    mask, cover = np.zeros((size, size), bool), np.zeros((size, size), np.float32)
    count = min(round(blood_share * size * size), int(visible.sum()))
    if count:
        readiness = blood_field(rng, blood_share, x, y, light)
        mask, border = highest_pixels(readiness, visible, count)
        cover = ndimage.gaussian_filter(mask.astype(np.float32), 1.1 * pixel)
        inner = np.clip((readiness - border) / 1.2, 0.0, 1.0)
        amount = cover * (np.float32(rng.uniform(0.42, 0.75)) + 0.7 * inner) * np.float32(rng.uniform(0.8, 1.15))
        age = np.float32(np.clip(patient.blood_age + rng.normal(0, 0.1), 0, 1))
        thickness = thickness + amount[..., None] * ((1 - age) * FRESH_BLOOD + age * OLD_BLOOD)
        slope = slope * (1.0 - 0.75 * cover)

    colour = patient.mucosa * np.exp(-thickness) * (np.clip(light * (1.0 + slope * 2.2), 0, None))[..., None]

    # Glare where the wet surface happens to face the lamp, the more so on fluid.
    tilt_x = smooth_noise(rng, size, 22) + slope * 14.0
    tilt_y = smooth_noise(rng, size, 22) + 2.0 * step
    facing = np.exp(-(tilt_x**2 + (tilt_y - 0.8) ** 2) / 0.5) * np.clip(light, 0, 1) ** 1.5 * (1.0 + 0.4 * cover)
    wet = np.quantile(facing[visible], 1.0 - patient.wetness * rng.uniform(0.3, 1.6))
    glare = smoothstep(0.97, 1.08, facing / wet)
    if rng.random() < 0.12:
        rim, glint = bubbles(rng, x, y, int(rng.integers(6, 22)))
        colour = colour * (1.0 + 0.8 * rim[..., None])
        glare = np.maximum(glare, 0.9 * glint)
    glow = ndimage.gaussian_filter(glare, 2.2 * pixel)
    shine = np.clip(0.92 * ndimage.gaussian_filter(glare, 0.5 * pixel) + 0.35 * glow, 0, 1)[..., None]
    colour = colour * patient.gains * np.float32(patient.exposure * rng.uniform(0.9, 1.12) * 1.25)
    colour = colour / (1.0 + 0.22 * colour)  # the sensor's shoulder
    colour = np.clip(colour, 0, None) ** np.float32(patient.gamma)
    colour = colour * (1.0 - shine) + shine

    # Camera: optical blur, black surround, sensor noise.
    colour = ndimage.gaussian_filter(colour, (patient.blur * pixel, patient.blur * pixel, 0))
    edge = ndimage.gaussian_filter(visible.astype(np.float32), 0.6 * pixel)[..., None]
    grain = rng.standard_normal((size, size, 1), np.float32) + 0.5 * rng.standard_normal((size, size, 3), np.float32)
    frame = edge * (colour * 255.0 + grain * np.float32(patient.noise)) + (1.0 - edge) * 3.0
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8), mask
