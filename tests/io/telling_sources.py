"""A DICOM file that says who the patient is wherever one may say it, and what of that a file still says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from dicom_sources import make_source
from pydicom import Dataset
from pydicom.uid import VLEndoscopicImageStorage

SECRETS = ("Müller", "ID-4711", "19500203", "Weiß", "A-12", "20240506", "Klinikum", "Oberarzt", "Schwester", "PRIVAT")


def telling_source(pixels: np.ndarray | None = None, **kwargs: object) -> pydicom.FileDataset:
    """A source that says who the patient is wherever one may say it."""
    source = make_source(pixels, **kwargs)
    source.InstitutionName = "Klinikum Nord"
    source.OperatorsName = "Oberarzt^Otto"
    source.ImageComments = "Müller, geb. 19500203"
    request = Dataset()  # a sequence that the profile removes
    request.RequestedProcedureDescription = "Klinikum: Müller"
    source.RequestAttributesSequence = [request]
    kept = Dataset()  # one that it keeps, with a name inside it
    kept.ReferencedSOPInstanceUID, kept.ReferencedSOPClassUID = source.SOPInstanceUID, VLEndoscopicImageStorage
    kept.PersonName = "Schwester^Sara"
    kept.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "PRIVAT innen")
    source.ReferencedInstanceSequence = [kept]
    source.private_block(0x0013, "MAKER", create=True).add_new(1, "LO", "PRIVAT Müller")
    source.add_new(0x60003000, "OW", b"PRIVAT overlay.")
    source.add_new(0x60000022, "LO", "PRIVAT overlay text")
    return source


def saved(path: Path, source: pydicom.FileDataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source.save_as(path, enforce_file_format=True)
    return path


def told(path: Path) -> list[str]:
    """Which secrets the bytes of a file hold, in Latin-1 or UTF-8."""
    data = path.read_bytes()
    return [s for s in SECRETS if s.encode("latin-1") in data or s.encode() in data]
