"""Any mask file -> class index per pixel."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.io.errors import MediaError
from scripts.io.frame_address import split_address
from scripts.io.image_reader import RGBReader, media_metadata
from scripts.io.label_volume import distinct_values, is_volume, open_labels
from scripts.io.mask_colours import is_grey, is_lossy, mask_strength
from scripts.io.picture import load_upright

logger = logging.getLogger(__name__)

THRESHOLD = 127  # 8-bit: above it is lesion
FAINT = 32  # a lossy mask without a value from here on is an empty one with compression noise
UNKNOWN = 255  # class of pixels on which a mask says nothing
UNKNOWN_GREY = 127  # of mined masks: where nobody looks for it, it is background
ValueMap = Mapping[int | str, int]


def read_mask(path: str | PathLike[str], value_map: ValueMap | None = None, unknown: bool = False) -> np.ndarray:
    """Read one mask -> (H, W) uint8 class index, upright; 0 = background.

    Without `value_map` the mask is binary, 1 = lesion:
    1. One channel is made first. Colour: the strongest of R, G, B; a palette by its colours, or by its index when two
       used entries share a colour; alpha is dropped, but is itself the mask when the colour is the same everywhere,
       and a mask whose strongest colour is all transparent (a lesion drawn on nothing) is refused. So is a lossless
       one of several colours (labelme, CVAT: a colour a class), where a person must say which are lesion.
    2. Lossless files with one or two values: the larger, if it is not 0, is lesion ({0, 1}, {0, 160}, {1, 2}, {255}).
    3. More values (resampled or anti-aliased), and lossy files (JPEG, lossy WebP: they ring): above 127 is lesion;
       16-bit files above 127 * 257, unless no value is above 255.
    4. Nothing above the threshold: a lossless file with three or more values probably holds class indices, and is
       refused; a lossy one is empty below 32 (logged), lesion = the larger of exactly two values, and else refused.

    A label volume (NIfTI, NRRD; one frame of it: `labels.nii.gz#3`, the number may be left out where it has one alone)
    holds 0 and at most one other value, which is lesion, over all its frames.

    `value_map` {pixel value: class 0..255} (keys may be strings, as JSON has them) replaces all of this: grey value,
    palette index, 0/255 of a bilevel file, or label. A value that is not in the map is an error.

    `unknown` takes grey UNKNOWN_GREY for class UNKNOWN, in a lossless mask that holds lesion (255) and else only 0.

    Raises MediaError for these, and as load_upright and LabelVolume do.
    """
    file, index = split_address(path)
    if is_volume(file):
        return _read_label(file, index, value_map)
    if value_map is None:
        return binary_mask(load_upright(path), path, unknown)
    return _map_values(_stored_values(load_upright(path), path), value_map, path)


def binary_mask(image: Image.Image, path: str | PathLike[str], unknown: bool = False) -> np.ndarray:
    """What read_mask makes without value_map of a picture that is decoded; path is its file. Raises MediaError."""
    values = mask_strength(image, path)
    if is_lossy(image, path):
        return _binarise_lossy(values, path)
    mask = _binarise_lossless(values, path)
    if unknown and {UNKNOWN_GREY, 255} <= set(distinct_values(values)) <= {0, UNKNOWN_GREY, 255}:
        mask[values == UNKNOWN_GREY] = UNKNOWN
    return mask


def _read_label(path: Path, index: int | None, value_map: ValueMap | None) -> np.ndarray:
    """One frame of a label volume -> (H, W) uint8 class index."""
    volume = open_labels(path)
    if index is None and len(volume) != 1:
        raise MediaError(
            f"{path}: a label volume of {len(volume)} frames for one picture; say which frame: {path.name}#0 to "
            f"#{len(volume) - 1}"
        )
    values = volume.frame(index or 0)
    if value_map is not None:
        return _map_values(values, value_map, path)
    if sum(value != 0 for value in volume.values) > 1:
        raise MediaError(
            f"{path}: the label volume has the values {_some(volume.values)}, expected 0 and one other; say which are "
            'lesion by a value_map such as {"0": 0, "1": 1, "2": 1}'
        )
    return (values != 0).astype(np.uint8)


def _binarise_lossless(values: np.ndarray, path: str | PathLike[str]) -> np.ndarray:
    present = distinct_values(values)
    if len(present) <= 2:
        return (values == present[-1]).astype(np.uint8) if present[-1] != 0 else np.zeros(values.shape, np.uint8)
    threshold = THRESHOLD * 257 if values.dtype != np.uint8 and present[-1] > 255 else THRESHOLD
    if present[-1] <= threshold:
        raise MediaError(
            f"{path}: the mask has {len(present)} values ({_some(present)}), none above {threshold}; if they are class "
            'indices give a value_map such as {"0": 0, "1": 1, "2": 1}, else save the mask with 0 and 255 only'
        )
    return (values > threshold).astype(np.uint8)


def _binarise_lossy(values: np.ndarray, path: str | PathLike[str]) -> np.ndarray:
    top = int(values.max())
    if top <= THRESHOLD and top >= FAINT:
        present = distinct_values(values)
        if len(present) == 2:
            return (values == present[-1]).astype(np.uint8)
        raise MediaError(
            f"{path}: a lossily compressed mask whose largest value is {top}: lesion cannot be told from compression "
            "noise; save the mask as PNG with 0 and 255"
        )
    if 0 < top < FAINT:
        logger.warning("%s: lossily compressed mask without a value above %d: taken as empty", path, top)
    return (values > THRESHOLD).astype(np.uint8)


def _map_values(values: np.ndarray, value_map: ValueMap, path: str | PathLike[str]) -> np.ndarray:
    table = {int(key): int(index) for key, index in value_map.items()}
    if not table or any(index < 0 or index > 255 for index in table.values()):
        raise ValueError(f"value_map {dict(value_map)}: expected {{pixel value: class}} with classes within 0..255")
    present, inverse = np.unique(values, return_inverse=True)
    if (part := present[present != np.round(present)]).size:
        raise MediaError(
            f"{path}: the mask has the value {part[0]:g}; value_map names whole numbers: save the mask with one whole "
            "number a class"
        )
    unknown = [int(value) for value in present if int(value) not in table]
    if unknown:
        raise MediaError(
            f"{path}: the mask has values {_some(unknown)} that value_map {table} does not name; add them, or "
            "save the mask losslessly (PNG)"
        )
    classes = np.array([table[int(value)] for value in present], dtype=np.uint8)
    return classes[inverse.reshape(values.shape)]


def _stored_values(image: Image.Image, path: str | PathLike[str]) -> np.ndarray:
    """Values as the file stores them, (H, W): grey value, palette index, 0/255 for bilevel. Colour is an error."""
    if image.mode == "1":
        image = image.convert("L")
    pixels = np.array(image.convert("LA") if image.mode == "La" else image)
    if pixels.ndim == 2:
        return pixels
    if image.mode in ("LA", "La", "PA"):
        return pixels[..., 0]
    if is_grey(pixels):
        return pixels[..., 0]
    raise MediaError(f"{path}: value_map needs one value a pixel, found a colour mask ({image.mode}); save it as grey")


def _some(values: Sequence[int] | np.ndarray) -> str:
    return ", ".join(map(str, values[:8])) + (f", ... {len(values)} in all" if len(values) > 8 else "")


class MaskReader(RGBReader):
    """Read one mask for LoadImaged -> (H, W) uint8 class index, height first.

    Args:
        value_map: as in read_mask.
        unknown: take pixels on which a mined mask says nothing for class UNKNOWN, not for background.
    """

    def __init__(self, value_map: ValueMap | None = None, unknown: bool = False) -> None:
        self.value_map, self.unknown = value_map, unknown

    def get_data(self, img: Path) -> tuple[np.ndarray, dict]:
        """Decode -> ((H, W) uint8, metadata). Raises MediaError."""
        mask = read_mask(img, self.value_map, self.unknown)
        return mask, media_metadata(mask, channel_dim=float("nan"))  # nan is MONAI's "no channel"
