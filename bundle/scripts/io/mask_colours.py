"""The colours of a mask -> one channel that grows with "is lesion"."""

from __future__ import annotations

from os import PathLike

import numpy as np
from PIL import Image

from scripts.io.errors import MediaError
from scripts.io.label_volume import distinct_values

COLOUR_DISTANCE = 40  # 8-bit RGB: so far from the line between background and lesion a colour is another one
COLOUR_PIXELS = 32  # of one exact colour: fewer are noise of a compression that the mask went through


def mask_strength(image: Image.Image, path: str | PathLike[str]) -> np.ndarray:
    """One channel that grows with "is lesion", (H, W) unsigned; see step 1 of read_mask."""
    if image.mode == "P":
        index = np.array(image)
        used = distinct_values(index)
        palette = palette_colours(image)
        if len(np.unique(palette[used], axis=0)) < len(used):
            return index
        counts = np.bincount(index.ravel(), minlength=256)[used]
        _refuse_several_colours(palette[used], counts, path)
        strength = _colour_strength(palette[index], path)
        _refuse_transparent(strength, _palette_alpha(image)[index], path)
        return strength
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("La", "RGBa", "PA"):
        image = image.convert("RGBA")
    elif image.mode in ("CMYK", "YCbCr", "HSV"):
        image = image.convert("RGB")
    pixels = np.array(image)
    if pixels.dtype.kind == "f" or pixels.min() < 0:
        raise MediaError(f"{path}: mask values {pixels.min()}..{pixels.max()} ({pixels.dtype}); save it as 8-bit PNG")
    if pixels.ndim == 2:
        return pixels
    alpha = pixels[..., -1] if image.mode in ("LA", "RGBA") else None
    colour = pixels if alpha is None else pixels[..., :-1]
    if alpha is not None and alpha.min() != alpha.max() and (colour == colour[0, 0]).all():
        return alpha
    if colour.shape[2] == 3 and not is_grey(colour) and not is_lossy(image, path):
        _refuse_several_colours(*_used_colours(colour), path)
    strength = colour[..., 0] if colour.shape[2] == 1 else _colour_strength(colour, path)
    if alpha is not None:
        _refuse_transparent(strength, alpha, path)
    return strength


def palette_colours(image: Image.Image) -> np.ndarray:
    """Colour of each palette index, (256, 3) uint8; black where the palette ends before."""
    palette = np.zeros((256, 3), np.uint8)
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(stored)] = stored
    return palette


def _palette_alpha(image: Image.Image) -> np.ndarray:
    """Opacity of each palette entry, (256,) uint8; PNG names one transparent entry or the opacity of the first ones."""
    alpha, said = np.full(256, 255, np.uint8), image.info.get("transparency")
    if isinstance(said, int):
        alpha[said] = 0
    elif said:
        alpha[: len(said)] = np.frombuffer(said, np.uint8)
    return alpha


def _refuse_transparent(strength: np.ndarray, alpha: np.ndarray, path: str | PathLike[str]) -> None:
    """What would be lesion must not be what a person sees nothing at: white is a usual colour of no opacity."""
    if alpha.any() and not alpha[strength == strength.max()].any():
        raise MediaError(
            f"{path}: the strongest colour of the mask ({strength.max()}) is transparent everywhere, so that its "
            "background would be lesion; save the mask without transparency, lesion white on black"
        )


def _colour_strength(colour: np.ndarray, path: str | PathLike[str]) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) uint8, the strongest channel. Two colours of one strength are an error: no guess."""
    # pairwise: numpy's max over a last axis of 3 is twenty times slower
    strength = np.maximum(np.maximum(colour[..., 0], colour[..., 1]), colour[..., 2])
    if strength.min() == strength.max() and not (colour == colour[0, 0]).all():
        raise MediaError(
            f"{path}: the mask's colours have the same strength ({strength.max()}), lesion cannot be told from "
            "background; save it with black background and white lesion"
        )
    return strength


def is_grey(pixels: np.ndarray) -> bool:
    """(H, W, 3 or 4): R, G and B are the same everywhere."""
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())


def _used_colours(colour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 -> the colours in it, (N, 3), and how many pixels each has, (N,)."""
    red, green, blue = (colour[..., channel].astype(np.uint32) for channel in range(3))
    codes, counts = np.unique(red << 16 | green << 8 | blue, return_counts=True)
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.uint8), counts


def _refuse_several_colours(colours: np.ndarray, counts: np.ndarray, path: str | PathLike[str]) -> None:
    """Colours (N, 3) of ``counts`` pixels must lie between two, background and lesion, as resampled edges do.

    Raises:
        MediaError: they are of several classes.
    """
    kept = colours[counts >= COLOUR_PIXELS].astype(np.float64)
    if len(kept) < 3:
        return
    strength = kept.max(axis=1)
    background, lesion = kept[strength.argmin()], kept[strength.argmax()]
    direction = (lesion - background) / max(float(np.linalg.norm(lesion - background)), 1.0)
    offset = kept - background
    away = np.linalg.norm(offset - np.outer(offset @ direction, direction), axis=1)
    if (away > COLOUR_DISTANCE).any():
        shown = [tuple(int(value) for value in one) for one in (background, lesion, kept[away.argmax()])]
        raise MediaError(
            f"{path}: the mask has several colours, {', '.join(map(str, shown))} (RGB) among them: which are lesion? "
            "Save it with one colour on black; or, of a mask with a palette (labelme), name its indices by a "
            'value_map such as {"0": 0, "1": 1, "2": 1}'
        )


def is_lossy(image: Image.Image, path: str | PathLike[str]) -> bool:
    """Whether the file's compression changes values (JPEG, lossy WebP, JPEG 2000)."""
    if image.format == "WEBP":
        with open(path, "rb") as stream:
            return b"VP8L" not in stream.read(4096)  # the chunk name of lossless WebP
    return image.format in ("JPEG", "MPO", "JPEG2000")
