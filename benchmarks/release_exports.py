"""The released weights in every export format, compared with the original: how alike the masks are.

    python benchmarks/release_exports.py --data ../shared/data

Runs configs/export.json on two hundred frames of the data they were trained and tested on: INT8 is calibrated on every
second one, and all formats are compared on the others. Writes benchmarks/results/released_exports.csv, a row a format.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bundle_run import ROOT, kept_rows, run_bundle, write
from release_weights import MODELS, SOURCES, merged_sources

from scripts.io.provenance import file_sha256

FORMATS = ("torchscript", "onnx", "openvino", "openvino_int8")
RESULT = ROOT / "benchmarks" / "results" / "released_exports.csv"


def main() -> None:
    """Export and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=f"folder of {' and '.join(SOURCES.values())}")
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    frames = merged_sources(args.data, args.work)
    weights = file_sha256(MODELS / "model.pt")
    overrides = {"dataset_dir": (frames / "images").resolve(), "formats": str(list(FORMATS))}
    run_dir = run_bundle(
        args.work, f"released_exports_{weights[:8]}", ["inference", "export"], overrides, "parity.csv", trains=False
    )
    rows = kept_rows(run_dir / "parity.csv")
    left_out = ("sha256", "checkpoint_sha256", "temperature")
    write([{name: value for name, value in row.items() if name not in left_out} for row in rows], RESULT)
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
