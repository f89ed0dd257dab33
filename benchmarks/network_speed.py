"""Speed of the networks on CPU: one pass against two, lite against published, lite against MONAI's FlexibleUNet-b0.

    .venv/bin/python benchmarks/network_speed.py                 # writes benchmarks/results/network_speed.csv
    .venv/bin/python benchmarks/network_speed.py --threads 1 --clock cpu     # on a machine that does other work

All networks run in one process, one image each in turn, so that another load on the machine meets all alike; a speed-up
is the median over the rounds of the ratio within a round. Exit status 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.networks.nets import FlexibleUNet
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from scripts.engines.run_directory import processor  # noqa: E402
from scripts.networks import LESSNet  # noqa: E402


class TwoPasses(nn.Module):
    """``published`` as released: the backbone runs twice in a forward and the first taps are thrown away."""

    def __init__(self, network: LESSNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, 2, H, W)."""
        self.network.encode(x)
        return self.network.decode(self.network.encode(x), (x.shape[2], x.shape[3]))


@dataclass
class Case:
    """One timed network.

    Attributes:
        side: of the square input, pixels. batch: images. train: forward, loss, backward and step in place of a forward.
        made_of: the network that an export was made of, for its parameters and GMAC.
    """

    network: nn.Module
    side: int
    batch: int = 1
    train: bool = False
    made_of: nn.Module | None = None


@dataclass(frozen=True)
class Bar:
    """``fast`` has to run at least ``factor`` times as fast as ``slow``; a factor of 0 only reports the ratio."""

    fast: str
    slow: str
    factor: float


PAUSE = 0.1  # seconds

BARS = [
    Bar("published 512", "published two passes 512", 1.2),
    Bar("lite 512", "published 512", 8.0),
    Bar("lite 256", "FlexibleUNet-b0 256", 1.0),
    Bar("lite 256", "FlexibleUNet-b0 channels_last 256", 1.0),
    Bar("lite_mobilevit_xxs 256", "FlexibleUNet-b0 256", 0.0),
    Bar("lite_mobilevit_xs 256", "FlexibleUNet-b0 256", 0.0),
    Bar("lite 256", "lite contiguous 256", 0.0),
    Bar("lite training step 192 batch 8", "lite contiguous training step 192 batch 8", 0.0),
]


def flexible_unet() -> nn.Module:
    """MONAI's lightest U-Net on EfficientNet-b0, with a narrow decoder."""
    return FlexibleUNet(3, 2, "efficientnet-b0", pretrained=False, decoder_channels=(64, 48, 32, 24, 16))


def build_cases() -> dict[str, Case]:
    """Every network of the table, from random numbers: time does not depend on the weights."""

    def less_net(preset: str, **options: bool) -> LESSNet:
        return LESSNet(preset, encoder_weights="none", **options).eval()

    published, lite = less_net("published"), less_net("lite")
    contiguous = less_net("lite", channels_last=False)
    return {
        "published 512": Case(published, 512),
        "published two passes 512": Case(TwoPasses(published), 512),
        "lite 512": Case(lite, 512),
        "lite 256": Case(lite, 256),
        "lite contiguous 256": Case(contiguous, 256),
        "FlexibleUNet-b0 256": Case(flexible_unet().eval(), 256),
        "FlexibleUNet-b0 channels_last 256": Case(flexible_unet().eval().to(memory_format=torch.channels_last), 256),
        "lite_mobilevit_xxs 256": Case(less_net("lite_mobilevit_xxs"), 256),
        "lite_mobilevit_xs 256": Case(less_net("lite_mobilevit_xs"), 256),
        "lite training step 192 batch 8": Case(less_net("lite").train(), 192, 8, train=True),
        "lite contiguous training step 192 batch 8": Case(
            less_net("lite", channels_last=False).train(), 192, 8, train=True
        ),
    }


