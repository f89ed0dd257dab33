"""A folder of anything -> the frames to run inference on."""

from __future__ import annotations

import bisect
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from tqdm import tqdm

from scripts.data.earlier_outputs import output_files, output_folders
from scripts.data.errors import DatasetError
from scripts.data.files import NO_DATA, log_ignored, walk_once
from scripts.data.layouts import Item
from scripts.data.mask_folders import mask_folders
from scripts.io.errors import DICOM_SUFFIXES, HEIF_SUFFIXES, VIDEO_SUFFIXES, VOLUME_SUFFIXES, MediaError
from scripts.io.frame_address import join_address
from scripts.io.media import MovingFile, media_type, open_media
from scripts.io.picture import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

_TABLES = (".csv", ".json", ".txt", ".md", ".html")
_KNOWN = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *DICOM_SUFFIXES, *VOLUME_SUFFIXES))


@dataclass(frozen=True)
class Source:
    """One file and which of its frames are wanted; None = the file as a whole is one frame (or cannot be opened)."""

    path: str
    file: str  # relative to the input folder, posix
    kind: str  # "picture", "volume", "DICOM", "video" or "DICOM video" (an encapsulated video, or frames with a rate)
    frames: range | None = None
    error: str = ""  # why none of its frames is wanted: it is one item, which fails with this

    def __len__(self) -> int:
        return 1 if self.frames is None else len(self.frames)

    def item(self, number: int) -> Item:
        """The frame `number` of those wanted -> {"image": address, "file", "source", "kind", "frame"}, and "error"."""
        shared = {"source": self.file, "kind": self.kind}
        if self.error:  # FrameDataset keeps the error of an item whose picture can be read
            return {"image": join_address(self.path, 0), "file": self.file, "frame": 0, "error": self.error, **shared}
        if self.frames is None:
            return {"image": self.path, "file": self.file, "frame": 0, **shared}
        index = self.frames[number]
        return {
            "image": join_address(self.path, index),
            "file": join_address(self.file, index),
            "frame": index,
            **shared,
        }


class FrameList(Sequence[Item]):
    """The frames of many files one after the other, each item made when asked for.

    An hour of video is a hundred thousand frames: as a list of items it would fill the memory that it is meant to save.

    Attributes:
        sources: the files whose frames these are. files: names of all files that were listed, other shards' too.
    """

    def __init__(self, sources: Sequence[Source], files: Sequence[str] | None = None) -> None:
        self.sources = tuple(sources)
        self.files = [source.file for source in sources] if files is None else list(files)
        self._ends = list(accumulate(len(source) for source in self.sources))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Item:  # type: ignore[override]
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        which = bisect.bisect_right(self._ends, index)
        return self.sources[which].item(index - (self._ends[which - 1] if which else 0))

    def shard(self, number: int, count: int) -> FrameList:
        """Part `number` (from 0) of `count`: whole files, in their order, about as many frames in each part.

        Raises:
            ValueError: no such part, or more parts than files.
        """
        if not 0 <= number < count:
            raise ValueError(f"shard is {number} of {count}; expected 0 to {count - 1}")
        if count > max(1, len(self.sources)):
            raise ValueError(f"{count} shards of {len(self.sources)} files; expected at most as many shards as files")
        frames, owner = [0] * count, {}
        for index in sorted(range(len(self.sources)), key=lambda index: -len(self.sources[index])):
            owner[index] = min(range(count), key=frames.__getitem__)  # the longest file left to the emptiest part
            frames[owner[index]] += len(self.sources[index])
        return FrameList([source for index, source in enumerate(self.sources) if owner[index] == number], self.files)


