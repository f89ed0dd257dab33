"""Which DICOM reads right: storage class x transfer syntax x photometric interpretation x frames -> result.

    python benchmarks/dicom_matrix.py [--data ../shared/data/dicom]      # writes benchmarks/results/dicom_matrix.csv

Made files (tests/io/make_dicom.py) lie in a temporary folder; --data adds the files of a folder. The result is "read"
with the largest difference to pydicom's own conversion over all frames (of made videos: to the frames that went in), or
the error's text without paths. Exit status 1 when a difference to pydicom is above 2 grey levels.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bundle"), str(ROOT / "tests" / "io")]

from make_dicom import SOP_CLASSES, VIDEO, WRITABLE, pictures, write_dicom, write_video_dicom  # noqa: E402

from scripts.io.dicom_reader import DicomFile  # noqa: E402
from scripts.io.errors import MediaError  # noqa: E402
from scripts.io.writers import write_bytes  # noqa: E402

COLUMNS = ("source", "sop_class", "transfer_syntax", "photometric", "planar", "frames", "bits", "result")
TOLERANCE = 2  # grey levels of 255


def pydicom_rgb(path: Path) -> np.ndarray:
    """What pydicom itself makes of a file, (N, H, W, 3) uint8."""
    dataset = pydicom.dcmread(path)
    if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and dataset.PhotometricInterpretation[:4] == "PALE":
        for colour in ("Red", "Green", "Blue"):  # pydicom takes every palette for little-endian
            keyword = f"{colour}PaletteColorLookupTableData"
            setattr(dataset, keyword, np.frombuffer(dataset[keyword].value, ">u2").astype("<u2").tobytes())
    baseline = dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    values = pixel_array(dataset, decoding_plugin="pillow" if baseline else "")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        values = (values / 257).round().astype(np.uint8) if values.dtype == np.uint16 else values
    elif dataset.SamplesPerPixel == 1:
        grey = 255 - values if dataset.PhotometricInterpretation == "MONOCHROME1" else values
        values = np.stack([grey] * 3, axis=-1)
    return values.reshape(-1, *values.shape[-3:])


def made_files(folder: Path) -> Iterator[tuple[str, Path, np.ndarray | None]]:
    """Make every combination that can be written -> ("made", file, frames of a video that went in)."""
    path = folder / "made.dcm"
    for name, (uid, _) in SOP_CLASSES.items():
        multi = "Multi" in name or "Video" in name
        for syntax, kinds in WRITABLE.items():
            if "Video" in name:
                break
            for photometric in kinds:
                grey = photometric.startswith("MONOCHROME")
                if ("Grayscale" in name and not grey) or ("True Color" in name and (grey or photometric[:3] == "PAL")):
                    continue
                for planar in (0, 1) if photometric in ("RGB", "YBR_FULL") and not syntax.is_encapsulated else (0,):
                    rgb = pictures(3 if multi else 1)
                    write_dicom(path, rgb, photometric=photometric, syntax=syntax, sop_class=uid, planar=planar)
                    yield "made", path, None
        if "Video" in name:
            for syntax in VIDEO:
                frames = pictures(6, 96, 128)
                yield "made", write_video_dicom(path, frames, syntax=syntax, sop_class=uid), frames


def describe(source: str, path: Path, frames: np.ndarray | None) -> dict[str, object]:
    """One row of the table."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    row: dict[str, object] = {
        "source": source,
        "sop_class": dataset.SOPClassUID.name,
        "transfer_syntax": f"{syntax} {syntax.name}",
        "photometric": dataset.get("PhotometricInterpretation", ""),
        "planar": dataset.get("PlanarConfiguration", ""),
        "frames": dataset.get("NumberOfFrames", 1),
        "bits": dataset.get("BitsStored", ""),
        "levels": "",
    }
    try:
        with DicomFile(path) as file:
            reference = frames if file.is_video else pydicom_rgb(path)
            for index in range(len(file)):
                frame = file.frame(index)
                if reference is not None:
                    levels = int(np.abs(frame.astype(int) - reference[index].astype(int)).max())
                    row["levels"] = max(levels, row["levels"] or 0)
            against = "the frames that went in" if file.is_video else "pydicom"
            row["result"] = f"read, max difference to {against} {row['levels']}"
            if file.is_video:
                row["levels"] = ""  # lossy: not held to the tolerance
    except MediaError as error:
        row["result"] = str(error).replace(f"{path}: ", "")
    return row


def dicom_matrix(data: Path | None = None) -> list[dict[str, object]]:
    """Read every made file, and every file of `data` -> rows: COLUMNS, and "levels" off pydicom."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about the JPEGs that it converts itself
        rows = [describe(*made) for made in made_files(Path(folder))]
        for path in sorted(data.iterdir()) if data else ():
            rows.append(describe(path.name, path, None))
    return rows


def main() -> int:
    """Write the table; 1 where a file differs from pydicom's conversion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real DICOM files to add")
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "results" / "dicom_matrix.csv")
    options = parser.parse_args()
    rows = dicom_matrix(options.data)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(options.csv, text.getvalue().encode())
    read = [row for row in rows if str(row["result"]).startswith("read")]
    wrong = [row for row in read if row["levels"] != "" and int(row["levels"]) > TOLERANCE]
    print(f"{len(rows)} files, {len(read)} read, {len(wrong)} of them more than {TOLERANCE} levels off; {options.csv}")
    for row in wrong:
        print(row)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
