"""DICOM objects to write a SEG for or to take identity from, made from nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    VideoEndoscopicImageStorage,
    VLEndoscopicImageStorage,
    generate_uid,
)

SINGLE_FRAME = {"VL Endoscopic": VLEndoscopicImageStorage, "Secondary Capture": SecondaryCaptureImageStorage}
MULTI_FRAME = {
    "Video Endoscopic": VideoEndoscopicImageStorage,
    "Multi-frame True Color SC": MultiFrameTrueColorSecondaryCaptureImageStorage,
    "Ultrasound Multi-frame": UltrasoundMultiFrameImageStorage,
}
PATIENT = {"PatientName": "Müller^Änne", "PatientID": "ID-4711", "PatientBirthDate": "19500203", "PatientSex": "F"}


def make_source(
    pixels: np.ndarray | None = None,
    sop_class: UID = VLEndoscopicImageStorage,
    shape: Sequence[int] = (1, 6, 8),
    photometric: str = "RGB",
) -> FileDataset:
    """One DICOM object of `PATIENT`, uncompressed. pixels: (F, H, W, 3) or (F, H, W) uint8, else zeros of `shape`."""
    pixels = np.zeros((*shape, 3), np.uint8) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    source = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    source.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in PATIENT.items():
        setattr(source, keyword, value)
    source.SOPClassUID, source.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    source.StudyInstanceUID, source.SeriesInstanceUID = generate_uid(), generate_uid()
    source.StudyDate, source.StudyTime, source.StudyID = "20240506", "070809", "S1"
    source.StudyDescription = "Gastroscopy"
    source.AccessionNumber, source.ReferringPhysicianName = "A-12", "Weiß^Rolf"
    source.Modality, source.SeriesNumber, source.InstanceNumber = "ES", 1, 1
    source.Rows, source.Columns = pixels.shape[1:3]
    source.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
    source.PhotometricInterpretation = photometric if pixels.ndim == 4 else "MONOCHROME2"
    if pixels.ndim == 4:
        source.PlanarConfiguration = 0
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit, source.PixelRepresentation = 7, 0
    if sop_class not in SINGLE_FRAME.values():
        source.NumberOfFrames = pixels.shape[0]
    data = pixels.tobytes()
    source.PixelData = data + b"\0" * (len(data) % 2)
    source["PixelData"].VR = "OB"
    return source
