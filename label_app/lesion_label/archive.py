"""A DICOMweb server as the datastore sees it: which picture series and which labels it has, fetch one, store one."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomweb_client import DICOMwebClient
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from requests import RequestException

from lesion_label.dicom_seg_reader import is_label
from scripts.io.dicom_geometry import SERIES_MARK
from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

#: what colour pictures are filed as: endoscopy, photography, microscopy, other, ultrasound, secondary capture
COLOUR_MODALITIES = ("ES", "XC", "GM", "OT", "US", "SC")
_PAGE = 500  # series asked for at once
_FIELDS = ("SeriesDescription", "PatientID", "Modality")
_UID = re.compile(r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_RETRY_SECONDS = 60  # after which a header that could not be fetched is asked for again
_ANY_SYNTAX = (("application/dicom", "*"),)  # as they are stored; else the server decompresses


@dataclass(frozen=True)
class PictureSeries:
    """A series of pictures; the group is the same for all series of a patient, and names nobody."""

    uid: str
    study_uid: str
    modality: str
    description: str
    group: str


@dataclass(frozen=True)
class StoredLabel:
    """A SEG that a person has had a hand in, the series that it is of, and when it was made (DICOM date and time)."""

    uid: str
    study_uid: str
    image: str
    made: str


def check_uid(value: str, kind: str = "image id") -> str:
    """Return a DICOM UID. Raises MONAILabelException: it is none."""
    if not isinstance(value, str) or not _UID.fullmatch(value):
        message = f"{kind} {str(value)[:80]!r}: expected a Series Instance UID, digits and single dots, at most 64"
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, message)
    return value


class Archive:
    """The server behind a DICOMweb client; nothing is kept but what cannot change.

    Args:
        client: connected.
        search_filter: QIDO keys and values; several values of "Modality" are asked for one by one, because QIDO takes
            one at a time.
    """

    def __init__(self, client: DICOMwebClient, search_filter: Mapping[str, Any] | None = None) -> None:
        self._client = client
        self._filters = split_filter(search_filter or {"Modality": COLOUR_MODALITIES})
        self._copied: dict[str, str] = {}  # series with made-up geometry -> the original's
        self._labels: dict[str, StoredLabel | None] = {}  # SEG series -> what it is a label of; None = no label
        self._refused: dict[str, float] = {}  # series whose header could not be fetched -> when to ask again

    def pictures(self) -> dict[str, PictureSeries]:
        """Series Instance UID -> series; originals of which there is a copy with geometry are left out."""
        found = {}
        for search in self._filters:
            for item in self._search(search):
                if str(item.get("Modality", "")) != "SEG":
                    found[item.SeriesInstanceUID] = _picture_series(item)
        originals = {
            self._original_of(series) for series in found.values() if SERIES_MARK.strip() in series.description
        }
        return {uid: series for uid, series in found.items() if uid not in originals}

    def labels(self) -> dict[str, list[StoredLabel]]:
        """Series Instance UID of pictures -> their labels on the server, the newest last."""
        found: dict[str, list[StoredLabel]] = {}
        for item in self._search({"Modality": "SEG"}):
            uid = str(item.SeriesInstanceUID)
            if uid not in self._labels and (header := self._header(str(item.StudyInstanceUID), uid)) is not None:
                self._labels[uid] = _stored_label(header, uid, str(item.StudyInstanceUID))
            if label := self._labels.get(uid):
                found.setdefault(label.image, []).append(label)
        return {image: sorted(labels, key=lambda label: (label.made, label.uid)) for image, labels in found.items()}

    def find(self, uid: str) -> PictureSeries:
        """One series. Raises ImageNotFoundException: the server has none of this UID."""
        for item in self._search({"SeriesInstanceUID": check_uid(uid)}):
            if str(item.SeriesInstanceUID) == uid:
                return _picture_series(item)
        raise ImageNotFoundException(f"series {uid} is not on the DICOM server; store its pictures there first")

    def fetch(self, study_uid: str, uid: str, folder: Path) -> None:
        """Fetch the files of a series into a new folder, whole or not at all. Raises MediaError."""
        between = folder.parent / f".fetching-{uuid.uuid4().hex}"
        between.mkdir(parents=True)
        try:
            for dataset in self.retrieve(study_uid, uid):
                path = between / f"{check_uid(str(dataset.SOPInstanceUID), 'SOP Instance UID')}.dcm"
                dataset.save_as(path, write_like_original=False)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(between, folder)
        finally:
            shutil.rmtree(between, ignore_errors=True)

    def retrieve(self, study_uid: str, uid: str) -> list[Dataset]:
        """The datasets of a series, in the transfer syntax that they are stored in. Raises MediaError."""
        try:
            found = self._client.retrieve_series(study_uid, uid, media_types=_ANY_SYNTAX)
        except (RequestException, ValueError, InvalidDicomError) as error:  # a text may hold values of the header
            raise MediaError(
                f"series {uid}: the DICOM server does not give its files ({_say(error)}); see its log, or store the "
                "series again"
            ) from None
        if not found:
            raise MediaError(f"series {uid}: the DICOM server gives no file of it; store the series again")
        return found

    def store(self, dataset: Dataset) -> None:
        """Send a dataset (STOW). Raises MONAILabelException: the server did not take it."""
        try:
            answer = self._client.store_instances([dataset])
        except RequestException as error:
            raise _not_stored(_say(error)) from error
        for failure in answer.get("FailedSOPSequence") or ():
            raise _not_stored(f"failure reason {failure.get('FailureReason')}")

    def _search(self, search: Mapping[str, Any]) -> Iterator[Dataset]:
        """Series that fit, page by page: a server may give fewer a page than it is asked for, and ignore `offset`."""
        seen: set[str] = set()
        while True:
            try:
                page = self._client.search_for_series(
                    search_filters=dict(search), fields=_FIELDS, limit=_PAGE, offset=len(seen)
                )
            except RequestException as error:
                raise MONAILabelException(
                    MONAILabelError.SERVER_ERROR,
                    f"the DICOM server {self._client.base_url} lists no series ({_say(error)}); is it running, and "
                    "are --studies, user and password right?",
                ) from error
            new = [item for item in map(Dataset.from_json, page) if str(item.SeriesInstanceUID) not in seen]
            seen.update(str(item.SeriesInstanceUID) for item in new)
            yield from new
            if not new:
                return

    def _header(self, study_uid: str, uid: str) -> Dataset | None:
        """Of the first file of a series; None (logged) where the server does not give it: others must be listed."""
        if time.monotonic() < self._refused.get(uid, 0.0):
            return None
        try:
            first = self._client.retrieve_series_metadata(study_uid, uid)[0]
            return Dataset.from_json(first, bulk_data_uri_handler=lambda *_: None)  # pixels stay where they are
        except (RequestException, ValueError, LookupError) as error:
            self._refused[uid] = time.monotonic() + _RETRY_SECONDS
            logger.warning(
                "series %s: the DICOM server does not give its header (%s): what it refers to is not known",
                *(uid, _say(error)),
            )
            return None

    def _original_of(self, series: PictureSeries) -> str:
        """Series that a copy with made-up geometry was made of."""
        if series.uid not in self._copied and (header := self._header(series.study_uid, series.uid)) is not None:
            references = header.get("ReferencedSeriesSequence") or ()
            self._copied[series.uid] = str(references[0].SeriesInstanceUID) if references else ""
        return self._copied.get(series.uid, "")


def _stored_label(seg: Dataset, uid: str, study_uid: str) -> StoredLabel | None:
    """What a SEG is a label of; None where it is no label."""
    references = seg.get("ReferencedSeriesSequence") or ()
    if not references:
        logger.warning("SEG %s names no series of pictures: it is left out", uid)
        return None
    image = str(references[0].SeriesInstanceUID)
    if not is_label(seg):
        logger.info("SEG %s of series %s is a proposal of software, or of no lesions: it is no label", uid, image)
        return None
    return StoredLabel(uid, study_uid, image, f"{seg.get('ContentDate') or ''}{seg.get('ContentTime') or ''}")


def split_filter(search_filter: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One filter for each value of "Modality": a list, or text with commas."""
    values = search_filter.get("Modality", ())
    values = [part.strip() for part in values.split(",")] if isinstance(values, str) else list(values)
    rest = {key: value for key, value in search_filter.items() if key != "Modality"}
    return [{**rest, "Modality": value} for value in dict.fromkeys(values) if value] or [rest]


def _picture_series(item: Dataset) -> PictureSeries:
    study = str(item.get("StudyInstanceUID") or "")
    patient = str(item.get("PatientID") or "") or study
    return PictureSeries(
        uid=str(item.SeriesInstanceUID),
        study_uid=study,
        modality=str(item.get("Modality") or ""),
        description=str(item.get("SeriesDescription") or ""),
        group=hashlib.sha256(patient.encode()).hexdigest()[:16],
    )


def _say(error: Exception) -> str:
    response = getattr(error, "response", None)
    return type(error).__name__ if response is None else f"status {response.status_code}"


def _not_stored(reason: str) -> MONAILabelException:
    return MONAILabelException(
        MONAILabelError.SERVER_ERROR,
        f"the DICOM server did not take the segmentation ({reason}); see its log, and whether it may be written to",
    )
