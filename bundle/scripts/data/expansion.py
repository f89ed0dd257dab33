"""Videos, multi-frame DICOM and volumes among the items -> one item a frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from scripts.data.errors import DatasetError, listing
from scripts.data.layouts import Item
from scripts.io.errors import MediaError
from scripts.io.frame_address import join_address, split_address
from scripts.io.label_volume import is_volume, open_labels
from scripts.io.media import MediaFile, frame_rate_of, media_type, open_media
from scripts.io.picture_geometry import picture_orientation

logger = logging.getLogger(__name__)

FRAMES_PER_SECOND = 2.0  # of a video that are looked at
NEAR_DUPLICATE = 4.0  # grey levels of 0..255
_THUMBNAIL = 16  # pixels, side


def expand_media(
    sections: Mapping[str, Sequence[Item]],
    frames_per_second: float = FRAMES_PER_SECOND,
    near_duplicate: float = NEAR_DUPLICATE,
) -> dict[str, list[Item]]:
    """Replace each file of several frames by items of single frames, {"image": "clip.mp4#12", ...}, all of one group.

    Frames that have a mask ("frame_labels" of the item, {frame: path}; or a "label" that is a volume of as many frames)
    are all taken. Of the others, which are unlabelled, `frames_per_second` of a video and all of a DICOM stack or
    volume are looked at, and those that are near duplicates of one already taken are left out. Files of one frame, and
    files that cannot be opened, pass unchanged: the check of all files reports the latter together.

    Args:
        frames_per_second: how many frames of each second of video are looked at.
        near_duplicate: mean absolute difference of two thumbnails (16 x 16 RGB), in grey levels of 0..255, below which
            two frames count as the same; 0 keeps all.

    Raises:
        DatasetError: a mask for a file of several frames that does not say which; several masks for one picture; frame
            numbers that are not there; a label volume beside masks of single frames, of another number of frames, or of
            a picture that is turned by its EXIF orientation.
        MediaError: a label volume that cannot be read.
        ValueError: numbers that make no sense.
    """
    if frames_per_second <= 0 or near_duplicate < 0:
        raise ValueError(
            f"frames_per_second is {frames_per_second}, near_duplicate {near_duplicate}; expected above 0, and >= 0"
        )
    found: dict[str, list[Item]] = {}
    for name, items in sections.items():
        found[name] = []
        for item in tqdm(items, desc=f"opening videos and DICOM ({name})", delay=2, leave=False):
            found[name] += _expand(item, frames_per_second, near_duplicate)
    return found


def _expand(item: Item, frames_per_second: float, near_duplicate: float) -> list[Item]:
    path, index = split_address(item["image"])
    kind = media_type(path)
    if index is not None or kind is None:
        return [item]
    try:
        media = open_media(path)
        turned = _has_label_volume(item) and kind == "picture" and picture_orientation(path) != 1
    except (MediaError, OSError):
        return [item]
    if _has_label_volume(item):
        item = _spread_labels(item, path, len(media), turned)
    if kind == "picture":
        if masks := item.get("frame_labels"):
            raise DatasetError(
                f"{path} is one picture, and there are several masks for it; make one mask of them, "
                f"{path.stem}.png, or several classes by --value_map:" + listing(sorted(masks.values()))
            )
        return [item]
    labels = {int(number): label for number, label in item.get("frame_labels", {}).items()}
    if missing := sorted(number for number in labels if number >= len(media)):
        raise DatasetError(
            f"{path} has {len(media)} frames (0 to {len(media) - 1}), but there are masks for:"
            + listing([f"frame {number}: {labels[number]}" for number in missing])
        )
    if len(media) == 1 and not labels:
        return [item]
    if "label" in item:
        raise DatasetError(
            f"{item['label']}: a mask for {path}, which has {len(media)} frames; say which frame it belongs to: "
            f'"{path.name}#0" in a datalist, or the mask as {path.stem}/000000.png'
        )
    chosen, doubles, broken = choose_frames(media, _stride(media, frames_per_second), near_duplicate, set(labels))
    logger.log(
        logging.INFO if len(chosen) < len(media) else logging.DEBUG,  # hundreds of volumes, all of each
        "%s: %d of %d frames taken (%d near-duplicates left out, %d do not decode)",
        item["file"],
        len(chosen),
        len(media),
        doubles,
        broken,
    )
    if broken:
        logger.warning("%s: %d frames do not decode and are left out", item["file"], broken)
    return [_frame_item(item, number, labels.get(number)) for number in chosen]


def _has_label_volume(item: Item) -> bool:
    """Whether the item's label is a volume as a whole, not one frame of it."""
    return "label" in item and is_volume(item["label"])


