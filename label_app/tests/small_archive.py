"""A small DICOMweb server: series of one small picture each, over real HTTP, some of them not to be had."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_LIMIT = "small-archive"


class SmallArchive:
    """Its series, and what is wrong with it.

    Attributes:
        series: Series Instance UID -> dataset of its one file.
        without_files: series that are listed and cannot be retrieved (status 500).
        without_header: series whose metadata cannot be retrieved.
        page: most series in one answer.
    """

    def __init__(self, page: int = 1000) -> None:
        self.series: dict[str, Dataset] = {}
        self.without_files: set[str] = set()
        self.without_header: set[str] = set()
        self.page = page
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def add(self, patient: str = "P", of: str = "", **values: object) -> str:
        """Store a picture of a patient, or a SEG `of` a series -> its Series Instance UID."""
        found = Dataset()
        found.file_meta = FileMetaDataset()
        found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.is_little_endian, found.is_implicit_VR = True, False
        found.SOPClassUID = SEGMENTATION if of else SECONDARY_CAPTURE
        found.SOPInstanceUID, found.SeriesInstanceUID = generate_uid(), generate_uid()
        found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
        found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
        found.StudyInstanceUID, found.PatientID = f"1.2.{len(self.series) + 1}", patient
        found.Modality = "SEG" if of else "ES"
        if of:
            picture, code, segment = Dataset(), Dataset(), Dataset()
            picture.SeriesInstanceUID = of
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "52988006", "SCT", "Lesion"
            segment.SegmentNumber, segment.SegmentAlgorithmType = 1, "MANUAL"
            segment.SegmentedPropertyTypeCodeSequence = [code]
            found.ReferencedSeriesSequence, found.SegmentSequence = [picture], [segment]
        else:
            found.Rows, found.Columns, found.SamplesPerPixel, found.PlanarConfiguration = 8, 8, 3, 0
            found.PhotometricInterpretation, found.PixelRepresentation = "RGB", 0
            found.BitsAllocated, found.BitsStored, found.HighBit = 8, 8, 7
            found.PixelData = np.full((8, 8, 3), len(self.series), np.uint8).tobytes()
        for keyword, value in values.items():
            setattr(found, keyword, value)
        self.series[str(found.SeriesInstanceUID)] = found
        return str(found.SeriesInstanceUID)


def _handler(archive: SmallArchive) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:  # noqa: N802
            address = urlsplit(self.path)
            parts, asked = address.path.strip("/").split("/"), parse_qs(address.query)
            if parts == ["series"]:
                self._give(*_listed(archive, {key: values[0] for key, values in asked.items()}))
                return
            uid = parts[3]
            if uid in (archive.without_header if parts[-1] == "metadata" else archive.without_files):
                self._give(500, b"", "text/plain")
            elif parts[-1] == "metadata":
                header = Dataset({element.tag: element for element in archive.series[uid] if element.tag != 0x7FE00010})
                self._give(200, json.dumps([header.to_json_dict()]).encode(), "application/dicom+json")
            else:
                content = BytesIO()
                archive.series[uid].save_as(content, write_like_original=False)
                head = f"--{_LIMIT}\r\nContent-Type: application/dicom\r\n\r\n".encode()
                body = head + content.getvalue() + f"\r\n--{_LIMIT}--\r\n".encode()
                self._give(200, body, f'multipart/related; type="application/dicom"; boundary={_LIMIT}')

        def _give(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _listed(archive: SmallArchive, asked: dict[str, str]) -> tuple[int, bytes, str]:
    fits = [
        one
        for one in archive.series.values()
        if one.Modality == asked.get("Modality", one.Modality)
        and one.SeriesInstanceUID == asked.get("SeriesInstanceUID", one.SeriesInstanceUID)
    ]
    first = int(asked.get("offset", 0))
    page = fits[first : first + min(int(asked.get("limit", 1000)), archive.page)]
    keywords = ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality", "SeriesDescription")
    shown = [Dataset({one.data_element(k).tag: one.data_element(k) for k in keywords if k in one}) for one in page]
    return 200, json.dumps([each.to_json_dict() for each in shown]).encode(), "application/dicom+json"
