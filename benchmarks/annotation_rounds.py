"""Rounds of annotation through the MONAI Label server: which images to label next, and what it is worth.

    .venv-label/bin/python benchmarks/annotation_rounds.py --data ../shared/data/wce_bleeding \
        --weights ../shared/weights/mobilenetv2_100.in1k.safetensors --seeds 0 1

For each seed: a fifth of the groups is held out for testing. The rest, without masks, become a studies folder. The
first labels are chosen by "diversity"; then each strategy goes its own way: ask the server for the next images, save
their truth masks (which play the person), train a round, test the new weights on the held-out frames. Everything goes
through a real server and MONAI Label's client; testing is configs/evaluate.json. Writes
benchmarks/results/annotation_rounds.csv, a row a round; rounds that are in it are not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "label_app" / "examples"), str(ROOT / "bundle")]

from monailabel.client import MONAILabelClient  # noqa: E402
from slicer_calls import MODEL, train  # noqa: E402

from scripts.engines.run_directory import processor  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "annotation_rounds.csv"
COLUMNS = [
    "data", "seed", "strategy", "labels", "with_lesion", "dice", "iou", "dice_pooled", "false_positive_frames",
    "train_s", "epochs", "val_dice", "chosen", "processor",
]  # fmt: skip


def main() -> None:
    """Run what is missing from the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="images/, masks/, groups.csv")
    parser.add_argument("--weights", type=Path, required=True, help="of the encoder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--strategies", nargs="+", default=["uncertainty", "random"])
    parser.add_argument("--labels", type=int, default=5, help="at the start and in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--work", type=Path, default=ROOT / "bundle" / "runs" / "annotation_rounds")
    args = parser.parse_args()
    args.data, args.weights = args.data.resolve(), args.weights.resolve()
    for seed in args.seeds:
        one_seed(args, seed)


def one_seed(args: argparse.Namespace, seed: int) -> None:
    """The start that all strategies share, then each by itself."""
    work = args.work.resolve() / f"seed{seed}"
    pool, test = split(args.data, seed)
    start = work / "start"
    if not row_of(args, seed, "start", args.labels):
        shutil.rmtree(start, ignore_errors=True)
        make_studies(args.data, pool, start / "studies")
        one_round(args, seed, "diversity", "start", start, args.labels, pool, test)
    for strategy in args.strategies:
        own = work / strategy
        for number in range(1, args.rounds + 1):
            labels = args.labels * (number + 1)
            if row_of(args, seed, strategy, labels):
                continue
            if number == 1:
                shutil.rmtree(own, ignore_errors=True)
                shutil.copytree(start, own)
            one_round(args, seed, strategy, strategy, own, labels, pool, test)


def one_round(
    args: argparse.Namespace,
    seed: int,
    asked: str,
    name: str,
    folder: Path,
    labels: int,
    pool: list[str],
    test: list[str],
) -> None:
    """Choose, label, train, test; add a row to the table."""
    server = Server(args, folder)
    try:
        client = MONAILabelClient(server.url, str(folder), client_id="benchmark")
        server.ask("/scoring/lesion?run_sync=true")
        sample = client.next_sample(asked, {"n": args.labels, "seed": seed})
        for image in sample["choices"]:
            mask = next((args.data / "masks").glob(f"{image}.*"))
            with_png = folder / f"{image}.png"
            binary_png(mask, with_png)
            client.save_label(image, str(with_png), params={})
            with_png.unlink()
        begun = time.time()
        stats = train(client, {"max_epochs": args.epochs, "seed": seed}, say=lambda text: print(text, flush=True))
        seconds = time.time() - begun
        weights = folder / "rounds" / f"{stats['weights']}.pt"
    finally:
        server.stop()
    figures = evaluate(args.data, pool, test, weights, folder / f"test_{labels}")
    done = [path.stem for path in (folder / "studies" / "labels" / "final").iterdir()]
    value = {key: figures[key]["value"] for key in ("dice", "iou", "dice_pooled", "false_positive_frames")}
    row = {
        "data": args.data.name,
        "seed": seed,
        "strategy": name,
        "labels": labels,
        "with_lesion": sum(not image.startswith("nobleed") for image in done),
        **{key: None if found is None else round(found, 4) for key, found in value.items()},
        "train_s": round(seconds, 1),
        "epochs": args.epochs,
        "val_dice": stats["best_metric"],
        "chosen": " ".join(sample["choices"]),
        "processor": f"{processor()}, {os.cpu_count()} cores",
    }
    rows = [*read_rows(), row]
    temporary = RESULT.with_suffix(".partial")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(RESULT)
    print(json.dumps({key: row[key] for key in COLUMNS[1:12]}), flush=True)


