"""Many clients at once: 50 inferences by 4 clients of the MONAI Label server, their times, and the server's memory.

    .venv-label/bin/python benchmarks/label_server.py --images ../shared/data/wce_bleeding/images --weights model.pt

The server is started as the README starts it. Each repetition is the same 50 calls; memory is the server's resident set
after each, so that growth shows. Writes benchmarks/results/label_server.csv, a row a repetition.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from annotation_rounds import ROOT, Server
from monailabel.client import MONAILabelClient
from slicer_calls import MODEL

from scripts.engines.run_directory import processor

RESULT = ROOT / "benchmarks" / "results" / "label_server.csv"


def main() -> None:
    """Start, warm up, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="model.pt of a run or a round")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "studies").mkdir()
        for path in sorted(args.images.iterdir())[: args.calls]:
            shutil.copy(path, folder / "studies")
        (folder / "rounds").mkdir()
        shutil.copy(args.weights, folder / "rounds" / "round_001.pt")
        server = Server(argparse.Namespace(weights="none"), folder)
        try:
            rows = measure(args, server, folder)
            log = (folder / "server.log").read_text(errors="replace")
        finally:
            server.stop()
    rows[-1]["log_errors"] = sum("ERROR" in line or "Traceback" in line for line in log.splitlines())
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(row)


def measure(args: argparse.Namespace, server: Server, folder: Path) -> list[dict]:
    """One row a repetition; the calls before the first are not counted."""
    client = MONAILabelClient(server.url, str(folder))
    images = sorted(client.datastore()["objects"])
    rows = []
    for repetition in range(args.repetitions + 1):
        times: list[float] = []
        errors: list[str] = []

        def work(offset: int, times: list[float] = times, errors: list[str] = errors) -> None:
            with tempfile.TemporaryDirectory() as own:
                mine = MONAILabelClient(server.url, own, client_id=str(offset))
                for number in range(offset, args.calls, args.clients):
                    begun = time.perf_counter()
                    try:
                        result, _ = mine.infer(MODEL, images[number % len(images)], {"result_extension": ".nrrd"})
                        os.unlink(result)
                    except Exception as error:  # counted, not raised: the others go on
                        errors.append(repr(error))
                    times.append(time.perf_counter() - begun)

        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(args.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if repetition == 0:
            continue
        rows.append(
            {
                "repetition": repetition,
                "calls": args.calls,
                "clients": args.clients,
                "errors": len(errors),
                "p50_ms": round(1000 * statistics.median(times)),
                "p95_ms": round(1000 * statistics.quantiles(times, n=20)[-1]),
                "resident_MiB": resident(server.process.pid),
                "processor": f"{processor()}, {os.cpu_count()} cores",
            }
        )
        if errors:
            print(*errors[:3], sep="\n", file=sys.stderr)
    return rows


def resident(pid: int) -> int:
    """Resident set of a process, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) // 1024


if __name__ == "__main__":
    main()
