"""DICOM files of our own making: storage class x transfer syntax x photometric interpretation x frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    HEVCMP51,
    JPEG2000,
    MPEG2MPML,
    MPEG4HP41,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

# Name -> (storage class, modality)
SOP_CLASSES = {
    "VL Endoscopic": ("1.2.840.10008.5.1.4.1.1.77.1.1", "ES"),
    "Video Endoscopic": ("1.2.840.10008.5.1.4.1.1.77.1.1.1", "ES"),
    "VL Photographic": ("1.2.840.10008.5.1.4.1.1.77.1.4", "XC"),
    "Video Photographic": ("1.2.840.10008.5.1.4.1.1.77.1.4.1", "XC"),
    "Secondary Capture": ("1.2.840.10008.5.1.4.1.1.7", "OT"),
    "Multi-frame True Color SC": ("1.2.840.10008.5.1.4.1.1.7.4", "OT"),
    "Multi-frame Grayscale Byte SC": ("1.2.840.10008.5.1.4.1.1.7.2", "OT"),
    "Ultrasound": ("1.2.840.10008.5.1.4.1.1.6.1", "US"),
    "Ultrasound Multi-frame": ("1.2.840.10008.5.1.4.1.1.3.1", "US"),
}
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
# Every photometric interpretation that can be written in a transfer syntax
WRITABLE: dict[UID, tuple[str, ...]] = {
    **{syntax: ("RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR", "MONOCHROME1", "MONOCHROME2") for syntax in NATIVE},
    RLELossless: ("RGB", "YBR_FULL", "PALETTE COLOR", "MONOCHROME1", "MONOCHROME2"),
    JPEGBaseline8Bit: ("RGB", "YBR_FULL", "YBR_FULL_422", "MONOCHROME2"),
    JPEG2000Lossless: ("RGB", "YBR_RCT", "MONOCHROME2"),
    JPEG2000: ("YBR_ICT", "MONOCHROME2"),
    JPEGLSLossless: ("RGB", "YBR_FULL", "MONOCHROME2"),
    JPEGLSNearLossless: ("RGB",),
}
LOSSY = (JPEGBaseline8Bit, JPEG2000, JPEGLSNearLossless)
VIDEO = {MPEG2MPML: ("mpeg2video", "mpegts"), MPEG4HP41: ("libx264", "mp4"), HEVCMP51: ("libx265", "mp4")}
PALETTE_BITS = 16


def pictures(frames: int = 1, height: int = 24, width: int = 40) -> np.ndarray:
    """Smooth colour ramps, no two frames alike, (N, H, W, 3) uint8; lossy codecs keep them within a few levels."""
    rows, columns = np.mgrid[:height, :width]
    ramps = np.stack([columns * 6, rows * 9, 255 - columns * 5], axis=-1)
    return np.stack([np.clip(ramps + 7 * number, 0, 255) for number in range(frames)]).astype(np.uint8)


def make_header(
    shape: Sequence[int],
    photometric: str,
    syntax: UID,
    sop_class: str = SOP_CLASSES["VL Endoscopic"][0],
    planar: int = 0,
) -> Dataset:
    """A dataset without pixel data for frames of shape (N, H, W, 3) or (N, H, W); its patient is made up."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = dict(SOP_CLASSES.values()).get(sop_class, "OT")
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyDate, dataset.StudyTime = "20200102", "030405"
    dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber, dataset.InstanceNumber = "1", "1"
    dataset.Manufacturer = "made by a test"
    dataset.ConversionType = "WSD"
    if shape[0] > 1:
        dataset.NumberOfFrames = shape[0]
        dataset.FrameTime = "40"
    dataset.Rows, dataset.Columns = shape[1], shape[2]
    dataset.SamplesPerPixel = 3 if len(shape) == 4 else 1
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = planar
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    return dataset


def add_palette(dataset: Dataset, bits: int = PALETTE_BITS, little_endian: bool = True) -> np.ndarray:
    """Add a palette of 256 colours -> the colours, (256, 3) uint8. 16-bit entries hold the colour in both bytes."""
    index = np.arange(256)
    colours = np.stack([index, 255 - index, index * 7 % 256], axis=-1).astype(np.uint8)
    for name, column in zip(("Red", "Green", "Blue"), colours.T, strict=True):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        words = np.ascontiguousarray(column).view("<u2") if bits == 8 else column.astype("<u2") * 257
        data = words.astype("<u2" if little_endian else ">u2").tobytes()
        setattr(dataset, f"{name}PaletteColorLookupTableData", data)
    return colours