class Server:
    """The server as the README starts it, on a free port."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(ROOT / "label_app")]
        command += ["--studies", str(folder / "studies"), "--port", str(port), "--conf", "models", MODEL]
        command += ["--conf", "encoder_weights", str(args.weights), "--conf", "weights_dir", str(folder / "rounds")]
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000", **os.environ}
        environment["MONAI_LABEL_AUTO_UPDATE_SCORING"] = "false"
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["PYTHONPATH"] = str(ROOT / "label_app")
        with (folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 0.5).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.2)
        self.stop()
        raise SystemExit(f"the server did not start, see {folder / 'server.log'}")

    def ask(self, path: str) -> Any:
        """POST without a body."""
        import requests

        answer = requests.post(self.url + path, json={}, timeout=600)
        answer.raise_for_status()
        return answer.json()

    def stop(self) -> None:
        """End it by its process id."""
        self.process.terminate()
        self.process.wait(30)


def split(data: Path, seed: int) -> tuple[list[str], list[str]]:
    """Files of images/ that may be labelled, and those held out: a fifth of the groups, of each kind of frame."""
    with (data / "groups.csv").open(newline="") as file:
        groups = {row["file"].removeprefix("images/"): row["group"] for row in csv.DictReader(file)}
    files = sorted(path.name for path in (data / "images").iterdir())
    kinds: dict[bool, list[str]] = {True: [], False: []}
    group_of = {file: groups.get(file, groups.get(Path(file).stem, file)) for file in files}
    for group in sorted(set(group_of.values())):
        kinds[any(group_of[file] == group and file.startswith("nobleed") for file in files)].append(group)
    held: set[str] = set()
    for names in kinds.values():
        random.Random(seed).shuffle(names)
        held |= set(names[: max(1, len(names) // 5)])
    return [f for f in files if group_of[f] not in held], [f for f in files if group_of[f] in held]


def make_studies(data: Path, files: list[str], studies: Path) -> None:
    """A studies folder of the images alone, with their groups."""
    studies.mkdir(parents=True)
    for file in files:
        shutil.copy(data / "images" / file, studies)
    shutil.copy(data / "groups.csv", studies)


def evaluate(data: Path, pool: list[str], test: list[str], weights: Path, output: Path) -> dict[str, Any]:
    """Figures of configs/evaluate.json on the held-out frames."""

    def items(files: list[str]) -> list[dict[str, str]]:
        masks = [next((data / "masks").glob(f"{Path(file).stem}.*")) for file in files]
        return [
            {"image": str(data / "images" / file), "label": str(mask)} for file, mask in zip(files, masks, strict=True)
        ]

    datalist = output.with_suffix(".json")
    # A config with a training and a validation section is what evaluate.json wants; their frames change no test figure.
    sections = {"training": items(pool[:1]), "validation": items(pool[-1:]), "test": items(test)}
    datalist.write_text(json.dumps(sections))
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", "['configs/train.json','configs/evaluate.json']", "--dataset_dir", str(datalist)]
    command += ["--checkpoint", str(weights), "--evaluation_dir", str(output), "--encoder_weights", "none"]
    done = subprocess.run(command, cwd=ROOT / "bundle", capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    return json.loads((output / "test_metrics.json").read_text())["best"]["figures"]


def binary_png(mask: Path, target: Path) -> None:
    """A mask of whatever format as PNG of 0 and 255."""
    from PIL import Image

    from scripts.io.mask_reader import read_mask

    Image.fromarray(read_mask(mask) * 255).save(target)


def read_rows() -> list[dict[str, str]]:
    """The table so far."""
    if not RESULT.is_file():
        return []
    with RESULT.open(newline="") as file:
        return list(csv.DictReader(file))


def row_of(args: argparse.Namespace, seed: int, strategy: str, labels: int) -> dict[str, str] | None:
    """The row of this very round, if it is in the table."""
    wanted = {"data": args.data.name, "seed": seed, "strategy": strategy, "labels": labels, "epochs": args.epochs}
    return next((row for row in read_rows() if all(row[key] == str(value) for key, value in wanted.items())), None)


if __name__ == "__main__":
    main()
