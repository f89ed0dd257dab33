"""The studies of a DICOMweb server as MONAI Label's datastore: pictures come from there, labels go there as DICOM SEG.

An image is a series, its id the Series Instance UID. Pictures and labels are kept in a folder, which is laid out like
any other studies folder of MONAI Label, so that training reads it.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore
from monailabel.interfaces.exception import LabelNotFoundException, MONAILabelError, MONAILabelException
from numpy.typing import NDArray
from pydicom import Dataset

from lesion_label.archive import Archive, StoredLabel, check_uid
from lesion_label.datastore import FINAL, SafeWrites, check_tag
from lesion_label.dicom_seg import make_seg
from lesion_label.dicom_seg_reader import read_seg
from lesion_label.label_volume import read_label
from lesion_label.series import Series, read_series
from scripts.io.atomic import write_text
from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

_SEG = "SeriesInstanceUID"  # in a label's info: its SEG on the server; "" = kept here alone
_SENT = "seg_sent"  # in a label's info: when that was, seconds since 1970
_KNOWN = "known_segs"  # in a label's info: SEG that were on the server when it was saved
_INDEXING_SECONDS = 60  # that a server may take to list a SEG that it has accepted
_SUFFIX = ".nii.gz"
_FILTER = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER"
_ATTEMPTS, _WAIT_MS = 3, 250  # of each request; the wait doubles


class LesionDICOMWebDatastore(SafeWrites, DICOMWebDatastore):
    """Series of a DICOMweb server; labels are stored there as SEG, labels without lesion are kept in the folder alone.

    Lists are asked for each time: a label that was saved, here or by another program, counts at once. A SEG counts as a
    label if its algorithm type is SEMIAUTOMATIC or MANUAL, and the newest one counts.
    """

    def __init__(self, client: Any, search_filter: dict[str, Any] | None = None, cache_path: str | None = None) -> None:
        self._archive = Archive(client, search_filter)
        self._fetch_lock = threading.RLock()
        super().__init__(client, search_filter or {}, cache_path, fetch_by_frame=False, convert_to_nifti=True)

    # What there is

    def list_images(self) -> list[str]:
        return list(self._archive.pictures())

    def groups(self) -> dict[str, str]:
        """{series: patient}, as the server has them now: groups.csv in the folder is of the last training."""
        return {uid: series.group for uid, series in self._archive.pictures().items()}

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        labelled = self._labelled()
        return [image for image in self.list_images() if image in labelled]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        labelled = self._labelled()
        return [image for image in self.list_images() if image not in labelled]

    def _labelled(self) -> set[str]:
        remote = self._archive.labels()
        return set(remote) | {image for image in self._datastore.objects if self._is_current(image, remote)}

    def _is_current(self, image: str, remote: dict[str, list[StoredLabel]]) -> bool:
        """Whether the label in the folder is the one that counts."""
        label = self._datastore.label(image, FINAL)
        if label is None:
            return False
        own, uids = label.info.get(_SEG, ""), {stored.uid for stored in remote.get(image, [])}
        if own and own not in uids:  # deleted on the server, or not listed there yet
            return time.time() - label.info.get(_SENT, 0) < _INDEXING_SECONDS
        return uids <= {own, *label.info.get(_KNOWN, ())}

    # Pictures

    def get_image_uri(self, image_id: str) -> str:
        """Path of the series as a NIfTI volume, fetched when it is not in the folder. Raises MediaError."""
        path = self._volume(image_id)
        with self._fetch_lock:
            if not path.is_file() or image_id not in self._datastore.objects:
                series = self._series(image_id)
                found = self._archive.find(image_id)
                info = {_SEG: image_id, "StudyInstanceUID": found.study_uid, "Modality": found.modality}
                self._add(image_id, series.read(), {**info, "group": found.group})
        return str(path)

    def _volume(self, image_id: str) -> Path:
        return Path(os.path.realpath(self._datastore.image_path())) / f"{check_uid(image_id)}{_SUFFIX}"

    def _series(self, image_id: str) -> Series:
        """Headers of a series, whose files are fetched when they are not in the folder."""
        folder = Path(os.path.realpath(self._datastore.image_path())) / check_uid(image_id)
        with self._fetch_lock:
            if not folder.is_dir():
                self._archive.fetch(self._archive.find(image_id).study_uid, image_id, folder)
        return read_series(folder)

    def _add(self, image_id: str, volume: SimpleITK.Image, info: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="volume-") as folder:
            path = os.path.join(folder, f"{image_id}{_SUFFIX}")
            SimpleITK.WriteImage(volume, path, useCompression=True)
            super().add_image(image_id, path, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        raise _refused("pictures are not uploaded here: store them on the DICOM server, they are listed then")

    def remove_image(self, image_id: str) -> None:
        raise _refused(f"series {check_uid(image_id)} is on the DICOM server; delete it there, it is not listed then")

    # Labels

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """Path of a label as a NIfTI volume of its picture's shape; empty when there is none."""
        check_tag(label_tag)
        image = check_uid(image_id or label_id, "label id")
        if label_tag == FINAL:
            self._bring(image, self._archive.labels())
        label = self._datastore.label(image, label_tag)
        folder = os.path.realpath(self._datastore.label_path(label_tag))
        return os.path.join(folder, f"{image}{label.ext}") if label else ""

    def _bring(self, image: str, remote: dict[str, list[StoredLabel]]) -> None:
        """Make the folder's label the one that counts: keep it, fetch the newest SEG, or drop it."""
        if self._is_current(image, remote):
            return
        if image in remote:
            newest = remote[image][-1]
            self.get_image_uri(image)
            seg = self._archive.retrieve(newest.study_uid, newest.uid)[0]
            mask = read_seg(seg, self._series(image))
            self._keep(image, mask, FINAL, {_SEG: newest.uid, _KNOWN: [stored.uid for stored in remote[image]]})
        elif self._datastore.label(image, FINAL):
            logger.info("The label of series %s is no longer on the server: dropped here", image)
            self._drop(image, FINAL)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any], label_id: str = ""
    ) -> str:
        """Keep a label; one with the tag "final" is stored on the server as SEG first.

        `label_info` may hold "algorithm_type", SEMIAUTOMATIC (default) or MANUAL, and "finding", lesion (default),
        polyp or hemorrhage, for the SEG. A label without lesion is kept in the folder alone: a SEG must have a segment.

        Raises:
            MediaError: the label does not fit the series, or the series has no geometry.
            MONAILabelException: the server did not take it.
        """
        check_tag(label_tag)
        self.get_image_uri(image_id)
        series = self._series(image_id)
        mask = read_label(Path(label_filename), series, f"label of series {image_id}")
        info = {key: value for key, value in (label_info or {}).items() if key not in (_SEG, _SENT, _KNOWN)}
        if label_tag == FINAL:
            info[_KNOWN] = [stored.uid for stored in self._archive.labels().get(image_id, [])]
            info[_SEG], info[_SENT] = self._store(series, mask, info), time.time()
        return self._keep(image_id, mask, label_tag, info)

    def _store(self, series: Series, mask: NDArray[np.uint8], info: dict[str, Any]) -> str:
        """Write and send a SEG -> its Series Instance UID; "" for a label without lesion."""
        if not mask.any():
            logger.info("The label of series %s has no lesion: kept here, no SEG is stored", series.uid)
            return ""
        algorithm, finding = info.get("algorithm_type", "SEMIAUTOMATIC"), info.get("finding", "lesion")
        if algorithm not in ("SEMIAUTOMATIC", "MANUAL"):
            raise _refused(f"algorithm_type {algorithm!r}: a label is SEMIAUTOMATIC or MANUAL; a proposal is no label")
        try:
            seg: Dataset = make_seg(series, mask, finding, algorithm)
        except ValueError as error:
            if isinstance(error, MediaError):
                raise
            raise _refused(str(error)) from error
        self._archive.store(seg)
        return str(seg.SeriesInstanceUID)

    def _keep(self, image_id: str, mask: NDArray[np.uint8], tag: str, info: dict[str, Any]) -> str:
        volume = self._series(image_id).place(SimpleITK.GetImageFromArray(mask))
        with tempfile.TemporaryDirectory(prefix="label-") as folder:
            path = os.path.join(folder, f"{image_id}{_SUFFIX}")
            SimpleITK.WriteImage(volume, path, useCompression=True)
            return super().save_label(image_id, path, tag, info)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        check_uid(label_id, "label id")
        if label_tag == FINAL and label_id in self._archive.labels():
            raise _refused(f"the label of series {label_id} is a SEG on the DICOM server; delete it there")
        self._drop(label_id, check_tag(label_tag))

    def _drop(self, image: str, tag: str) -> None:
        """Remove a label from the folder."""
        with self._index():
            label = self._datastore.label(image, tag)
            if label is None:
                raise LabelNotFoundException(f"series {image} has no label with the tag {tag}")
            Path(self._datastore.label_path(tag), f"{image}{label.ext}").unlink(missing_ok=True)
            del self._datastore.objects[image].labels[tag]
            self._update_datastore_file()

    # Training

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Fetch labelled pictures and their labels -> [{"image", "label"}], paths; write groups.csv of patients.

        A series that cannot be read is left out and logged. Pictures that are no longer listed leave the folder, unless
        their label is kept here alone.
        """
        pictures, remote = self._archive.pictures(), self._archive.labels()
        for image in list(self._datastore.objects):
            label = self._datastore.label(image, FINAL)
            if image not in pictures and not (label and not label.info.get(_SEG, "")):
                logger.info("Series %s is no longer listed: it leaves the folder", image)
                self._forget(image)
        found = []
        for image in pictures:
            if image not in remote and self._datastore.label(image, FINAL) is None:
                continue
            try:
                self._bring(image, remote)
                picture = self.get_image_uri(image)
            except (MediaError, MONAILabelException) as error:
                logger.warning("left out: %s", getattr(error, "msg", None) or error)
                continue
            if label := self._datastore.label(image, FINAL):
                folder = os.path.realpath(self._datastore.label_path(FINAL))
                found.append({"image": picture, "label": os.path.join(folder, f"{image}{label.ext}")})
        self._write_groups({image: series.group for image, series in pictures.items()})
        if not full_path:
            root = os.path.realpath(self._datastore_path)
            found = [{key: os.path.relpath(path, root) for key, path in item.items()} for item in found]
        return found

    def _forget(self, image: str) -> None:
        with self._index():
            for tag in self.get_labels_by_image_id(image):
                self._drop(image, tag)
            self._volume(image).unlink(missing_ok=True)
            shutil.rmtree(self._volume(image).with_name(image), ignore_errors=True)
            self._datastore.objects.pop(image, None)
            self._update_datastore_file()

    def _write_groups(self, groups: dict[str, str]) -> None:
        text = io.StringIO()
        rows = [(f"{image}{_SUFFIX}", group) for image, group in groups.items()]
        csv.writer(text, lineterminator="\n").writerows([("file", "group"), *rows])
        write_text(os.path.join(self._datastore_path, "groups.csv"), text.getvalue())


def open_dicomweb(url: str, cache_path: str | None = None) -> LesionDICOMWebDatastore:
    """Open a DICOMweb server by MONAI Label's own settings, MONAI_LABEL_DICOMWEB_* and MONAI_LABEL_*_PREFIX.

    MONAI_LABEL_DICOMWEB_SEARCH_FILTER counts if it is set, e.g. '{"Modality": "ES,XC"}'; without it, all modalities of
    colour pictures are listed.

    Args:
        url: such as http://127.0.0.1:8042/dicom-web.
        cache_path: folder for pictures and labels; default: MONAI_LABEL_DICOMWEB_CACHE_PATH, then the home folder.
    """
    from dicomweb_client.session_utils import create_session_from_user_pass
    from monailabel.config import settings

    session = None
    if settings.MONAI_LABEL_DICOMWEB_USERNAME and settings.MONAI_LABEL_DICOMWEB_PASSWORD:
        session = create_session_from_user_pass(
            settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
        )
    client = DICOMwebClientX(
        url=url.rstrip("/"),
        session=session,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    # By default it tries for almost a minute, in which an annotator waits for the news that the server is not there.
    client.set_http_retry_params(max_attempts=_ATTEMPTS, wait_exponential_multiplier=_WAIT_MS)
    asked = _FILTER in settings.model_fields_set  # the default, CT, shows nothing of ours
    if not asked:
        # MONAI Label's server exports its defaults: scoring and training, its children, would be asked for CT by it.
        os.environ.pop(_FILTER, None)
    return LesionDICOMWebDatastore(
        client,
        settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER if asked else None,
        cache_path or (settings.MONAI_LABEL_DICOMWEB_CACHE_PATH or "").strip() or None,
    )


def _refused(message: str) -> MONAILabelException:
    return MONAILabelException(MONAILabelError.INVALID_INPUT, message)
