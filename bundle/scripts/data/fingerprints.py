"""A picture file -> hashes of its bytes and of its pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from scripts.io import provenance
from scripts.io.frame_address import split_address
from scripts.io.image_reader import read_rgb

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
_cache: dict[tuple[str, int, int], Fingerprint] = {}


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of one picture: `sha256` of the file, `pixels` of the upright RGB; and its size in pixels.

    `blank`: all pixels have one colour, as the slices beyond an organ: such pictures are alike wherever they come from.
    """

    sha256: str
    pixels: str
    height: int
    width: int
    blank: bool = False


def fingerprint(path: str) -> Fingerprint:
    """Hash one picture or frame (`clip.mp4#12`); remembered for this process by (path, size, modification time).

    `pixels` is the same for the same picture kept as PNG, BMP or TIFF, with or without metadata, and for a JPEG and the
    PNG made from it. It does not see through a second JPEG compression: near-duplicates are what groups are for.
    Raises MediaError for a file that cannot be decoded completely.
    """
    file, _ = split_address(path)
    stat = os.stat(file) if file.exists() else None
    key = (path, stat.st_size, stat.st_mtime_ns) if stat else None
    if key is not None and key in _cache:
        return _cache[key]
    pixels = read_rgb(path)
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}:".encode())
    digest.update(pixels)
    blank = bool((pixels == pixels[0, 0]).all())
    found = Fingerprint(file_sha256(path), digest.hexdigest(), height, width, blank)
    if key is not None:
        _cache[key] = found
    return found


def file_sha256(path: str) -> str:
    """SHA-256 of a file's bytes, hexadecimal; of a frame (`clip.mp4#12`) that of its file."""
    return provenance.file_sha256(split_address(path)[0])


def map_files(function: Callable[[K], T], paths: Iterable[K], what: str) -> dict[K, T | Exception]:
    """Apply `function` to each distinct path (or pair of paths) in threads (decoding and hashing release the GIL).

    The frames of a file are all one thread's: each thread opens the files that it reads, and a volume opened by all of
    them would be in memory so many times.

    Returns {path: result, or the ValueError or OSError that it raised}, in the order of `paths`.
    A progress bar named `what` appears when it takes longer than two seconds.
    """

    def guarded(path: K) -> T | Exception:
        try:
            return function(path)
        except (ValueError, OSError) as error:
            return error

    distinct = list(dict.fromkeys(paths))
    files: dict[Any, list[K]] = {}
    for path in distinct:
        files.setdefault(split_address(path)[0] if isinstance(path, str) else path, []).append(path)
    found: dict[K, T | Exception] = {}
    bar = tqdm(total=len(distinct), desc=what, delay=2, leave=False)
    with ThreadPoolExecutor(max_workers=min(16, (os.cpu_count() or 1))) as pool, bar:
        for part in pool.map(lambda group: {path: guarded(path) for path in group}, files.values()):
            found.update(part)
            bar.update(len(part))
    return {path: found[path] for path in distinct}
