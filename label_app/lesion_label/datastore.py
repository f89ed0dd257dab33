"""MONAI Label's folder datastore with its holes closed: ids stay inside the folder, nothing is half written."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException

from lesion_label.label_check import refuse_unreadable
from scripts.data.groups import read_groups
from scripts.io.atomic import write_text
from scripts.io.errors import DICOM_SUFFIXES, VOLUME_SUFFIXES
from scripts.io.mask_reader import ValueMap
from scripts.io.picture import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

_ID = re.compile(r"[^/\\\x00-\x1f]{1,200}")
FINAL = DefaultLabelTag.FINAL.value  # the tag of what a person has submitted
INCOMING = ".incoming"  # files on their way to their final name
_TAG = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_BOTH_CASES = [text for suffix in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES) for text in (suffix, suffix.upper())]
#: files that MONAI Label lists as images or labels; the longer of two endings first, so that it wins
EXTENSIONS = [f"*{suffix}" for suffix in sorted({*_BOTH_CASES, ".nii.gz", *VOLUME_SUFFIXES}, key=len, reverse=True)]


class InvalidIdError(MONAILabelException):
    """An id or tag that is no plain name."""

    def __init__(self, message: str) -> None:
        super().__init__(MONAILabelError.INVALID_INPUT, message)


def check_id(value: str, kind: str = "image id") -> str:
    """Return an id that is a plain file name. Raises InvalidIdError: path separators, "..", control characters."""
    if not _ID.fullmatch(value) or value.strip(". ") == "" or value.startswith("."):
        raise InvalidIdError(f"{kind} {value[:80]!r}: expected a plain name without '/', '\\' or a dot in front")
    return value


def check_tag(value: str) -> str:
    """Return a label tag of letters, digits, '_' and '-'. Raises InvalidIdError."""
    if not _TAG.fullmatch(value):
        raise InvalidIdError(f"label tag {value[:80]!r}: expected letters, digits, '_' and '-'")
    return value


class SafeWrites:
    """Mixin for LocalDatastore and its children: checked ids, files renamed into place, a broken index rebuilt.

    The index (datastore_v2.json) is written by open-and-write in MONAI Label 0.8.5: a kill in between leaves half a
    file, with which the server does not start again. Here it is renamed into place; an index that is broken all the
    same is set aside and rebuilt from the files, in which all images and labels are.

    Several processes (the server, scoring, training) share the index: each change is made to what is on disk at that
    moment, under the lock, and the server is told of files that others rename into place.
    """

    _write_lock = threading.RLock()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self._auto_reload:
            self._handler.on_moved = self._on_moved_event  # 0.8.5 hears of files that are created or deleted alone

    @cached_property
    def _index_lock(self) -> FileLock:
        return FileLock(self._lock_file)

    @contextmanager
    def _index(self) -> Iterator[None]:
        """The index as it is on disk, which no other thread or process changes meanwhile."""
        with self._write_lock, self._index_lock:
            self._init_from_datastore_file()
            yield

    def _on_moved_event(self, event: Any) -> None:
        if Path(event.dest_path) == Path(self._datastore_config_path):
            self._init_from_datastore_file()
        else:
            self.refresh()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        with self._write_lock, self._index_lock:
            state = self._index_state()
            if state in (None, self._config_ts):
                return
            self._read_index(throw_exception)
            self._config_ts = state

    def _index_state(self) -> tuple[int, ...] | None:
        """What differs between two files of the index; None where there is none."""
        try:
            stat = os.stat(self._datastore_config_path)
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _read_index(self, throw_exception: bool) -> None:
        try:
            found = LocalDatastoreModel.model_validate_json(Path(self._datastore_config_path).read_bytes())
            found.base_path = self._datastore_path
            self._datastore = found
        except ValueError as error:
            path = Path(self._datastore_config_path)
            if not throw_exception:
                logger.error("%s cannot be read: %s", path.name, str(error).splitlines()[0])
                return
            aside = path.with_name(f"{path.name}.broken")
            os.replace(path, aside)
            logger.warning("%s was broken: set aside as %s and rebuilt from the files", path.name, aside.name)

    def _update_datastore_file(self, lock: bool = True) -> None:
        with self._write_lock, self._index_lock:
            content = self._datastore.model_dump(exclude={"base_path"})
            write_text(self._datastore_config_path, json.dumps(content, indent=2, default=str))
            self._config_ts = self._index_state()

    def _to_id(self, file: str) -> tuple[str, str]:
        for pattern in self._extensions:
            suffix = pattern.removeprefix("*")
            if file.endswith(suffix):  # 0.8.5 removes every occurrence of the suffix from the name
                return file[: -len(suffix)], suffix
        return super()._to_id(file)

    def _reconcile_datastore(self) -> None:
        """Bring the index in line with the files; called by the watching thread too, so put in place as a whole."""
        with self._index():
            known, model = self._datastore.objects, self._datastore
            pictures = Path(model.image_path())
            folders = [path for path in Path(model.label_path(None)).iterdir() if path.is_dir()]
            objects = {
                name: ImageLabelModel(image=entry.image, labels=self._labels_on_disk(name, entry.labels))
                for name, entry in known.items()
                if not name.startswith(".") and (pictures / f"{name}{entry.image.ext}").exists()
            }
            for name, found in self._on_disk(pictures).items():
                objects.setdefault(name, ImageLabelModel(image=found))
            for folder in folders:
                for name, found in self._on_disk(folder).items():
                    if name in objects:
                        objects[name].labels.setdefault(folder.name, found)
            if objects != known:
                self._datastore = model.model_copy(update={"objects": objects})
                self._update_datastore_file()

    def _labels_on_disk(self, image: str, labels: dict[str, DataModel]) -> dict[str, DataModel]:
        folders = {tag: Path(self._datastore.label_path(tag)) for tag in labels}
        return {tag: label for tag, label in labels.items() if (folders[tag] / f"{image}{label.ext}").exists()}

    def _on_disk(self, folder: Path) -> dict[str, DataModel]:
        """What a folder holds, by id, as the index has it when nobody has told more."""
        found = {}
        for file in self._list_files(folder, self._extensions):
            name, suffix = self._to_id(file)
            found.setdefault(name, DataModel(info={"ts": int(time.time()), "name": file}, ext=suffix))
        return found

    def _list_files(self, path: str | Path, patterns: Sequence[str]) -> dict[str, str]:
        found = super()._list_files(path, patterns)  # macOS puts a ._name.png beside each name.png on other disks
        return {name: file for name, file in found.items() if not name.startswith(".")}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        with self._index():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        with self._index():
            super().update_label_info(label_id, label_tag, info)

    def id_of(self, filename: str) -> str:
        """The id that a picture gets which is uploaded without one: its name without the suffix."""
        return self._to_id(os.path.basename(filename))[0]

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        found, suffix = self._to_id(os.path.basename(image_filename))
        image_id = check_id(image_id or found)
        self._check_suffix(image_filename)
        target = Path(self._datastore.image_path()) / f"{image_id}{suffix}"
        with self._index():
            known = self._datastore.objects.get(image_id)
            if known is not None and known.image.ext != suffix:
                raise InvalidIdError(
                    f"image {image_id}: there is already {image_id}{known.image.ext}; give the {suffix} file another id"
                )
            if known is not None and target.exists() and not filecmp.cmp(image_filename, target, shallow=False):
                raise InvalidIdError(  # or its label would be one of another picture
                    f"image {image_id}: there is already another {target.name}; give this one another id (image=...), "
                    "or delete that one first"
                )
            self._place(image_filename, target)
            info = {**(image_info or {}), "ts": int(time.time()), "name": f"{image_id}{suffix}"}
            labels = {} if known is None else known.labels
            entry = ImageLabelModel(image=DataModel(info=info, ext=suffix), labels=labels)
            self._datastore.objects[image_id] = entry
            self._update_datastore_file()
        return image_id

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        check_id(image_id)
        check_tag(label_tag)
        self._check_suffix(label_filename)
        _, suffix = self._to_id(os.path.basename(label_filename))
        folder = Path(self._datastore.label_path(label_tag))
        with self._index():
            if image_id not in self._datastore.objects:
                raise ImageNotFoundException(f"image {image_id} is not in the datastore; add it before its label")
            self._place(label_filename, folder / f"{image_id}{suffix}")
            for old in folder.iterdir():  # the label that it replaces, if that had another format
                if self._to_id(old.name)[0] == image_id and old.name != f"{image_id}{suffix}":
                    old.unlink()
            info = {**(label_info or {}), "ts": int(time.time()), "name": f"{image_id}{suffix}"}
            self._datastore.objects[image_id].labels[label_tag] = DataModel(info=info, ext=suffix)
            self._update_datastore_file()
        return image_id

    def _place(self, source: str, target: Path) -> None:
        """Copy a file to its final name whole or not at all; the folder between is one that nobody lists."""
        target.parent.mkdir(parents=True, exist_ok=True)
        between = Path(self._datastore_path) / INCOMING / f"{uuid.uuid4().hex}"
        between.parent.mkdir(exist_ok=True)
        try:
            with open(source, "rb") as reader, between.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())
            os.replace(between, target)
        finally:
            between.unlink(missing_ok=True)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        check_id(label_id, "label id")
        check_tag(label_tag)
        super().remove_label(label_id, label_tag)
        self.refresh()

    def remove_image(self, image_id: str) -> None:
        check_id(image_id)
        super().remove_image(image_id)
        self.refresh()

    def _check_suffix(self, filename: str) -> None:
        known = [pattern.removeprefix("*") for pattern in self._extensions]
        if not any(filename.endswith(suffix) for suffix in known):
            found = "".join(Path(filename).suffixes) or "no ending"
            raise InvalidIdError(f"a file with {found!r}: expected one of {' '.join(sorted(known))}")


class LesionDatastore(SafeWrites, LocalDatastore):
    """A folder of pictures, DICOM files and RGB volumes; labels/final and labels/original hold masks."""

    def __init__(
        self,
        studies: str,
        extensions: Sequence[str] = EXTENSIONS,
        auto_reload: bool = True,
        value_map: ValueMap | None = None,
    ) -> None:
        super().__init__(studies, extensions=list(extensions), auto_reload=auto_reload)
        self.value_map = value_map

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label; a final one that training could not read would stop every round of everybody: it is refused.

        Raises:
            MONAILabelException: wrong names, a final label that does not fit its image. ImageNotFoundException.
        """
        check_id(image_id)
        self._check_suffix(label_filename)
        with self._index():
            known = self._datastore.objects.get(image_id)
        if check_tag(label_tag) == FINAL and known is not None:
            image = Path(self._datastore.image_path()) / f"{image_id}{known.image.ext}"
            refuse_unreadable(Path(label_filename), image, image_id, self.value_map)
        return super().save_label(image_id, label_filename, label_tag, label_info)

    def groups(self) -> dict[str, str]:
        """{image id: video or patient} by groups.csv in the folder; {} without one. Raises DatasetError."""
        table = Path(self._datastore_path) / "groups.csv"
        return read_groups(table, self.list_images(), ".") if table.is_file() else {}
