"""Label efficiency: method x network x share of labels x seed x data set, each cell by the bundle's own configs.

    W="mobilenetv2_100=../shared/weights/mobilenetv2_100.in1k.safetensors"
    python benchmarks/label_efficiency.py --data ../shared/data --weights $W --preset cpu --list
    python benchmarks/label_efficiency.py --data ../shared/data --weights $W --preset cpu --group headline rivals
    python benchmarks/label_efficiency.py --data ../shared/data --weights $W --preset gpu --parallel 6

Finished cells are rows of benchmarks/results/label_efficiency.csv and are not run again; stages that were stopped go
on. Order: groups headline and rivals with seed 0, then with seed 1, then 2; then methods, ablation, fusion and size
likewise. The axes (--datasets, --networks, --methods, --fractions, --starts, --seeds) pick cells of the groups; with
--group free they are multiplied. After each cell the CSV is written; at the end the reaches are printed and the
pictures drawn; python benchmarks/write_results.py puts the tables into the docs.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from bundle_run import ROOT, is_there, kept_rows, only_one, pairs, write
from label_axes import DATA, METHODS, NETWORKS, PRESETS
from label_cell import Setting, encoder_weights, run_cell
from label_grid import GROUPS, SEEDS, Cell, free, plan
from label_tables import of_reaches
from label_time import listing, time_left
from plot_label_efficiency import draw

RESULT = ROOT / "benchmarks" / "results" / "label_efficiency.csv"


def run_cells(cells: Sequence[Cell], setting: Setting, path: Path, parallel: int = 1) -> list[str]:
    """Run the cells that have no row yet, so many at once; returns a line for each that failed.

    A row is in the CSV as soon as its cell is finished. A cell that fails leaves no row, and the others go on. Another
    call may write to the same CSV, if it has the same folder of run directories.
    """
    failed: list[str] = []
    waiting = [cell for cell in cells if not is_there(kept_rows(path), key_of(cell, setting))]
    for cell in waiting:
        encoder_weights(cell, setting)  # A missing file is said before anything is run.

    def work(cell: Cell) -> None:
        if is_there(kept_rows(path), key_of(cell, setting)):
            return
        try:
            row = run_cell(cell, setting)
        except subprocess.CalledProcessError as error:
            failed.append(f"{title(cell)}: exit code {error.returncode}; its log is in {setting.work}")
            print(failed[-1], flush=True)
            return
        with only_one(setting.work / f"{path.stem}.lock"):
            rows = kept_rows(path)
            if not is_there(rows, key_of(cell, setting)):
                rows.append(row)
                write(rows, path)
        left = time_left([one for one in waiting if not is_there(rows, key_of(one, setting))], rows, setting, parallel)
        print(f"{title(cell)}: test Dice {row['best_dice']}; {left}", flush=True)

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        # Errors other than a failed run are of this script: they end the call.
        for _ in pool.map(work, waiting):
            pass
    return failed


def key_of(cell: Cell, setting: Setting) -> dict[str, Any]:
    """What the row of a cell has in this call."""
    return cell.key(setting.preset, setting.settings)


def title(cell: Cell) -> str:
    """A cell in a line."""
    share = f"{cell.label_fraction:.0%}"
    return f"{cell.data} {share}, {cell.method}, {cell.network} from {cell.start}, seed {cell.seed}"


def weights_of(given: Sequence[str]) -> dict[tuple[str, str], Path]:
    """BACKBONE[:START]=FILE texts; START is imagenet where it is left out.

    Raises:
        ValueError: no such file, or not of this form.
    """
    found = {}
    for text in given:
        name, equals, file = text.partition("=")
        backbone, _, start = name.partition(":")
        if not equals or not backbone:
            raise ValueError(f"--weights {text}: expected BACKBONE[:START]=FILE, such as mobilenetv2_100=weights.pt")
        if not Path(file).is_file():
            raise ValueError(f"--weights {text}: {file} does not exist; correct the path")
        found[backbone, start or "imagenet"] = Path(file)
    return found


def chosen_cells(args: argparse.Namespace) -> list[Cell]:
    """The cells that the options pick."""
    axes = {
        "data": args.datasets,
        "network": args.networks,
        "method": args.methods,
        "label_fraction": args.fractions,
        "start": args.starts,
    }
    if "free" not in args.group:
        return plan(args.group, args.seeds, {name: values for name, values in axes.items() if values})
    missing = [name for name, values in axes.items() if not values]
    if missing or len(args.group) > 1:
        raise ValueError(f"--group free stands alone and needs every axis; missing: {missing or 'none'}")
    return free(*axes.values(), args.seeds)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of kvasir_seg, wce_bleeding, cxr_montgomery")
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu")
    parser.add_argument("--group", nargs="+", choices=[*GROUPS, "free"], default=list(GROUPS))
    parser.add_argument("--datasets", nargs="+", choices=list(DATA))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS))
    parser.add_argument("--fractions", nargs="+", type=float, help="of the labels, 0..1")
    parser.add_argument("--starts", nargs="+", help="random, imagenet, or a name given by --weights")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="of split, label subset and weights")
    parser.add_argument("--weights", nargs="*", default=[], metavar="BACKBONE[:START]=FILE", help="of encoders")
    parser.add_argument("--parallel", type=int, default=1, help="cells at once, on a GPU (default 1)")
    parser.add_argument("--list", action="store_true", help="print the cells and the time they will take, run nothing")
    parser.add_argument("--set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of the measured stage")
    parser.add_argument(
        "--before-set", nargs="*", default=[], metavar="ID=VALUE", help="overrides of pretraining stages"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="", help="of all stages (default: the preset's, bf16)"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks" / "runs", help="run directories")
    parser.add_argument("--csv", type=Path, default=RESULT)
    args = parser.parse_args(words)
    if args.parallel < 1:
        parser.error(f"--parallel is {args.parallel}; expected 1 or more")
    if args.parallel > 1 and not torch.cuda.is_available():
        parser.error(
            f"--parallel {args.parallel} is for a GPU and torch sees none: on a CPU the cells share the cores, and "
            "none is done sooner; leave it out"
        )
    try:
        args.weights, args.cells = weights_of(args.weights), chosen_cells(args)
    except ValueError as error:
        parser.error(str(error))
    if not args.cells:
        parser.error("no cell of these groups has these axes; see --list without them, or use --group free")
    return args


def main() -> int:
    """Run the grid; 1 when a cell failed."""
    args = parsed()
    setting = Setting(
        args.data, args.work, args.preset, pairs(args.set), pairs(args.before_set), args.weights, args.precision
    )
    if args.list:
        print(listing(args.cells, kept_rows(args.csv), setting, args.parallel))
        return 0
    failed = run_cells(args.cells, setting, args.csv, args.parallel)
    rows = kept_rows(args.csv)
    print(of_reaches(rows))
    if args.csv == RESULT:
        for path in draw(rows, args.preset):
            print(path.relative_to(ROOT))
    if failed:
        print("Failed, and without a row:", *failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
