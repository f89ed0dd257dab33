"""DICOM segmentations for the DICOM files of a run."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scripts.engines.frame_result import DICOM, FrameResult
from scripts.io.dicom_codes import SegAlgorithm, finding_code
from scripts.io.dicom_seg_pixels import KINDS
from scripts.io.errors import MediaError
from scripts.io.media import open_media
from scripts.io.provenance import Provenance
from scripts.io.writers import OutputNamer, remove_output

if TYPE_CHECKING:
    from scripts.io.dicom_seg import SegSeries

_FOLDER = "segmentations"


class DicomSegResults:
    """Writes ``segmentations/``: one DICOM SEG for each DICOM file, when all of its frames have come.

    The SEG of files of one series go into one new series.

    Args:
        algorithm: what made the masks.
        sources: all files of the run if known, so that output names do not depend on their order.
        kind: "binary", "fractional" (probabilities) or "none" (nothing is written).
        finding: "lesion", "polyp" or "hemorrhage".
        provenance: written beside each SEG; None = not.

    Raises:
        ValueError: another kind or finding.
    """

    def __init__(
        self,
        algorithm: SegAlgorithm,
        sources: Iterable[str] = (),
        kind: str = "binary",
        finding: str = "lesion",
        provenance: Provenance | None = None,
    ) -> None:
        known = (*(name.lower() for name in KINDS), "none")
        if kind not in known:
            raise ValueError(f"segmentation is {kind!r}; expected one of {', '.join(known)}")
        finding_code(finding)
        self.algorithm = algorithm
        self.sources = tuple(sources)
        self.kind = kind
        self.finding = finding
        self.provenance = provenance
        self.start(Path())

    def start(self, output_dir: Path) -> None:
        """Begin a new run."""
        self.output_dir = output_dir
        self._namer = OutputNamer(self.sources, suffix=".dcm")
        self._series: dict[str, SegSeries] = {}
        self._begin()

    def _begin(self) -> None:
        self._source: tuple[str, str] | None = None  # file, path
        self._unread: str | None = None  # file of which a frame, or all, could not be read
        self._frames = PackedFrames()

    def takes(self, kind: str) -> bool:
        """DICOM files, still or moving."""
        return self.kind != "none" and kind in DICOM

    def add(self, result: FrameResult) -> None:
        """Keep the mask or the probability of one frame, compressed."""
        self._source = (result.source, result.source_path)
        self._frames.add(result.frame, result.mask if self.kind == "binary" else result.probability)

    def failed(self, item: Mapping[str, Any], error: str) -> None:
        """The SEG says nothing of a frame that cannot be read."""
        self._unread = str(item["source"])

    def finish_source(self) -> None:
        """Write the SEG of the source; where there is none, that of an earlier run goes.

        Raises:
            MediaError: it lacks what a SEG must refer to.
        """
        from scripts.io.dicom_seg import write_seg  # highdicom takes a second, which a folder of pictures can save

        source, frames, unread = self._source, self._frames, self._unread
        self._begin()
        if source is None:  # no frame of it could be read
            if unread is not None:
                remove_output(self.output_dir / _FOLDER / self._namer(unread))
            return
        file, path = source
        header = open_media(Path(path)).dataset
        series = self._next_in_series(str(header.get("SeriesInstanceUID", "")))
        target = self.output_dir / _FOLDER / self._namer(file)
        try:
            write_seg(
                target,
                header,
                frames,
                finding=self.finding,
                kind=self.kind.upper(),
                algorithm=self.algorithm,
                series=series,
            )
        except ValueError as error:
            remove_output(target)
            raise MediaError(f"{file}: no DICOM SEG written: {error}") from error
        if self.provenance is not None:
            self.provenance.write_beside(target, Path(path))

    def _next_in_series(self, source_series: str) -> SegSeries:
        from scripts.io.dicom_seg import SegSeries

        last = self._series.get(source_series)
        new = SegSeries() if last is None else SegSeries(last.uid, last.number, last.instance + 1)
        self._series[source_series] = new
        return new

    def finish(self) -> None:
        """Each SEG is written when its source ends."""


class PackedFrames(Mapping[int, NDArray]):
    """Frame number -> mask (H, W) bool or probability (H, W) float, kept compressed: a clip has thousands of them.

    Probabilities are kept in steps of 1/255, as the SEG does.
    """

    def __init__(self) -> None:
        self._packed: dict[int, tuple[bytes, tuple[int, int], bool]] = {}

    def add(self, frame: int, values: NDArray) -> None:
        """Keep one frame."""
        binary = values.dtype == bool
        stored = np.packbits(values) if binary else np.rint(values * 255).astype(np.uint8)
        self._packed[frame] = (zlib.compress(stored.tobytes(), 1), values.shape, binary)

    def __getitem__(self, frame: int) -> NDArray:
        packed, shape, binary = self._packed[frame]
        stored = np.frombuffer(zlib.decompress(packed), np.uint8)
        if binary:
            return np.unpackbits(stored, count=shape[0] * shape[1]).astype(bool).reshape(shape)
        return stored.reshape(shape).astype(np.float32) / 255

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)
