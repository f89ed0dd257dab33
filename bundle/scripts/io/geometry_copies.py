"""A folder of DICOM pictures without geometry -> copies with made-up geometry, and a table about them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.io.dicom_copies import begin_copies, read_whole, save_copy, values_untold
from scripts.io.dicom_geometry import Place, add_geometry, derived_uid, missing_geometry, pixel_spacing
from scripts.io.dicom_header import number_of_frames, open_dicom, read_header, value_of
from scripts.io.dicom_pixels import is_video
from scripts.io.dicom_reader import DicomFile
from scripts.io.dicom_values import values_as_they_are
from scripts.io.errors import DICOM_SUFFIXES, MediaError
from scripts.io.table import Table

logger = logging.getLogger(__name__)

REPORT = "geometry.csv"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_NO_NUMBER = 2**31  # sorts pictures without Instance Number behind those with one
COPIED, SKIPPED = "copied", "skipped: has geometry"


@dataclass(frozen=True)
class Picture:
    """What decides where a picture is put; uids as in _UIDS, pixel_spacing () where there is none."""

    path: Path
    uids: tuple[str, str, str, str]
    size: tuple[int, int, int]  # rows, columns, samples per pixel
    frames: int
    number: int
    pixel_spacing: tuple[float, ...]
    missing: tuple[str, ...]  # keywords

    @property
    def series(self) -> tuple[object, ...]:
        """Pictures with the same value are put into one new series: they can lie on each other."""
        _, series, picture, storage = self.uids
        return (series, *((picture,) if self.frames > 1 else ()), storage, *self.size)


@dataclass
class GeometryCopies:
    """What became of a folder."""

    table: Table = field(
        default_factory=lambda: Table(
            ("file", "done", "frames", "rows", "columns", "made_up", "first_z_mm", "new_series")
        )
    )
    copied: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)  # file, relative to the folder, and reason


def add_geometry_folder(dataset_dir: str | Path, output_dir: str | Path, *, spacing_mm: float = 1.0) -> GeometryCopies:
    """Write copies of a folder's DICOM pictures with made-up geometry, under their names, and geometry.csv about them.

    Pictures of a series stay one series, one behind the other in the order of their Instance Number; pictures of
    another size, and each multi-frame picture, get a series of their own, because they cannot lie in one volume.
    UIDs are made of the old ones: the same files give the same copies again.

    Args:
        dataset_dir: folder, with sub-folders, of DICOM pictures alone; never changed.
        output_dir: another folder, empty or not there yet.
        spacing_mm: side of a pixel and distance of frames, mm; a Pixel Spacing of the source's own is kept.

    Raises:
        MediaError: no DICOM file, or pictures and videos among them; nothing is written then.
        OutputError: output_dir is, or is inside, dataset_dir, is not empty, or cannot be written.
    """
    dataset_dir, output_dir = Path(dataset_dir), Path(output_dir)
    sources = begin_copies(dataset_dir, output_dir, "given a geometry")
    result = GeometryCopies()
    lacking: dict[tuple[object, ...], list[Picture]] = {}
    seen: dict[str, str] = {}  # SOP Instance UID -> file
    for source in sources:
        name = source.relative_to(dataset_dir).as_posix()
        try:
            with values_as_they_are():
                picture = _look_at(source)
            if other := seen.get(picture.uids[2]):
                raise MediaError(
                    f"{source}: has the SOP Instance UID of {other}, and an archive keeps one of them: take one away"
                )
            seen[picture.uids[2]] = name
        except MediaError as error:
            _leave_out(result, name, error)
            continue
        if picture.missing:
            lacking.setdefault(picture.series, []).append(picture)
        else:
            result.skipped += 1
            _note(result.table, name, SKIPPED, picture)
    for pictures in lacking.values():
        _copy_series(pictures, dataset_dir, output_dir, spacing_mm, result)
    result.table.rows.sort(key=lambda row: row["file"])
    result.table.write(output_dir / REPORT)
    return result


def _look_at(source: Path) -> Picture:
    """Read a picture's header, and see whether the file is whole where a copy is needed. Raises MediaError."""
    name = str(source)
    with open_dicom(source) as stream:
        dataset, syntax = read_header(stream, name)
    if is_video(syntax):
        raise MediaError(
            f"{name}: a video ({syntax.name}); a segmentation can be stored for pictures alone: extract its frames, "
            "e.g. with ffmpeg, or export it from its source as a multi-frame picture"
        )
    uids = tuple(str(value_of(dataset, keyword, name) or "").strip("\0 ") for keyword in _UIDS)
    if lost := [keyword for keyword, uid in zip(_UIDS, uids, strict=True) if not uid]:
        raise MediaError(f"{name}: {', '.join(lost)} missing, by which a copy names its original; export it again")
    missing = tuple(missing_geometry(dataset, name))
    if missing:
        with DicomFile(source):
            pass
    try:
        number = int(value_of(dataset, "InstanceNumber", name))  # type: ignore[call-overload]
    except (TypeError, ValueError):
        number = _NO_NUMBER
    return Picture(
        path=source,
        uids=uids,
        size=(
            int(dataset.get("Rows") or 0),
            int(dataset.get("Columns") or 0),
            int(dataset.get("SamplesPerPixel") or 1),
        ),
        frames=number_of_frames(dataset, name),
        number=number,
        pixel_spacing=pixel_spacing(dataset, name),
        missing=missing,
    )


