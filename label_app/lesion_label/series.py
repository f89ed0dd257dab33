"""One DICOM series in a folder -> its frames in order, and where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from scripts.io.errors import MediaError

_NEEDED = ("FrameOfReferenceUID", "PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient")
_MEASURES, _ORIENTATION, _POSITION = "PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"
_GROUPS = {
    "PixelSpacing": _MEASURES,
    "SliceThickness": _MEASURES,
    "ImageOrientationPatient": _ORIENTATION,
    "ImagePositionPatient": _POSITION,
}
_NO_NUMBER = 2**31  # sorts pictures without Instance Number behind those with one


@dataclass(frozen=True)
class Frame:
    """One frame: its file, what a SEG calls it, and where its first pixel lies (LPS, mm)."""

    file: Path
    sop_class_uid: str
    sop_instance_uid: str
    number: int | None  # from 1, in a multi-frame picture
    position: tuple[float, float, float]


@dataclass(frozen=True)
class Series:
    """The frames of a series, as a volume of shape (frames, rows, columns).

    Attributes:
        uid: Series Instance UID.
        folder: of its files. header: of the first of them.
        frames: in the order of the volume.
        rows, columns: pixels.
        spacing: (x, y, z), mm. origin: (x, y, z), LPS, mm. direction: (3, 3), its columns are the axes x, y, z.
        missing: keywords of the geometry that the files lack; then spacing, origin and direction are those of a picture
            at the origin with pixels of 1 mm.
    """

    uid: str
    folder: Path
    header: Dataset
    frames: tuple[Frame, ...]
    rows: int
    columns: int
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]
    missing: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns)."""
        return len(self.frames), self.rows, self.columns

    def require_geometry(self) -> None:
        """Raise MediaError when no SEG can be written for the series."""
        if self.missing:
            raise MediaError(
                f"series {self.uid}: {', '.join(self.missing)} missing, without which no segmentation can be "
                "stored for it. Make copies with a made-up geometry, store and label those: python -m "
                "monai.bundle run --config_file configs/add_geometry.json --dataset_dir FOLDER --output_dir COPIES"
            )

    def place(self, image: SimpleITK.Image) -> SimpleITK.Image:
        """Give a volume of this shape the series' place in space."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction.ravel().tolist())
        return image

    def index_of(self, position: Iterable[float]) -> int | None:
        """Number of the frame (from 0) that lies nearest to a position; None where it is more than half a step away."""
        steps = (np.array(list(position)) - self.origin) @ self.direction[:, 2] / self.spacing[2]
        index = int(np.floor(steps + 0.5))
        return index if 0 <= index < len(self.frames) else None

    def read(self) -> SimpleITK.Image:
        """Its pixels as a 3-D volume, RGB or grey. Raises MediaError."""
        files = list(dict.fromkeys(str(frame.file) for frame in self.frames))
        try:
            if len(files) > 1:
                reader = SimpleITK.ImageSeriesReader()
                reader.SetFileNames(files)
            else:
                reader = SimpleITK.ImageFileReader()
                reader.SetFileName(files[0])
            reader.SetImageIO("GDCMImageIO")
            image = reader.Execute()
        except RuntimeError:  # its text may hold values of the header
            raise MediaError(
                f"series {self.uid}: ITK cannot read its pixels; a damaged file, or pictures of a kind that it "
                "has no decoder for: export the series again, uncompressed"
            ) from None
        if image.GetDimension() == 2:
            image = SimpleITK.JoinSeries(image)
        if image.GetSize()[::-1] != self.shape:
            raise MediaError(
                f"series {self.uid}: ITK reads {image.GetSize()[::-1]} frames, rows, columns; the header says "
                f"{self.shape}; export the series again"
            )
        return self.place(image)


def read_series(folder: Path) -> Series:
    """Read the headers of a series' files. Raises MediaError: none, damaged, or files that make no volume."""
    headers = [(path, _header(path)) for path in sorted(folder.glob("*.dcm"))]
    if not headers:
        raise MediaError(f"series {folder.name}: no DICOM file was fetched; is it still on the server?")
    counts = [int(header.get("NumberOfFrames") or 1) for _, header in headers]
    sizes = {(int(header.get("Rows") or 0), int(header.get("Columns") or 0)) for _, header in headers}
    if len(sizes) > 1 or (len(headers) > 1 and max(counts) > 1):
        what = "several multi-frame pictures" if max(counts) > 1 else f"pictures of {len(sizes)} sizes"
        raise MediaError(
            f"series {folder.name}: {what}, which make no volume; configs/add_geometry.json makes a series of each"
        )
    lacking = {keyword for _, header in headers for keyword in _NEEDED if not _find(header, keyword)}
    missing = tuple(keyword for keyword in _NEEDED if keyword in lacking)
    (rows, columns), uid = sizes.pop(), str(headers[0][1].SeriesInstanceUID)
    if missing:
        headers.sort(key=lambda pair: (_number(pair[1]), pair[0].name))
        positions = [(0.0, 0.0, float(index)) for index in range(max(len(headers), counts[0]))]
        frames = _frames(headers, positions)
        return Series(
            uid, folder, headers[0][1], frames, rows, columns, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), missing
        )
    first = headers[0][1]
    axes = np.array(_find(first, "ImageOrientationPatient"), float).reshape(2, 3)
    direction = np.column_stack([*axes, np.cross(*axes)])
    thickness = float(_find(first, "SliceThickness"))
    if counts[0] > 1:
        positions = _positions(first, counts[0], direction[:, 2] * thickness)
    else:
        headers.sort(key=lambda pair: float(np.dot(_find(pair[1], "ImagePositionPatient"), direction[:, 2])))
        positions = [tuple(map(float, _find(header, "ImagePositionPatient"))) for _, header in headers]
    step = float(np.dot(np.subtract(positions[-1], positions[0]), direction[:, 2])) / max(len(positions) - 1, 1)
    row_spacing, column_spacing = map(float, _find(first, "PixelSpacing"))
    spacing = (column_spacing, row_spacing, step if step > 0 else thickness)
    return Series(
        uid, folder, headers[0][1], _frames(headers, positions), rows, columns, spacing, positions[0], direction, ()
    )


