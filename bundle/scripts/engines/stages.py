"""Runs that follow each other, each from the weights of the one before: pretraining, pretraining, training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.engines.run_directory import default_run_name
from scripts.engines.stage_runs import (
    Chain,
    Stage,
    StageError,
    check_overrides,
    existing_config,
    refuse_unknown,
    shared_overrides,
    start_process,
)
from scripts.losses import OBJECTIVES

logger = logging.getLogger(__name__)
#: in the order in which they may run, with their names in the name of a chain
STAGES = {"pretrain_global": "global", "pretrain_local_contrastive": "local", "train": ""}
#: ids that the chain sets itself
OF_THE_CHAIN = ("output_dir", "run_name", "init_checkpoint", "objective")


def run_stages(
    bundle_root: str | Path,
    chain_dir: str | Path,
    stages: Sequence[str],
    objective: str = "supervised",
    init_checkpoint: str = "",
    extra_configs: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    common: Mapping[str, Any] | None = None,
    start: Callable[[list[str], Path], int] = start_process,
) -> Path:
    """Run the stages in processes of their own; what is finished is skipped, what was stopped goes on.

    All stages are checked for mistyped ids before the first one starts. See Chain for what is recorded.

    Args:
        bundle_root: folder that holds configs/; commands run there.
        chain_dir: gets stages.json and one run directory a stage.
        stages: some of STAGES, in their order.
        objective: of the stage "train".
        init_checkpoint: model.pt that the first stage starts from; "" = none.
        extra_configs: files layered over every stage's own.
        options: {stage: {id: value}}; an id with :: goes inside of a component.
        common: {id: value} for every stage; None and "" are left out. encoder_weights is for the first stage: the
            others start from a whole network.
        start: runs a command in a folder and returns its exit code.

    Returns:
        model.pt of the last stage.

    Raises:
        StageError: unknown stage, missing file, a stage that failed or began from another checkpoint.
        UnknownOverrideError: a mistyped id of any stage.
    """
    root, folder = Path(bundle_root).resolve(), Path(chain_dir).resolve()
    plan = plan_stages(root, folder, stages, objective, extra_configs, options or {}, shared_overrides(common))
    checkpoint = str(Path(init_checkpoint).expanduser().resolve()) if init_checkpoint else ""
    return run_plan(root, folder, plan, checkpoint, start)


def run_plan(
    root: Path,
    folder: Path,
    plan: Sequence[Stage],
    checkpoint: str = "",
    start: Callable[[list[str], Path], int] = start_process,
) -> Path:
    """Run what plan_stages has planned, each stage from the weights of the one before; see run_stages.

    Args:
        folder: of the chain. checkpoint: model.pt that the first stage starts from; "" = none.

    Returns:
        model.pt of the last stage.

    Raises:
        StageError: a missing checkpoint, a stage that failed or began from another one.
    """
    chain = Chain(root, folder, start)
    for number, stage in enumerate(plan, 1):
        title = f"Stage {number} of {len(plan)}, {stage.name}"
        checkpoint = str(chain.run(stage, title, {"init_checkpoint": checkpoint} if checkpoint else {}))
    logger.info("All stages are done: %s", checkpoint)
    return Path(checkpoint)


def plan_stages(
    root: Path,
    chain: Path,
    stages: Sequence[str],
    objective: str,
    extra_configs: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
) -> list[Stage]:
    """The runs, checked as far as they can be before they start.

    Raises:
        StageError, UnknownOverrideError: see run_stages.
    """
    _check_names(stages, objective, options)
    extra = [existing_config(root, file) for file in extra_configs]
    plan = []
    for number, name in enumerate(stages, 1):
        layers = [name] if name != "train" else [layer_of(objective)]
        files = [*(str(Path("configs") / f"{layer}.json") for layer in ("train", *layers)), *extra]
        own = {"output_dir": str(chain), "run_name": f"{number}_{name}"}
        own |= {"encoder_weights": "none"} if number > 1 else {}
        stage = Stage(name, files, {**common, **own, **options.get(name, {})}, chain / f"{number}_{name}")
        check_overrides(stage, root)
        plan.append(stage)
    return plan


def layer_of(objective: str) -> str:
    """Name of the config that trains an objective."""
    return "train_supervised" if objective == "supervised" else objective


def chain_name(dataset_dir: str, stages: Sequence[str], objective: str, label_fraction: float, seed: int | None) -> str:
    """What a chain is called that nobody named: kvasir_global_local_supervised_labels0.1_seed0."""
    words = "_".join(STAGES.get(name) or objective for name in stages)
    return default_run_name(dataset_dir, words, label_fraction, 0 if seed is None else seed)


def _check_names(stages: Sequence[str], objective: str, options: Mapping[str, Any]) -> None:
    for name in [*stages, *options]:
        refuse_unknown("stage", name, STAGES)
    if not stages or list(stages) != [name for name in STAGES if name in stages]:
        raise StageError(f"stages are {list(stages)}; expected some of {list(STAGES)}, each once and in this order.")
    if unused := [name for name in options if name not in stages]:
        raise StageError(f"options name the stage {unused[0]!r}, and stages are {list(stages)}: leave it out.")
    for name, given in options.items():
        if taken := [key for key in given if key in OF_THE_CHAIN]:
            raise StageError(f"options of {name}: the chain sets {taken[0]} itself; give --{taken[0]} to the chain.")
    refuse_unknown("objective", objective, OBJECTIVES)
