"""Image embeddings kept on disk under a bound, so that a picture goes through a large encoder once."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from scripts.io.atomic import PARTIAL, replacing
from scripts.pseudo_labels.promptable import SegmenterError

logger = logging.getLogger(__name__)

# Only files of this ending are ever deleted: the folder may be one that holds other .safetensors files.
ENDING = ".embedding.safetensors"
_CHECKSUM = "sha256"
_KEY = re.compile(r"[0-9a-f]{8,}")


class EmbeddingCache:
    """Tensors under keys, one safetensors file a key; the least recently used files go when the folder is full.

    Several processes may share a folder. Whatever happens to the folder later, results do not depend on it: what
    cannot be read is computed again, what cannot be written is not kept.
    """

    def __init__(self, folder: str | Path, max_gb: float = 4.0) -> None:
        """Make the folder.

        Args:
            folder: for the files of this cache; made with its parents.
            max_gb: bound of all files together, in GiB.

        Raises:
            SegmenterError: the folder cannot be made, or the bound is not a number above 0.
        """
        if not (math.isfinite(max_gb) and max_gb > 0):
            raise SegmenterError(
                f"bound of the embedding cache: {max_gb!r} GiB; expected a number above 0 (an empty cache folder "
                "switches the cache off)."
            )
        self.folder = Path(folder).expanduser()
        self.max_bytes = int(max_gb * 2**30)
        self._said: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SegmenterError(
                f"{self.folder}: this folder for embeddings cannot be made ({error.strerror or error}); give another "
                "one, move away the file that stands in its place, or give an empty one to go without a cache."
            ) from error

    def get(self, key: str) -> list[Tensor] | None:
        """The tensors put under a key, on the CPU, or None; a file that is damaged is deleted.

        Args:
            key: 8 or more hexadecimal digits, lower case.

        Raises:
            SegmenterError: another key.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_once("read", f"{path}: cannot be read ({error.strerror or error}); computed again")
            return None
        try:
            tensors = load(data)
            checksum = bytes(tensors.pop(_CHECKSUM).tolist())
            # The format notices a file that is cut off, but not one whose numbers were changed.
            if checksum != tensors_sha256(tensors):
                raise ValueError("its checksum does not fit")
        except Exception as error:  # safetensors raises several kinds, and a damaged header can hold anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            logger.warning("%s: damaged embeddings (%s); deleted, they are computed again", path, reason)
            self._remove(path)
            return None
        try:
            _touch(path)
        except OSError:
            pass  # a folder that may only be read, or another process that has just deleted the file
        return [tensors[name] for name in sorted(tensors)]

    def put(self, key: str, tensors: Sequence[Tensor]) -> None:
        """Keep tensors under a key, in place of what was there; nothing is kept where that is not possible.

        Args:
            key: 8 or more hexadecimal digits, lower case.
            tensors: any shapes, types and devices.

        Raises:
            SegmenterError: another key.
        """
        path = self._path(key)
        named = {
            f"{number:04d}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for number, tensor in enumerate(tensors)
        }
        data = save(named | {_CHECKSUM: torch.tensor(list(tensors_sha256(named)), dtype=torch.uint8)})
        if len(data) > self.max_bytes:
            self._warn_once(
                "large",
                f"embeddings of {len(data) / 2**30:.3g} GiB are larger than the whole cache {self.folder}, "
                f"{self.max_bytes / 2**30:.3g} GiB; they are not kept: raise its bound",
            )
            return
        try:
            self._make_room(len(data))
            with replacing(path) as temporary:
                temporary.write_bytes(data)
                _touch(temporary)
        except OSError as error:
            self._warn_once(
                "write",
                f"{path}: cannot be written ({error.strerror or error}); going on without keeping embeddings: make "
                "room on the disk, or make the folder writable",
            )

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise SegmenterError(f"key of embeddings {key!r}: expected 8 or more hexadecimal digits in lower case.")
        return self.folder / f"{key}{ENDING}"

    def _make_room(self, size: int) -> None:
        """Delete the least recently used files until ``size`` bytes fit under the bound."""
        stem, suffix = ENDING.rsplit(".", 1)
        files = []
        # What a killed process left half written counts too; files that are being written are the newest ones.
        for pattern in (f"*{ENDING}", f"{PARTIAL}*{stem}-*.{suffix}"):
            for path in self.folder.glob(pattern):
                try:
                    status = path.stat()
                except OSError:
                    continue  # another process was faster
                files.append((status.st_mtime_ns, path.name, status.st_size, path))
        total = sum(entry[2] for entry in files)
        for _, _, bytes_of_file, path in sorted(files):
            if total + size <= self.max_bytes:
                return
            if self._remove(path):
                total -= bytes_of_file

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn_once("remove", f"{path}: cannot be deleted ({error.strerror or error}); delete it by hand")
            return False
        return True

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            logger.warning(message)


def _touch(path: Path) -> None:
    """Mark a file as used now, in nanoseconds: files written within one tick of the kernel's clock keep their order."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 of tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
