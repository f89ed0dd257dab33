"""What the trainer costs over a bare PyTorch loop of the same network, views, losses, teacher and optimizer.

    python benchmarks/loop_overhead.py [--objective weak_to_strong] [--image-size 128] [--rounds 5]

Both run in one process, in turns of one epoch, from the same state and data; the trainer with its progress bar, log and
collapse guard. Writes benchmarks/results/loop_overhead.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bundle"))

from scripts.engines.guards import CollapseGuard  # noqa: E402
from scripts.engines.run_log import ProgressBar, RunLog  # noqa: E402
from scripts.engines.schedules import SigmoidRampUp, parameter_groups, warmup_poly  # noqa: E402
from scripts.engines.streams import stream_loader  # noqa: E402
from scripts.engines.teacher import EMATeacher  # noqa: E402
from scripts.engines.trainer import SemiSupervisedTrainer  # noqa: E402
from scripts.losses import build_objective, supervised_loss  # noqa: E402
from scripts.networks import LESSNet  # noqa: E402
from scripts.transforms import view  # noqa: E402

BATCH = 8  # labelled and unlabelled frames a step


def frames(count: int, size: int, labelled: bool) -> list[dict]:
    """Random frames, as the cache holds them."""
    items = []
    for index in range(count):
        item = {"image": torch.randint(0, 256, (3, size, size), dtype=torch.uint8), "file": f"{index}.png"}
        if labelled:
            item["label"] = torch.zeros(1, size, size, dtype=torch.uint8)
            item["label"][:, : size // 3, : size // 3] = 1
        items.append(item)
    return items


class Parts:
    """One independent copy of everything that a loop moves."""

    def __init__(self, start: LESSNet, objective: str, iterations: int) -> None:
        self.network = deepcopy(start)
        self.teacher = EMATeacher(self.network, 0.99)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.network, 1e-3), lr=1e-3)
        self.scheduler = warmup_poly(self.optimizer, iterations)
        self.loss = supervised_loss()
        self.objective = build_objective(objective)
        self.weight = SigmoidRampUp(1.0)
        self.view = view(horizontal_flip=0.5, rotation=30, scale=(0.7, 1.5), brightness=0.3, contrast=0.3)


def bare_epoch(parts: Parts, labelled: torch.utils.data.DataLoader, unlabelled: torch.utils.data.DataLoader) -> None:
    """The loop that anybody would write by hand."""
    parts.network.train()
    for first, second in zip(labelled, unlabelled, strict=True):
        seen = parts.view(first["image"].float() / 255, first["label"])
        loss = parts.loss(parts.network(seen.image), seen.label)
        if parts.objective is not None:
            loss = loss + parts.objective(parts.network, parts.teacher, second["image"].float() / 255).loss
        parts.optimizer.zero_grad()
        loss.backward()
        parts.optimizer.step()
        parts.scheduler.step()
        parts.teacher.update(parts.network)
        loss.item()


def main() -> None:
    """Alternate, and print the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objective", default="weak_to_strong")
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--iterations", type=int, default=10, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each loop")
    args = parser.parse_args()
    torch.manual_seed(0)
    start = LESSNet("lite", encoder_weights="none")
    sets = [frames(32, args.image_size, True), frames(32, args.image_size, False)]
    loaders = [stream_loader(items, BATCH, args.iterations, seed=seed) for seed, items in enumerate(sets)]
    total = args.iterations * (args.rounds + 1)
    bare, own = Parts(start, args.objective, total), Parts(start, args.objective, total)
    times: dict[str, list[float]] = {"bare": [], "trainer": []}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SemiSupervisedTrainer(
            device="cpu", max_epochs=1, train_data_loader=loaders[0], unlabeled_data_loader=loaders[1],
            network=own.network, teacher=own.teacher, optimizer=own.optimizer, lr_scheduler=own.scheduler,
            loss_function=own.loss, objective=own.objective, unsupervised_weight=own.weight, labeled_view=own.view,
            train_handlers=[RunLog(folder), ProgressBar(), CollapseGuard(0.1, patience=10**6)],
        )  # fmt: skip
        for turn in range(args.rounds + 1):  # the first turn of each warms up
            for name in ("bare", "trainer"):
                begun = time.perf_counter()
                if name == "bare":
                    bare_epoch(bare, *loaders)
                else:
                    trainer.state.max_epochs = turn + 1
                    trainer.run()
                if turn:
                    times[name].append((time.perf_counter() - begun) / args.iterations)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["trainer"] / medians["bare"]
    row = {
        "objective": args.objective, "image_size": args.image_size, "batch": f"{BATCH}+{BATCH}",
        "bare_ms": round(1e3 * medians["bare"], 1), "trainer_ms": round(1e3 * medians["trainer"], 1),
        "ratio": round(ratio, 3), "rounds": args.rounds, "threads": torch.get_num_threads(), "seed": 0,
    }  # fmt: skip
    path = ROOT / "benchmarks" / "results" / "loop_overhead.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
    print(row)


if __name__ == "__main__":
    main()
