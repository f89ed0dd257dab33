"""The tiled contrastive loss against the form that holds the whole matrix: memory, time and agreement.

    python benchmarks/tiled_contrast.py

Each form runs in a process of its own, forward and backward, on random features that are all anchors; extra memory is
the rise of the process's peak over what it held before the first call. Times are medians of rounds that alternate
between the forms, and are worth comparing only within one call. Writes benchmarks/results/tiled_contrast.csv.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bundle"))

from bundle_run import write  # noqa: E402

from scripts.engines.run_directory import processor  # noqa: E402
from scripts.losses.tiled_contrast import TILE_MIB, supervised_contrast  # noqa: E402

TEMPERATURE = 0.1
CLASSES = 3
RESULTS = ROOT / "benchmarks" / "results" / "tiled_contrast.csv"


def one_matrix(features: Tensor, classes: Tensor) -> Tensor:
    """The usual way to write it: one matrix of similarities, which autograd keeps copies of."""
    similarity = features @ features.T / TEMPERATURE
    itself = torch.eye(len(features), dtype=torch.bool)
    positive = (classes[:, None] == classes[None, :]) & ~itself
    log_probability = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    return -((log_probability * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def tiled(tile_mib: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The product's form with a tile of that size."""

    def loss(features: Tensor, classes: Tensor) -> Tensor:
        every = torch.arange(len(features))
        return supervised_contrast(features, classes, every, TEMPERATURE, tile_mib=tile_mib)[0]

    return loss


def worker(form: str, anchors: int, channels: int, tile_mib: float) -> None:
    """Measure one call in this process, then one a line of input; prints a JSON line each."""
    torch.manual_seed(0)
    classes = torch.randint(0, CLASSES, (anchors,))
    loss_of = tiled(tile_mib) if form == "tiled" else one_matrix
    # Threads, allocator and code are there before the memory is read.
    small = torch.nn.functional.normalize(torch.randn(64, channels), dim=1).requires_grad_()
    loss_of(small, classes[:64]).backward()
    features = torch.nn.functional.normalize(torch.randn(anchors, channels), dim=1).requires_grad_()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while True:
        features.grad = None
        started = time.perf_counter()
        loss = loss_of(features, classes)
        loss.backward()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = {"seconds": seconds, "extra_mb": (peak - before) * 1024 / 1e6, "loss": loss.item()}
        found["gradient"] = features.grad.double().square().sum().sqrt().item()
        print(json.dumps(found), flush=True)
        if not sys.stdin.readline():
            return


def measure(forms: list[tuple[str, float]], anchors: int, channels: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of all forms at one size; their calls alternate, so that a busy machine slows each alike."""
    processes = []
    for form, tile_mib in forms:
        command = [sys.executable, __file__, "--worker", form, "--anchors", str(anchors), "--channels", str(channels)]
        command += ["--tile-mib", str(tile_mib)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append((process, [json.loads(process.stdout.readline())]))  # the first call: memory
    for _ in range(rounds):
        for process, found in processes:
            process.stdin.write("again\n")
            process.stdin.flush()
            found.append(json.loads(process.stdout.readline()))
    rows = []
    for (form, tile_mib), (process, found) in zip(forms, processes, strict=True):
        process.stdin.close()
        process.wait(timeout=60)
        rows.append(
            {
                "form": form,
                "anchors": anchors,
                "channels": channels,
                "tile_mib": round(tile_mib, 1) if form == "tiled" else "",
                "extra_peak_mb": round(found[-1]["extra_mb"], 1),
                "seconds": round(statistics.median(one["seconds"] for one in found[1:] or found), 3),
                "loss": round(found[0]["loss"], 6),
                "gradient_norm": f"{found[0]['gradient']:.6g}",
                "rounds": rounds,
                "machine": f"{processor()}, {torch.get_num_threads()} threads",
            }
        )
    return rows


def main() -> None:
    """Run the grid, or one process of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", choices=("tiled", "one matrix"), help=argparse.SUPPRESS)
    parser.add_argument("--anchors", type=int, default=12800)
    parser.add_argument("--many", type=int, default=50000, help="anchors that the tiled form alone has to stand")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--tile-mib", type=float, default=TILE_MIB)
    parser.add_argument("--tiles", type=float, nargs="*", default=[TILE_MIB], help="sizes of tile to compare, MiB")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.anchors, args.channels, args.tile_mib)
        return
    whole = 4.0 * args.anchors**2 / 2**20  # the product's own code, with all in one tile
    forms = [("one matrix", whole), ("tiled", whole), *(("tiled", tile) for tile in args.tiles)]
    rows = measure(forms, args.anchors, args.channels, args.rounds)
    if args.many:
        rows += measure([("tiled", args.tiles[0])], args.many, args.channels, 0)
    write(rows, RESULTS)
    for row in rows:
        print({key: value for key, value in row.items() if key != "machine"})
    for name, row in zip(("one matrix", "one tile"), rows, strict=False):
        print(f"time of {args.tiles[0]:g} MiB tiles / {name}: {rows[2]['seconds'] / row['seconds']:.2f}")


if __name__ == "__main__":
    main()
