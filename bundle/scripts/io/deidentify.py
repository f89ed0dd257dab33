"""DICOM pictures -> copies without identifying attributes, and black where a person says that text is burnt in.

It never says that pixels are clean: nobody has looked at them here. Burned In Annotation is "YES" in every copy unless
the caller, who has looked, says otherwise; faces, names on wristbands and spoken names are not looked for either.
Pictures and videos that are not DICOM are refused: what their metadata hold is not described by any standard.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from scripts.io.burnt_in import Rectangle, black_out, check_rectangles
from scripts.io.deidentify_tags import UidMapping, clean_header
from scripts.io.dicom_copies import begin_copies, read_whole, save_copy, values_untold
from scripts.io.dicom_reader import DicomFile
from scripts.io.dicom_values import values_as_they_are
from scripts.io.errors import MediaError
from scripts.io.jpeg_segments import without_metadata
from scripts.io.media import media_type
from scripts.io.table import Table
from scripts.io.writers import OutputError

logger = logging.getLogger(__name__)

REPORT = "deidentified.csv"
JPEG = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes)
_WARNING = (
    "the pixels were not searched for text, faces or names: look at every picture before it leaves the clinic "
    "(Burned In Annotation says YES)"
)
_STREAM_WARNING = (
    "a video stream, copied as it is: its container may tell when it was recorded, by whom and with what (MP4 tags), "
    "and hold what was spoken (sound); nothing of that was searched or removed. Where it must go, make the DICOM file "
    "anew of a stream without it: ffmpeg -i IN -map 0:v:0 -map_metadata -1 -c copy OUT"
)


@dataclass(frozen=True)
class Deidentified:
    """One copy."""

    file: str  # name of the copy
    frames: int
    rows: int
    columns: int
    rectangles: tuple[Rectangle, ...]  # blacked out
    burned_in_annotation: str  # what the copy says, "YES" or "NO"


@dataclass
class DeidentifiedFolder:
    """What became of a folder."""

    written: list[Deidentified] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)  # source and reason


def deidentify_file(
    source: str | Path,
    target: str | Path,
    *,
    blackout: Sequence[Rectangle] = (),
    mapping: UidMapping | None = None,
    pixels_checked: bool = False,
) -> Deidentified:
    """Write a copy of a DICOM picture without what identifies the patient in its header (PS3.15 Basic Profile).

    EXIF and comments of JPEG streams go as well; pixels stay as they are. So does an encapsulated video, with the tags
    and the sound that its container may hold: a warning names the copy.

    Args:
        source: DICOM picture or encapsulated video that the bundle can read.
        target: the copy.
        blackout: rectangles (x, y, width, height) in pixels, black in all frames of the copy.
        mapping: new UIDs and pseudonyms; one for all files that belong together. By default one of its own.
        pixels_checked: a person has looked at the pixels and found no burnt-in identity; the copy then says so.

    Raises:
        MediaError: not a DICOM picture, damaged, or a rectangle outside of it; the message quotes no attribute.
        OutputError: target is source, or cannot be written.
    """
    if not pixels_checked:
        logger.warning("%s: %s", target, _WARNING)
    return _copy(Path(source), Path(target), blackout, mapping or UidMapping(), pixels_checked)


def deidentify_folder(
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    blackout: Sequence[Rectangle] = (),
    secret: bytes | None = None,
    pixels_checked: bool = False,
) -> DeidentifiedFolder:
    """Write copies of all DICOM pictures of a folder, image_00001.dcm and so on, and deidentified.csv about them.

    UIDs and pseudonyms are the same for all files of the call, so studies and patients stay together. New names count
    the files in the order of their old ones, which are written nowhere. A file that fails is logged and left out.

    Args:
        dataset_dir: folder, with sub-folders, of DICOM pictures alone.
        output_dir: another folder, empty or not there yet.
        blackout: rectangles (x, y, width, height) in pixels, black in all frames of all files.
        secret: to get the same UIDs and pseudonyms in a later call; keep it as safe as the pictures.
        pixels_checked: see deidentify_file.

    Raises:
        MediaError: no DICOM file, or pictures and videos among them; nothing is written then.
        OutputError: output_dir is, or is inside, dataset_dir, is not empty, or cannot be written.
    """
    dataset_dir, output_dir = Path(dataset_dir), Path(output_dir)
    sources = begin_copies(dataset_dir, output_dir, "de-identified")
    if not pixels_checked:
        logger.warning("%s: %s", output_dir, _WARNING)
    mapping, result = UidMapping(secret), DeidentifiedFolder()
    for number, source in enumerate(sources, 1):
        target = output_dir / f"image_{number:05d}.dcm"
        try:
            result.written.append(_copy(source, target, blackout, mapping, pixels_checked))
        except MediaError as error:
            logger.warning("left out: %s", error)
            result.failed.append((source, str(error)))
    _table(result.written).write(output_dir / REPORT)
    return result


def _copy(
    source: Path, target: Path, blackout: Sequence[Rectangle], mapping: UidMapping, pixels_checked: bool
) -> Deidentified:
    if media_type(source) in ("picture", "video", "volume"):
        raise MediaError(f"{source}: not DICOM; only DICOM can be de-identified here: convert it, or crop it by hand")
    if target.exists() and target.samefile(source):
        raise OutputError(f"{target}: it is the source itself; give another target")
    with values_as_they_are(), DicomFile(source) as media:  # it finds out whether the file is whole
        check_rectangles(blackout, media.height, media.width, str(source))
        dataset = read_whole(source)
        with values_untold(source):
            syntax = black_out(dataset, media, blackout) if blackout else media.transfer_syntax
            if not blackout and syntax in JPEG:
                _clean_streams(dataset, media)
            clean_header(dataset, mapping)
            dataset.BurnedInAnnotation = "NO" if pixels_checked else "YES"
            save_copy(target, dataset, syntax)
        if media.is_video:
            logger.warning("%s: %s", target, _STREAM_WARNING)
        return Deidentified(
            target.name, len(media), media.height, media.width, tuple(blackout), dataset.BurnedInAnnotation
        )


def _clean_streams(dataset: Dataset, media: DicomFile) -> None:
    """Take what cameras write into JPEG streams out of the pixel data, in place. Raises MediaError."""
    streams = [media.encoded(index) for index in range(len(media))]
    try:
        plain = [without_metadata(stream) for stream in streams]
    except ValueError as error:
        raise MediaError(
            f"{media.path}: {error}, so that nobody can tell what it holds beside its pixels; export it again"
        ) from None
    if all(stream.rstrip(b"\0") == clean for stream, clean in zip(streams, plain, strict=True)):
        return
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.PixelData = encapsulate([clean + b"\0" * (len(clean) % 2) for clean in plain], has_bot=False)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _table(written: Sequence[Deidentified]) -> Table:
    table = Table(("file", "frames", "rows", "columns", "blacked_out_x_y_width_height", "burned_in_annotation"))
    for copy in written:
        table.add(
            file=copy.file,
            frames=copy.frames,
            rows=copy.rows,
            columns=copy.columns,
            blacked_out_x_y_width_height="; ".join(" ".join(map(str, rectangle)) for rectangle in copy.rectangles),
            burned_in_annotation=copy.burned_in_annotation,
        )
    return table