def _copy_series(
    pictures: Sequence[Picture], dataset_dir: Path, output_dir: Path, spacing_mm: float, result: GeometryCopies
) -> None:
    """Copy pictures that are put into one series, one behind the other."""
    ordered = sorted(pictures, key=lambda picture: (picture.number, picture.uids[2]))
    # Another set of pictures lies otherwise in space, so it must not mix with this one in an archive
    series_uid = derived_uid("series", *ordered[0].series, spacing_mm, *(picture.uids[2] for picture in ordered))
    keep = len({picture.pixel_spacing for picture in ordered}) == 1 and bool(ordered[0].pixel_spacing)
    for position, picture in enumerate(ordered):
        name = picture.path.relative_to(dataset_dir).as_posix()
        target = _free(output_dir / (name if name.lower().endswith(DICOM_SUFFIXES) else f"{name}.dcm"))
        place = Place(series_uid, position, spacing_mm, keep)
        try:
            with values_as_they_are():
                _copy(picture, target, place)
        except MediaError as error:
            _leave_out(result, name, error)
            continue
        result.copied += 1
        _note(result.table, name, COPIED, picture, place)


def _free(target: Path) -> Path:
    """The name, or with a number where a picture that was called IM1 has taken that of IM1.dcm."""
    names = (target, *(target.with_stem(f"{target.stem}_{number}") for number in range(2, 10_000)))
    return next(name for name in names if not name.exists())


def _copy(picture: Picture, target: Path, place: Place) -> None:
    dataset = read_whole(picture.path)
    with values_untold(picture.path):
        add_geometry(dataset, place, str(picture.path))
        with open_dicom(picture.path) as stream:
            _, syntax = read_header(stream, str(picture.path))
        save_copy(target, dataset, syntax)


def _leave_out(result: GeometryCopies, name: str, error: MediaError) -> None:
    logger.warning("left out: %s", error)
    result.failed.append((name, str(error)))


def _note(table: Table, name: str, done: str, picture: Picture, place: Place | None = None) -> None:
    kept = {"PixelSpacing"} if place is not None and place.keep_pixel_spacing else set()
    table.add(
        file=name,
        done=done,
        frames=picture.frames,
        rows=picture.size[0],
        columns=picture.size[1],
        made_up=" ".join(keyword for keyword in picture.missing if keyword not in kept),
        first_z_mm="" if place is None else f"{place.position * place.spacing_mm:g}",
        new_series="" if place is None else place.series_uid,
    )