def list_frames(
    dataset_dir: str | os.PathLike[str],
    stride: int = 1,
    start_s: float = 0.0,
    end_s: float | None = None,
    shard: int = 0,
    shards: int = 1,
    leave_out: str | os.PathLike[str] | None = None,
) -> FrameList:
    """Every frame of every picture, video, DICOM file and volume of a folder and its sub-folders, or of one file.

    Sorted by file, then by frame. A file that cannot be opened, or of which no frame lies in the time window, stays in
    as one frame: it is reported when it is read, never passed over in silence. Links are followed. Hidden files, tables
    and notes are left out, as is labels/ of a MONAI Label studies folder; other files are left out and logged.

    Args:
        stride: every how manieth frame of a video is taken.
        start_s, end_s: part of each video, seconds from its first frame; None = to its end.
        shard, shards: which part of the files, see FrameList.shard.
        leave_out: a folder inside, where the outputs go. Outputs of an earlier run are no frames there, nor elsewhere
            beside its tables.

    Raises:
        DatasetError: nothing given, missing folder, or nothing to read in it.
        ValueError: a stride, time window or shard that makes no sense.
    """
    check_window(stride, start_s, end_s)
    if not dataset_dir:
        raise DatasetError("dataset_dir is empty; give a folder of frames, videos or DICOM: --dataset_dir /path/to/it")
    root = Path(os.path.abspath(os.path.expanduser(dataset_dir)))
    if not root.exists():
        raise DatasetError(f"dataset_dir {root} does not exist; give a folder of frames, videos or DICOM, or one file")
    found = [root] if root.is_file() else sorted(_files(root, leave_out))
    # A photograph that cannot be read is reported as such when it is its turn.
    kinds = {path: "picture" if path.suffix.lower() in HEIF_SUFFIXES else media_type(path) for path in found}
    if root.is_file() and kinds[root] is None:
        kinds[root] = "picture"  # It was named: its reader says what is wrong with it.
    wanted = [path for path in found if kinds[path] is not None]
    left = [path for path in found if kinds[path] is None and path.name not in NO_DATA]
    log_ignored(root, [str(path) for path in left if path.suffix.lower() not in _TABLES])
    if not wanted:
        raise DatasetError(f"{root} holds no picture, video or DICOM file ({_KNOWN}); check --dataset_dir")
    base = root.parent if root.is_file() else root
    sources = [
        _source(path, path.relative_to(base).as_posix(), str(kinds[path]), (stride, start_s, end_s))
        for path in tqdm(wanted, desc="listing files", delay=2, leave=False)
    ]
    return FrameList(sources).shard(shard, shards)


def check_window(stride: int, start_s: float, end_s: float | None) -> None:
    """Raise ValueError for a stride below 1 or a time window that is empty."""
    if isinstance(stride, bool) or int(stride) != stride or stride < 1:
        raise ValueError(f"stride is {stride}; expected a whole number from 1 on (1 = every frame of a video)")
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise ValueError(f"start_s is {start_s}, end_s {end_s}; expected seconds with 0 <= start_s < end_s")


def _files(root: Path, leave_out: str | os.PathLike[str] | None) -> Iterator[Path]:
    outputs = None if leave_out is None else Path(leave_out).resolve()
    for directory, names, files in walk_once(root):
        if outputs is not None and Path(directory).resolve() == outputs and outputs != root.resolve():
            logger.info("%s: the outputs go there, so it is left out", directory)
            names.clear()
            continue
        # Masks are no pictures to look for lesions in.
        masks = mask_folders(Path(directory))
        for name in masks:
            logger.info("%s: %s/ holds masks and is left out", directory, name)
        made = [*(name for name in output_folders(Path(directory)) if name not in masks), *output_files(files)]
        for name in made:
            logger.info("%s: %s is of an earlier run and is left out", directory, name)
        names[:] = [name for name in names if not name.startswith(".") and name not in (*masks, *made)]
        paths = (Path(directory, name) for name in files if not name.startswith(".") and name not in made)
        yield from (path for path in paths if path.is_file() or path.is_symlink())  # a broken link is reported


def _source(path: Path, file: str, kind: str, window: tuple[int, float, float | None]) -> Source:
    if kind == "picture":
        return Source(str(path), file, kind)
    try:
        media = open_media(path)
    except MediaError:
        return Source(str(path), file, kind)
    if len(media) == 1 and kind != "video":
        return Source(str(path), file, kind)
    if kind == "volume" or media.time(0) is None:
        return Source(str(path), file, kind, range(len(media)))
    moving = kind if kind == "video" else f"{kind} video"
    frames = frames_within(media, *window)
    return Source(str(path), file, moving, frames or None, "" if frames else _outside(path, media, *window[1:]))


def _outside(path: Path, media: MovingFile, start_s: float, end_s: float | None) -> str:
    """Why a clip has no frame in the time window."""
    window = f"start_s {start_s:g} and " + ("the end" if end_s is None else f"end_s {end_s:g}")
    return (
        f"{path}: no frame between {window} (seconds); its {len(media)} frames are shown at 0 to "
        f"{media.time(len(media) - 1):.2f} s: give another window, or take the clip out"
    )


def frames_within(media: MovingFile, stride: int, start_s: float, end_s: float | None) -> range:
    """Every `stride`th frame shown at start_s <= time < end_s, seconds from the first frame (None: to the end)."""

    def first_at(seconds: float) -> int:
        return bisect.bisect_left(range(len(media)), seconds, key=media.time)

    return range(first_at(start_s), len(media) if end_s is None else first_at(end_s), stride)
