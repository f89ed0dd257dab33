"""The end of a run: the best and the last checkpoint measured, the report written."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from monai.inferers import Inferer
from torch import nn
from torch.utils.data import DataLoader

from scripts.engines.checkpoints import load_into
from scripts.engines.evaluation import Evaluation, evaluate
from scripts.engines.run_directory import RunDirectory, is_main_process
from scripts.io.atomic import write_text
from scripts.io.writers import OutputError, ensure_writable
from scripts.metrics.evaluation import LesionEvaluation

logger = logging.getLogger(__name__)
HEADLINE = (
    "dice",
    "iou_pooled",
    "dice_pooled",
    "kappa",
    "spearman",
)  # figures that are logged; the first two there are


@runtime_checkable
class HasTemperature(Protocol):
    """An evaluation of probabilities, whose temperature can be fitted."""

    def fit_temperature(self) -> float:
        """The temperature that suits it best. Raises ValueError where there is nothing to fit."""


def finish_run(
    run: RunDirectory,
    network: nn.Module,
    validation: DataLoader,
    test: DataLoader,
    device: str | torch.device,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    key_metric: str = "val_dice",
    evaluation: Callable[[], Evaluation] = LesionEvaluation,
) -> dict[str, Any]:
    """Measure the best and the last checkpoint of a run; write test_metrics.json, the table of rows, predictions/.

    The temperature, where the evaluation has one, is fitted on validation, that of the last checkpoint by its own
    answers ("last#temperature"); the test split is read here and nowhere else.

    Args:
        run: its folder holds model.pt and last.pt.
        network: any network of the run's design; its weights are replaced by the best.
        validation, test: loaders of one frame a batch; without items where the data set has no such split.
        evaluation: makes an empty evaluation, that of lesions (per_image.csv) or of volumes (per_volume.csv).

    Returns:
        the content of test_metrics.json.
    """
    _wait_for_all()  # The others read what rank 0 may still be writing.
    shared = {"device": torch.device(device), "postprocessing": postprocessing, "inferer": inferer}
    result = {"key_metric": key_metric}
    result |= measure_checkpoint(network, run.path / "model.pt", validation, test, run.path, evaluation, **shared)
    if "best" in result:
        last_epoch = load_into(network, run.path / "last.pt")
        result["last"] = result["best"]
        if last_epoch != result["best"]["epoch"]:
            temperature = _fitted(network, validation, evaluation, **shared)
            last = evaluate(network, test, evaluation=evaluation(), **shared)
            result["last"] = {"epoch": last_epoch, "figures": last.figures(temperature=temperature)}
            result["last"] |= {"temperature": temperature} if "temperature" in result else {}
        load_into(network, run.path / "model.pt")
    if is_main_process():
        write_text(run.path / "test_metrics.json", json.dumps(result, indent=4))
        run.write_environment(network, torch.device(device))
        _log_headline(result)
    return result


def refuse_run_directory(checkpoint: str | Path, evaluation_dir: str | Path) -> None:
    """An evaluation must not be written over the manifest and the figures of the checkpoint's own run.

    Raises:
        OutputError: evaluation_dir is the checkpoint's folder.
    """
    folder = Path(checkpoint).expanduser().resolve().parent
    if Path(evaluation_dir).expanduser().resolve() == folder:
        raise OutputError(
            f"evaluation_dir {evaluation_dir} is the folder of {checkpoint}, whose manifest.json says what it has "
            "learnt from, and whose figures would be replaced: give another --evaluation_dir."
        )


def evaluate_checkpoint(
    checkpoint: str | Path,
    output_dir: str | Path,
    network: nn.Module,
    validation: DataLoader,
    test: DataLoader,
    device: str | torch.device,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    evaluation: Callable[[], Evaluation] = LesionEvaluation,
    image_size: int | None = None,
) -> dict[str, Any]:
    """Measure any checkpoint on a data set; writes what finish_run does to ``output_dir``.

    Args:
        image_size: pixels, side of the square that the network sees; a checkpoint of another one is warned about.
    """
    output_dir, device = ensure_writable(output_dir), torch.device(device)
    shared = {"device": device, "postprocessing": postprocessing, "inferer": inferer, "image_size": image_size}
    result = measure_checkpoint(network.to(device), checkpoint, validation, test, output_dir, evaluation, **shared)
    if is_main_process():
        write_text(output_dir / "test_metrics.json", json.dumps(result | {"checkpoint": str(checkpoint)}, indent=4))
        _log_headline(result)
        logger.info("Figures: %s", output_dir / "test_metrics.json")
    return result


def measure_checkpoint(
    network: nn.Module,
    checkpoint: str | Path,
    validation: DataLoader,
    test: DataLoader,
    output_dir: Path,
    evaluation: Callable[[], Evaluation] = LesionEvaluation,
    image_size: int | None = None,
    **shared: Any,
) -> dict[str, Any]:
    """{"temperature", "validation", "best"} of one checkpoint; parts without frames are left out, which is logged.

    "temperature" is there where the evaluation has one: None where none could be fitted.
    """
    if is_main_process():
        _take_away_earlier(output_dir, evaluation().table)
    _wait_for_all()
    epoch = load_into(network, checkpoint, image_size)
    calibrated = isinstance(evaluation(), HasTemperature)
    result: dict[str, Any] = {"temperature": None} if calibrated else {}
    if len(validation.dataset):
        checked = evaluate(network, validation, evaluation=evaluation(), **shared)
        if isinstance(checked, HasTemperature):
            result["temperature"] = _temperature(checked)
        figures = checked.figures(temperature=result.get("temperature"))
        result["validation"] = {"epoch": epoch, "figures": figures}
    else:
        fitted = ", and no temperature is fitted" if calibrated else ""
        logger.warning("No validation split: the last epoch counts as the best%s.", fitted)
    if len(test.dataset):
        best = evaluate(network, test, evaluation=evaluation(), predictions_dir=output_dir / "predictions", **shared)
        result["best"] = {"epoch": epoch, "figures": best.figures(temperature=result.get("temperature"))}
        if is_main_process():
            best.write_csv(output_dir / best.table)
    else:
        logger.warning("No test split: there are validation figures alone.")
    return result


def _wait_for_all() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def _take_away_earlier(output_dir: Path, table: str) -> None:
    """Rows and masks of an earlier measurement in this folder: those of other frames would pass for this one's."""
    if (output_dir / table).is_file():  # so the predictions beside it are an evaluation's
        shutil.rmtree(output_dir / "predictions", ignore_errors=True)
        (output_dir / table).unlink()