def _header(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:  # its text may hold values of the header
        raise MediaError(f"{path}: the DICOM header cannot be read ({type(error).__name__}); store it again") from None


def _find(header: Dataset, keyword: str) -> Any:
    """A value of the outermost level, or of the functional groups of the first frame; None where there is none."""
    if header.get(keyword):
        return header.get(keyword)
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in list(header.get(groups) or ())[:1]:
            for group in item.get(_GROUPS.get(keyword, ""), None) or ():
                if group.get(keyword):
                    return group.get(keyword)
    return None


def _number(header: Dataset) -> int:
    try:
        return int(header.get("InstanceNumber"))
    except (TypeError, ValueError):
        return _NO_NUMBER


def _positions(header: Dataset, count: int, step: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """Of the frames of a multi-frame picture: each its own, or one `step` after the other from the first."""
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    own = [item.get(_POSITION)[0].get("ImagePositionPatient") for item in groups if item.get(_POSITION)]
    if len(own) == count and all(own):
        return [tuple(map(float, each)) for each in own]
    first = np.array(_find(header, "ImagePositionPatient"), float)
    return [tuple((first + index * step).tolist()) for index in range(count)]


def _frames(headers: list[tuple[Path, Dataset]], positions: list[tuple[float, float, float]]) -> tuple[Frame, ...]:
    several = len(headers) == 1 and int(headers[0][1].get("NumberOfFrames") or 1) > 1
    files = headers * len(positions) if several else headers
    return tuple(
        Frame(path, str(header.SOPClassUID), str(header.SOPInstanceUID), number if several else None, position)
        for number, ((path, header), position) in enumerate(zip(files, positions, strict=True), 1)
    )
