"""Masks, overlays and a table for pictures, DICOM frames and volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.engines.frame_result import MOVING, FrameResult
from scripts.io.errors import MediaError
from scripts.io.image_reader import read_rgb
from scripts.io.provenance import Provenance
from scripts.io.table import Table
from scripts.io.writers import OutputNamer, remove_output, write_mask_png, write_overlay_png

RESULT_COLUMNS = (
    *("file", "width", "height", "lesion_px", "lesion_share", "mean_confidence", "lesion_confidence"),
    *("agreement", "agreement_of", "quality", "mask", "overlay"),
)
RESULTS_FILE = "results.csv"


class PictureResults:
    """Writes ``masks/`` and ``overlays/`` (PNG, sub-folders as in the input), and ``results.csv`` at the end.

    The frames of a file of several are numbered in a folder of its name, ``masks/cine/000003.png``: the form in which
    training takes masks of single frames.

    Args:
        sources: all files of the run if known, so that output names do not depend on their order.
        overlays: whether overlay pictures are written.
        provenance: written beside each mask; None = not.
    """

    def __init__(
        self, sources: Iterable[str] = (), overlays: bool = True, provenance: Provenance | None = None
    ) -> None:
        self.sources = tuple(sources)
        self.overlays = overlays
        self.provenance = provenance
        self.start(Path())

    def start(self, output_dir: Path) -> None:
        """Begin a new table."""
        self.output_dir = output_dir
        self.results = Table(RESULT_COLUMNS)
        self._namer = OutputNamer(self.sources, suffix="")

    def takes(self, kind: str) -> bool:
        """Everything but what moves."""
        return kind not in MOVING

    def add(self, result: FrameResult) -> None:
        """Write the mask, the overlay and the row of one frame.

        Raises:
            MediaError: the frame cannot be read.
            ValueError: the mask is of another size than the frame.
        """
        try:
            picture = read_rgb(result.path)  # even without overlays: proves that the mask has the frame's size
        except OSError as error:  # no permission, a network drive gone: this frame's fault, not the output folder's
            raise MediaError(f"{result.path}: cannot be opened ({error}); check its permissions") from error
        if picture.shape[:2] != result.mask.shape:
            raise ValueError(
                f"probability is {result.mask.shape}, the picture {picture.shape[:2]} (height, width): resize it back."
            )
        name = frame_name(self._namer(result.source), result.file, result.source, result.frame)
        mask_name, overlay_name = f"masks/{name}", f"overlays/{name}" if self.overlays else None
        write_mask_png(self.output_dir / mask_name, result.mask)
        if overlay_name:
            write_overlay_png(self.output_dir / overlay_name, picture, result.mask)
        if self.provenance is not None:
            self.provenance.write_beside(self.output_dir / mask_name, result.path)
        self.results.add(file=result.file, **result.figures, mask=mask_name, overlay=overlay_name)

    def failed(self, item: Mapping[str, Any], error: str) -> None:
        """Nothing is left of a frame that cannot be read: what an earlier run wrote speaks of another one."""
        file, source = str(item["file"]), str(item["source"])
        try:
            name = frame_name(self._namer(source), file, source, int(item["frame"]))
        except ValueError:  # a name that leaves the folder: nothing was ever written for it
            return
        for folder in ("masks", "overlays"):
            remove_output(self.output_dir / folder / name)

    def finish_source(self) -> None:
        """Each frame is written when it comes."""

    def finish(self) -> None:
        """Write the table. Raises OutputError."""
        self.results.write(self.output_dir / RESULTS_FILE)


def frame_name(source_name: str, file: str, source: str, frame: int) -> str:
    """File name of a frame's PNG: that of its source, or a number in a folder of that name."""
    return f"{source_name}.png" if file == source else f"{source_name}/{frame:06d}.png"