def stored_values(frames: np.ndarray, photometric: str, planar: int = 0) -> np.ndarray:
    """RGB frames (N, H, W, 3) -> what an uncompressed file of this kind stores, any shape, uint8."""
    if photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"):
        return np.ascontiguousarray(frames[..., 0])
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        frames = np.stack([convert_color_space(frame, "RGB", "YBR_FULL") for frame in frames])
    if photometric == "YBR_FULL_422":  # Y1 Y2 Cb Cr for each two pixels of a row
        left, right = frames[:, :, 0::2], frames[:, :, 1::2]
        return np.stack([left[..., 0], right[..., 0], left[..., 1], left[..., 2]], axis=-1)
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)) if planar else frames


def write_dicom(
    path: Path,
    frames: np.ndarray,
    *,
    photometric: str = "RGB",
    syntax: UID = ExplicitVRLittleEndian,
    sop_class: str = SOP_CLASSES["VL Endoscopic"][0],
    planar: int = 0,
    **elements: object,
) -> Path:
    """Write RGB frames (N, H, W, 3) uint8; grey and palette kinds store the red channel.

    `elements` replace those of the header, None takes one out.
    """
    grey = photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    dataset = make_header(frames.shape[: 3 if grey else 4], photometric, syntax, sop_class, planar)
    if photometric == "PALETTE COLOR":
        add_palette(dataset, little_endian=syntax.is_little_endian)
    values = stored_values(frames, photometric, planar)
    if syntax in (RLELossless, JPEGLSLossless, JPEGLSNearLossless):
        dataset.PixelData = values.tobytes()
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(syntax, generate_instance_uid=False, **({"jls_error": 2} if "Near" in syntax.name else {}))
    elif syntax.is_encapsulated:
        dataset.PixelData = encapsulate([encode(frame, photometric, syntax) for frame in values])
        dataset["PixelData"].VR = "OB"
    else:
        data = values.tobytes()
        dataset.PixelData = data + bytes(len(data) % 2)
        dataset["PixelData"].VR = "OW" if syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian) else "OB"
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def encode(values: np.ndarray, photometric: str, syntax: UID) -> bytes:
    """One frame, (H, W) or (H, W, 3) uint8 -> JPEG or JPEG 2000. YBR values are given as such."""
    target = io.BytesIO()
    if syntax != JPEGBaseline8Bit:
        Image.fromarray(values).save(
            target, "JPEG2000", no_jp2=True, irreversible=syntax == JPEG2000, mct=int(photometric.startswith("YBR_"))
        )
    elif photometric == "RGB":
        Image.fromarray(values).save(target, "JPEG", quality=95, subsampling=0, keep_rgb=True)
    elif photometric == "YBR_FULL_422":
        # stored_values has already thinned the colours: undone here, JPEG does it again
        full = np.empty((values.shape[0], values.shape[1] * 2, 3), np.uint8)
        full[:, 0::2, 0], full[:, 1::2, 0] = values[..., 0], values[..., 1]
        full[..., 1:] = values[..., 2:].repeat(2, axis=1)
        Image.fromarray(full, "YCbCr").save(target, "JPEG", quality=95, subsampling=1)
    else:
        mode = "YCbCr" if values.ndim == 3 else "L"
        Image.frombytes(mode, values.shape[1::-1], values.tobytes()).save(target, "JPEG", quality=95, subsampling=0)
    data = target.getvalue()
    return data + bytes(len(data) % 2)


def make_clip(frames: np.ndarray, syntax: UID, aspect: tuple[int, int] | None = None) -> bytes:
    """Encode RGB frames (N, H, W, 3) as a clip of 25 frames/s in the container that a transfer syntax is used with."""
    codec, container = VIDEO[syntax]
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none"}
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        output.mux(stream.encode())
    return target.getvalue()


def write_video_dicom(
    path: Path,
    frames: np.ndarray,
    *,
    syntax: UID = MPEG4HP41,
    sop_class: str = SOP_CLASSES["Video Endoscopic"][0],
    fragments: int = 1,
    clip: bytes | None = None,
    **elements: object,
) -> Path:
    """Write RGB frames (N, H, W, 3) as an encapsulated video, the stream cut into `fragments` items."""
    clip = clip or make_clip(frames, syntax)
    clip += bytes(len(clip) % 2)
    dataset = make_header(frames.shape, "YBR_PARTIAL_420", syntax, sop_class)
    dataset.PixelData = encapsulate([clip], fragments_per_frame=fragments, has_bot=False)
    dataset["PixelData"].VR = "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)
    return path