def _spread_labels(item: Item, path: Path, frames: int, turned: bool) -> Item:
    """A label volume of several frames becomes "frame_labels", frame k of it for frame k of the image."""
    label = item["label"]
    if masks := item.get("frame_labels"):
        raise DatasetError(
            f"{label}: a label volume of all frames of {path}, which has masks of single frames too; keep one of both:"
            + listing(sorted(masks.values()))
        )
    if turned:
        raise DatasetError(
            f"{label}: a label volume for {path}, which is turned by its EXIF orientation; programs that make label "
            "volumes show it as stored, so they do not match: save the picture upright (ImageMagick: -auto-orient) and "
            "draw the label again"
        )
    found = len(open_labels(label))
    if found != frames:
        raise DatasetError(
            f"{label} has {found} frames, its image {path} has {frames}; expected as many: save the label of the whole "
            "image, at its size"
        )
    if frames == 1:
        return item
    spread = {number: join_address(label, number) for number in range(frames)}
    return {**{key: value for key, value in item.items() if key != "label"}, "frame_labels": spread}


def choose_frames(
    media: MediaFile, stride: int, near_duplicate: float, always: set[int] = frozenset()
) -> tuple[list[int], int, int]:
    """Frames of a file that differ from each other -> (their numbers, near-duplicates left out, frames not decoded).

    Every `stride`th frame is looked at, and those of `always`, which are taken whatever they look like.
    """
    looked_at = sorted(set(range(0, len(media), stride)) | set(always))
    if always.issuperset(looked_at):
        return looked_at, 0, 0
    chosen: list[int] = []
    kept = np.empty((0, _THUMBNAIL * _THUMBNAIL * 3), dtype=np.int16)
    doubles = broken = 0
    for number, thumbnail in _thumbnails(media, looked_at):
        if thumbnail is None and number not in always:
            broken += 1
            continue
        if thumbnail is not None:
            # Of all frames taken, not only of the last: an endoscope comes back to the same view.
            nearest = np.abs(kept - thumbnail).mean(axis=1).min() if len(kept) else np.inf
            if nearest < near_duplicate and number not in always:
                doubles += 1
                continue
            kept = np.concatenate([kept, thumbnail[None]])
        chosen.append(number)  # A labelled frame that does not decode stays: the check of all files names it.
    return chosen, doubles, broken


def _thumbnails(media: MediaFile, numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.int16] | None]]:
    for number in numbers:
        try:
            picture = Image.fromarray(media.frame(number))
        except (MediaError, OSError):
            yield number, None
            continue
        small = picture.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
        yield number, np.asarray(small, dtype=np.int16).reshape(-1)


def _stride(media: MediaFile, wanted: float) -> int:
    fps = frame_rate_of(media)
    return max(1, round(fps / wanted)) if fps else 1


def _frame_item(item: Item, number: int, label: str | None) -> Item:
    frame = {key: value for key, value in item.items() if key != "frame_labels"}
    frame |= {"image": join_address(item["image"], number), "file": join_address(item["file"], number)}
    return frame if label is None else {**frame, "label": label}