def _fitted(
    network: nn.Module, validation: DataLoader, evaluation: Callable[[], Evaluation], **shared: Any
) -> float | None:
    """The temperature of a network by the validation frames; None where there are none, or none can be fitted."""
    if not len(validation.dataset) or not isinstance(evaluation(), HasTemperature):
        return None
    return _temperature(evaluate(network, validation, evaluation=evaluation(), **shared))


def _temperature(evaluation: HasTemperature) -> float | None:
    try:
        return float(evaluation.fit_temperature())
    except ValueError as error:
        logger.warning("No temperature could be fitted on validation: %s", error)
        return None


def _log_headline(result: dict[str, Any]) -> None:
    for name in ("validation", "best", "last"):
        if name not in result:
            continue
        figures = result[name]["figures"]
        names = [name for name in HEADLINE if name in figures][:2]
        shown = ", ".join(f"{name} {_with_interval(figures[name])}" for name in names)
        split = "validation" if name == "validation" else f"test, {name} checkpoint"
        logger.info("%s (epoch %d): %s", split, result[name]["epoch"], shown)


def _with_interval(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "not defined"
    interval = "" if figure["low"] is None else f" [{figure['low']:.4f}, {figure['high']:.4f}]"
    return f"{figure['value']:.4f}{interval}"