def runner(case: Case) -> Callable[[], None]:
    """The timed call."""
    x = torch.rand(case.batch, 3, case.side, case.side)
    if not case.train:

        def forward() -> None:
            with torch.inference_mode():
                case.network(x)

        return forward

    truth = torch.randint(0, 2, (case.batch, case.side, case.side))
    optimizer = torch.optim.AdamW(case.network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(case.network(x), truth).backward()
        optimizer.step()

    return step


def time_all(cases: dict[str, Case], repeats: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Milliseconds of each round; the order turns round in every second one. The first round warms up, uncounted.

    So does a call before each counted one, after a pause: until then threads of the library before it may be spinning.
    """
    calls = {name: runner(case) for name, case in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        names = list(calls) if repeat % 2 else list(calls)[::-1]
        for name in names:
            time.sleep(PAUSE)
            calls[name]()
            start = clock()
            calls[name]()
            if repeat:
                times[name].append((clock() - start) * 1e3)
        print(f"\rround {repeat} of {repeats}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times


def gmac(case: Case) -> float:
    """10^9 multiply-accumulates of one forward of one image (one is two of torch's flops)."""
    network = case.made_of or case.network
    training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, 3, case.side, case.side))
    network.train(training)
    return counter.get_total_flops() / 2e9


def machine() -> str:
    """Processor, its cores and the versions that matter."""
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}, torch {torch.__version__}"


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    """Write the table whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def read_options(description: str | None, csv_name: str) -> argparse.Namespace:
    """Options of the command line; sets threads and seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="counted rounds (default 20)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu = processor time of this process, which other processes do not lengthen; for one thread only",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks" / "results" / csv_name)
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu adds up the threads and their waiting: use it with --threads 1")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    return options


def measure(cases: dict[str, Case], bars: Sequence[Bar], options: argparse.Namespace) -> int:
    """Time, print, write; 1 when a bar is missed."""
    times = time_all(cases, options.repeats, time.process_time if options.clock == "cpu" else time.perf_counter)

    common = {
        "repeats": options.repeats,
        "threads": options.threads,
        "clock": options.clock,
        "seed": options.seed,
        "machine": machine(),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    columns = ("side_px", "batch", "parameters", "gmac", "p50_ms", "p95_ms", "faster_than", "speedup", "bar", "met")
    rows: list[dict[str, object]] = []
    for name, case in cases.items():
        parameters = sum(parameter.numel() for parameter in (case.made_of or case.network).parameters())
        ordered = sorted(times[name])
        p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
        values = (case.side, case.batch, parameters, f"{gmac(case):.3f}", f"{statistics.median(ordered):.1f}")
        row = {"case": name, **dict.fromkeys(columns, ""), **dict(zip(columns, values, strict=False))}
        rows.append({**row, "p95_ms": f"{p95:.1f}", **common})
        print(f"{name:44s} {parameters:>11,d} parameters {values[3]:>7s} GMAC  p50 {values[4]:>7s}  p95 {p95:7.1f} ms")
    missed = 0
    for bar in bars:
        speedup = statistics.median(slow / fast for fast, slow in zip(times[bar.fast], times[bar.slow], strict=True))
        met = speedup >= bar.factor
        missed += not met
        verdict = {"bar": bar.factor, "met": met} if bar.factor else {}
        comparison = {"case": bar.fast, **dict.fromkeys(columns, ""), "faster_than": bar.slow}
        rows.append({**comparison, "speedup": f"{speedup:.2f}", **verdict, **common})
        print(f"{bar.fast} / {bar.slow}: {speedup:.2f}x" + (f" (bar {bar.factor}x, {met})" if bar.factor else ""))
    write_csv(options.csv, rows)
    print(f"written to {options.csv}")
    return 1 if missed else 0


if __name__ == "__main__":
    arguments = read_options(__doc__, "network_speed.csv")
    raise SystemExit(measure(build_cases(), BARS, arguments))
