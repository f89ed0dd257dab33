"""What `--tracking mlflow` needs before a run, and what it gets after it: settings, test figures, files.

MONAI's own handlers record losses, rates and validation figures while the run goes on.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from monai.bundle import ConfigParser

from scripts.engines.overrides import running_config, running_workflow
from scripts.engines.run_directory import flatten, is_main_process

logger = logging.getLogger(__name__)
#: ids of the running config that MONAI adds for tracking
URI, EXPERIMENT = "tracking_uri", "experiment_name"
SQLITE = "sqlite:///"
PACKAGES = ("mlflow", "sqlalchemy", "alembic")
CURE = "pip install mlflow-skinny sqlalchemy alembic (the extra 'tracking' of pyproject.toml), or leave --tracking out"
FILES = ("config.json", "environment.json", "manifest.json", "metrics.csv", "test_metrics.json", "report.html")
LONGEST = 500  # characters of a value that MLflow's oldest stores take


def require_tracking() -> None:
    """Before work starts: the packages are there. Nothing where tracking was not asked for.

    Raises:
        ImportError: a package is missing; all that are wanted are named.
        ValueError: a store was named, and tracking not asked for.
    """
    parser = running_workflow().parser
    if not _is_tracked(parser):
        if URI in parser:
            raise ValueError(f"--{URI} is given without --tracking: add --tracking mlflow, or leave it out.")
        return
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(f"--tracking mlflow: {', '.join(missing)} cannot be imported, expected {CURE}.")


def _is_tracked(parser: ConfigParser) -> bool:
    """Whether MONAI has put its handler into the training."""
    handlers = parser.get("train#handlers", [])
    return any(isinstance(one, dict) and one.get("_target_") == "MLFlowHandler" for one in handlers)


def _client(parser: ConfigParser) -> Any:
    """MLflow's client of the store that MONAI's handlers write to."""
    import mlflow

    # The handlers let MLflow's own variable go before the config.
    named = os.environ.get("MLFLOW_TRACKING_URI")
    return mlflow.MlflowClient(tracking_uri=named or parser.get_parsed_content(URI))


def open_experiment() -> None:
    """Make the experiment, if there is none, with its files beside a database of this machine.

    MONAI would do so, but takes the quoted name of the folder: files of "my runs" would go to "my%20runs".
    """
    parser = running_workflow().parser
    if not _is_tracked(parser) or not is_main_process():
        return
    client, name = _client(parser), parser.get_parsed_content(EXPERIMENT)
    if client.get_experiment_by_name(name) is None:
        database = unquote(client.tracking_uri.removeprefix(SQLITE))
        local = client.tracking_uri.startswith(SQLITE)
        client.create_experiment(name, (Path(database).parent / "mlruns").absolute().as_uri() if local else None)


def record_run(run_dir: str | Path) -> None:
    """Add a finished run's settings, test figures and files to its MLflow run; nothing where it is not tracked.

    Raises:
        RuntimeError: MLflow does not know the run any more.
    """
    parser = running_workflow().parser
    if not _is_tracked(parser) or not is_main_process():
        return
    run_dir, client = Path(run_dir), _client(parser)
    experiment = client.get_experiment_by_name(parser.get_parsed_content(EXPERIMENT))
    name = str(parser.get_parsed_content("run_name"))
    found = client.search_runs(
        [experiment.experiment_id],
        filter_string=f"attributes.run_name = '{name}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        raise RuntimeError(
            f"MLflow has no run '{name}' in {experiment.name}, expected the one that was tracked: was it deleted? The "
            f"run itself is whole in {run_dir}."
        )
    run = found[0].info.run_id
    for key, value in _settings(running_config()).items():
        if key not in found[0].data.params:  # MLflow refuses to write one twice, and the handler has written some
            client.log_param(run, key, value[:LONGEST])
    for key, value in _figures(run_dir / "test_metrics.json"):
        client.log_metric(run, key, value)
    for file in FILES:
        if (run_dir / file).is_file():
            client.log_artifact(run, str(run_dir / file))
    logger.info("MLflow run %s has settings, test figures and files.", name)


def _settings(config: dict[str, Any]) -> dict[str, str]:
    """The plain values of a config by their name in MLflow, which takes no #; definitions of parts are left out."""
    plain = {key: value for key, value in config.items() if _is_plain(value) and not key.startswith("_")}
    return {key.replace("#", "."): str(value) for key, value in flatten(plain).items()}


def _is_plain(value: Any) -> bool:
    """No text that is evaluated, no component."""
    if isinstance(value, dict):
        return bool(value) and "_target_" not in value and all(_is_plain(one) for one in value.values())
    if isinstance(value, list):
        return all(isinstance(one, (int, float)) or _is_plain(one) for one in value)
    if isinstance(value, str):
        return not value.startswith(("$", "@", "%"))
    return isinstance(value, (int, float))


def _figures(file: Path) -> Iterator[tuple[str, float]]:
    """test_dice, validation_dice, ... of the shipped epoch."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for part, shown in (("best", "test"), ("validation", "validation")):
        for name, figure in content.get(part, {}).get("figures", {}).items():
            if figure.get("value") is not None:
                yield f"{shown}_{name}", float(figure["value"])
