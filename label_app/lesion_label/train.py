"""Training on the labels of the datastore and on its images without: the bundle's own training, one round of it."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.train import TrainTask

from lesion_label.bundle import Bundle
from lesion_label.requests import device_of, first_of, one_of
from lesion_label.weights import CURRENT, NONE, WeightsError, WeightsStore
from scripts.data.seen_frames import seen_frames
from scripts.io.atomic import write_text
from scripts.io.errors import MediaError

logger = logging.getLogger(__name__)

OBJECTIVES = ("weak_to_strong", "supervised", "mean_teacher", "less_net")
MIN_LABELS = 3
STATE = "training.json"
ROUND = "configs/annotation_round.json"  # of the bundle


class LesionTrain(TrainTask):
    """One round: configs/train.json with a round's config over it, in a process of its own.

    Request parameters: max_epochs, objective, start_from ("current" weights, "release", a round, or "none" = the
    encoder's weights alone), seed, device.

    Args:
        bundle: whose configs run.
        store: where the result goes; its folder also keeps the runs and what the client is shown of them.
        encoder_weights: as in train.json, for rounds that start from none.
        min_labels: fewer final labels than this are refused.
        round_config: what is layered over train.json and the objective; None = configs/annotation_round.json.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: it is not JSON, or gives no max_epochs.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: WeightsStore,
        encoder_weights: str = "auto",
        min_labels: int = MIN_LABELS,
        round_config: Path | None = None,
    ) -> None:
        super().__init__("Semi-supervised: learns from the labelled and the untouched images of the datastore")
        self.bundle = bundle
        self.store = store
        self.encoder_weights = encoder_weights
        self.min_labels = min_labels
        self.round_config = round_config or bundle.root / ROUND
        self.defaults = read_round(self.round_config)

    def config(self) -> dict[str, Any]:
        from monailabel.utils.others.generic import device_list

        return {
            "max_epochs": self.defaults["max_epochs"],
            "objective": list(OBJECTIVES),
            "start_from": [CURRENT, NONE, *self.store.names()],
            "seed": 0,
            "device": device_list(),
        }

    def refusal(self, datastore: Datastore) -> str | None:
        """Why training cannot start now; None = it can."""
        labelled = len(datastore.get_labeled_images())
        if labelled < self.min_labels:
            return (
                f"{labelled} labelled images, at least {self.min_labels} are needed to train: save "
                f"{self.min_labels - labelled} more labels first"
            )
        return None

    def stats(self) -> dict[str, Any]:
        """Progress and validation Dice of the last round, under the names that MONAI Label's clients read."""
        try:
            state = json.loads((self.store.folder / STATE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        rows = _rows(Path(state["run_dir"]) / "metrics.csv")
        dices = [float(row["val_dice"]) for row in rows if row.get("val_dice")]
        seconds = int((state.get("ended") or time.time()) - state["started"])
        shown: dict[str, Any] = {
            "epoch": int(rows[-1]["epoch"]) if rows else 0,
            "total_epochs": state["max_epochs"],
            "start_ts": int(state["started"]),
            "best_metric": round(max(dices, default=0.0), 4),
            "status": "STOPPED" if state["status"] == "RUNNING" and not _alive(state["pid"]) else state["status"],
            "labels": state["labels"],
            "unlabeled": state["unlabeled"],
            ("total_time" if state.get("ended") else "current_time"): str(timedelta(seconds=seconds)),
            "eval": {"key_metric_name": "val_dice", "metrics": {"val_dice": dices[-1] if dices else None}},
        }
        if rows:
            losses = ("loss", "loss_supervised", "loss_unsupervised")
            shown["train"] = {"metrics": {name: float(rows[-1][name]) for name in losses if rows[-1].get(name)}}
        return shown | {key: state[key] for key in ("weights", "warnings") if key in state}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train; publish the round's weights at the end. Raises MONAILabelException: too few labels, bad parameters."""
        reason = self.refusal(datastore)
        if reason:
            raise MONAILabelException(MONAILabelError.APP_TRAIN_FAILED, reason)
        options = self.options(request)
        dataset = _local_copy(datastore)
        labelled, total = len(datastore.get_labeled_images()), len(datastore.list_images())
        name = time.strftime("run_%Y%m%d_%H%M%S")
        run_dir = self.store.folder / "runs" / name
        state = {
            "run_dir": str(run_dir),
            "max_epochs": options["max_epochs"],
            "started": time.time(),
            "status": "RUNNING",
            "pid": os.getpid(),
            "labels": labelled,
            "unlabeled": total - labelled,
        }
        self._write_state(state)
        # Outside of what is called an error: where the server is killed, its end of the pipe breaks here.
        code, said = _run(self._command(options, dataset, run_dir), self.bundle.root)
        try:
            if code != 0:
                raise MONAILabelException(MONAILabelError.APP_TRAIN_FAILED, f"training failed ({code}): {said}")
            measured = json.loads((run_dir / "test_metrics.json").read_text(encoding="utf-8")).get("validation", {})
            warnings = self._warnings(options["start_from"], run_dir / "manifest.json")
            facts = {
                "labels": labelled,
                "unlabeled": total - labelled,
                "val_dice": measured.get("figures", {}).get("dice", {}).get("value"),
                "seconds": round(time.time() - state["started"], 1),
                **options,
                **warnings,
            }
            weights = self.store.publish(run_dir / "model.pt", facts)
        except Exception:
            self._write_state({**state, "status": "ERROR", "ended": time.time()})
            raise
        (run_dir / "last.pt").unlink(missing_ok=True)  # for going on with a run, which nobody does with a round
        self._write_state({**state, "status": "DONE", "ended": time.time(), "weights": weights, **warnings})
        logger.info("Training is done: %s, validation Dice %s", weights, facts["val_dice"])
        return {"weights": weights, **facts}

    def _warnings(self, start: str, manifest: Path) -> dict[str, list[str]]:
        """{"warnings": [...]} where the round is measured on what the weights it started from have learnt, else {}.

        It is published all the same: nobody's work should wait for a figure.
        """
        seen = [] if start == NONE else seen_frames(self.store.path(start), manifest)
        if not seen:
            return {}
        warning = (
            f"{len(seen)} of the images held out for val_dice have trained {start} or a round before it, so that it is "
            f"too good: {'; '.join(seen[:3])}{'; ...' if seen[3:] else ''}. Seed, groups.csv or split was another "
            'then, or labels were deleted. The weights can be used; a round with start_from "none" is measured on '
            "images that it has not seen"
        )
        logger.warning(warning)
        return {"warnings": [warning]}

    def _write_state(self, state: dict[str, Any]) -> None:
        write_text(self.store.folder / STATE, json.dumps(state, indent=4))

    def options(self, request: dict[str, Any]) -> dict[str, Any]:
        def whole(name: str, default: int, lowest: int, highest: int) -> int:
            value = request.get(name, default)
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                message = f"{name} {value!r}: expected a whole number from {lowest} to {highest}"
                raise MONAILabelException(MONAILabelError.INVALID_INPUT, message)
            return value

        start = first_of(request.get("start_from", CURRENT))
        if start != NONE:
            try:
                self.store.path(start)
                start = self.store.current() if start == CURRENT else start
            except WeightsError as error:
                if start != CURRENT:
                    raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
                logger.warning("No weights yet: the first round starts from encoder_weights %s.", self.encoder_weights)
                start = NONE
        return {
            "max_epochs": whole("max_epochs", self.defaults["max_epochs"], 1, 10_000),
            "objective": one_of(request.get("objective", OBJECTIVES[0]), OBJECTIVES, "objective"),
            "seed": whole("seed", 0, 0, 2**31 - 1),
            "start_from": start,
            "device": device_of(request.get("device")),
        }

    def _command(self, options: dict[str, Any], dataset: str, run_dir: Path) -> list[str]:
        layers = ["configs/train.json", f"configs/{_layer(options['objective'])}.json", str(self.round_config)]
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", repr(layers)]
        command += ["--dataset_dir", dataset, "--output_dir", str(run_dir.parent), "--run_name", run_dir.name]
        command += ["--device", options["device"], "--seed", str(options["seed"])]
        command += ["--max_epochs", str(options["max_epochs"])]
        if options["start_from"] == NONE:
            return [*command, "--encoder_weights", self.encoder_weights]
        return [*command, "--encoder_weights", "none", "--init_checkpoint", str(self.store.path(options["start_from"]))]


def read_round(path: Path) -> dict[str, Any]:
    """The config of a round. Raises FileNotFoundError, ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"--conf round_config {path}: no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--conf round_config {path}: not a JSON file ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("max_epochs"), int):
        raise ValueError(
            f"--conf round_config {path}: no max_epochs; copy annotation_round.json and change its numbers"
        )
    return found


def value_map_of(bundle: Bundle, round_config: Path | None) -> dict[str, int] | None:
    """What the values of labels mean to a round, {value: class}; None = binary masks. Raises as read_round."""
    trained = json.loads((bundle.root / "configs" / "train.json").read_text(encoding="utf-8"))
    return {**trained, **read_round(round_config or bundle.root / ROUND)}.get("value_map")


def _layer(objective: str) -> str:
    return "train_supervised" if objective == "supervised" else objective


def _local_copy(datastore: Datastore) -> str:
    """The folder of the datastore; images that are on a DICOMweb server are fetched first."""
    for image in datastore.list_images():
        try:
            datastore.get_image_uri(image)
        except (MediaError, MONAILabelException) as error:
            logger.warning("Left out of training: %s", getattr(error, "msg", None) or error)
    datastore.datalist()  # fetches the labels of a DICOMweb server
    return os.path.realpath(datastore._datastore_path)


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command, pass its output on -> its exit code and, if it failed, what it said last.

    It has a lower priority than the server: an annotator waits for inference, nobody waits for an epoch.
    """
    parent = os.getppid()
    # Threads that soon stop spinning: long spinning beside the server's own costs up to ten times the time.
    spinning = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "30000"}
    environment = {**spinning, **os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,  # a progress bar's carriage returns become lines
        preexec_fn=lambda: os.nice(5),
    )

    def watch() -> None:
        while process.poll() is None:
            if os.getppid() != parent:  # the server was killed: nobody would publish or read this
                process.kill()
                os._exit(1)
            time.sleep(1.0)

    threading.Thread(target=watch, daemon=True).start()
    said: list[str] = []
    for line in process.stdout or ():
        print(line.rstrip(), flush=True)
        said = [] if line.startswith("ERROR (") else [*said[-4:], line.strip()]  # after it stands the cause alone
    return process.wait(), " ".join(said).strip()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        return []
