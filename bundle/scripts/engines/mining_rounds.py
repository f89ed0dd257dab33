"""Knowledge mining: train on labels, mine, fine-tune on labels and pseudo-labels, and again while validation rises."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.engines.compared_runs import figures_of, ship_best
from scripts.engines.pseudo_label_results import LIST_FILE, SUMMARY_FILE
from scripts.engines.stage_runs import (
    Chain,
    Stage,
    StageError,
    check_overrides,
    existing_config,
    shared_overrides,
    start_process,
)

logger = logging.getLogger(__name__)
#: options of the chain, and the configs that each goes to
PARTS = {
    "train": ("train", "train_supervised"),
    "mine": ("inference", "mine_pseudo_labels"),
    "fine_tune": ("train", "pseudo_labels"),
}
OF_THE_CHAIN = ("output_dir", "run_name", "init_checkpoint", "objective", "checkpoint")
#: ids of the chain that only these parts have
ONLY = {
    # The datalist that is mined has its sections; split is for one without frames, which it cannot name.
    "label_fraction": ("train", "mine"),
    **dict.fromkeys(("segmenter", "sam_weights", "cache_dir", "unlabeled_data"), ("mine",)),
    "encoder_weights": ("train",),
    "precision": ("train", "fine_tune"),
}
MINED = ("frames", "pseudo_labels", "mean_weight")
ROUNDS_FILE = "rounds.csv"


def run_mining_rounds(
    bundle_root: str | Path,
    chain_dir: str | Path,
    rounds: int = 2,
    extra_configs: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    common: Mapping[str, Any] | None = None,
    start: Callable[[list[str], Path], int] = start_process,
) -> Path:
    """Run round 0 (labels alone) and up to ``rounds`` more, each mining with the network of the one before.

    The rounds end when the best validation Dice of one is not above that of the rounds before it, or when nothing was
    mined. ``chain_dir``/model.pt is then the network of the round with the best validation Dice and rounds.csv the
    table of all; the test split takes no part in the choice. What is finished is skipped, what was stopped goes on.

    Args:
        bundle_root: folder that holds configs/; commands run there.
        chain_dir: gets stages.json, 0_train, 1_mine, 1_fine_tune, ...
        rounds: most rounds of mining, from 1.
        extra_configs: files layered over the configs of all parts, such as a network's.
        options: {"train" | "mine" | "fine_tune": {id: value}}; an id with :: goes inside of a component.
        common: {id: value} of every part that has it; None and "" are left out.
        start: runs a command in a folder and returns its exit code.

    Returns:
        ``chain_dir``/model.pt.

    Raises:
        StageError: an unknown part, a missing file, a part that failed or was begun from other files.
        UnknownOverrideError: a mistyped id of any part.
    """
    if rounds < 1:
        raise StageError(f"rounds is {rounds}; expected 1 or more.")
    root, folder = Path(bundle_root).resolve(), Path(chain_dir).resolve()
    plan = plan_rounds(root, folder, rounds, extra_configs, options or {}, shared_overrides(common))
    chain = Chain(root, folder, start)
    rows = [_row(0, chain.run(plan[0], "Round 0, train").parent)]
    network = plan[0].run_dir / plan[0].result
    for number in range(1, rounds + 1):
        mine, fine_tune = plan[2 * number - 1 : 2 * number + 1]
        labels = chain.run(mine, f"Round {number} of {rounds}, mine", {"checkpoint": str(network)})
        if not _summary(mine.run_dir)["pseudo_labels"]:
            logger.warning("Round %d mined nothing: look at %s", number, mine.run_dir / "pseudo_labels.png")
            break
        inputs = {"init_checkpoint": str(network), "dataset_dir": str(labels)}
        network = chain.run(fine_tune, f"Round {number} of {rounds}, fine_tune", inputs)
        rows.append(_row(number, network.parent, mine.run_dir))
        if not rows[-1]["val_dice"] > max(row["val_dice"] for row in rows[:-1]):
            logger.info("Validation Dice does not rise any more: %s", [round(row["val_dice"], 4) for row in rows])
            break
    return _finish(folder, rows)


def plan_rounds(
    root: Path,
    folder: Path,
    rounds: int,
    extra_configs: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
) -> list[Stage]:
    """Train, then mine and fine-tune of each round, checked as far as they can be before they start.

    Raises:
        StageError, UnknownOverrideError: see run_mining_rounds.
    """
    for part, given in options.items():
        if part not in PARTS:
            raise StageError(f"options name the part {part!r}; expected some of {list(PARTS)}.")
        if taken := [key for key in given if key in OF_THE_CHAIN]:
            raise StageError(f"options of {part}: the chain sets {taken[0]} itself; leave it out.")
    extra = [existing_config(root, file) for file in extra_configs]
    names = ["train", *(part for _ in range(rounds) for part in ("mine", "fine_tune"))]
    plan = []
    for number, part in enumerate(names):
        run_name = f"{(number + 1) // 2}_{part}"
        files = [*(str(Path("configs") / f"{layer}.json") for layer in PARTS[part]), *extra]
        shared = {key: value for key, value in common.items() if part in ONLY.get(key, PARTS)}
        mining = part == "mine"
        own = {"output_dir": str(folder / run_name if mining else folder)} | ({} if mining else {"run_name": run_name})
        own |= {"encoder_weights": "none"} if part == "fine_tune" else {}
        inputs = {"train": (), "mine": ("checkpoint",), "fine_tune": ("init_checkpoint", "dataset_dir")}[part]
        overrides = {key: value for key, value in shared.items() if key not in inputs} | own
        overrides |= options.get(part, {})
        stage = Stage(part, files, overrides, folder / run_name, LIST_FILE if mining else "model.pt")
        check_overrides(stage, root, inputs)
        plan.append(stage)
    return plan


def _summary(mining_dir: Path) -> dict[str, Any]:
    return json.loads((mining_dir / SUMMARY_FILE).read_text(encoding="utf-8"))


def _row(number: int, run_dir: Path, mining_dir: Path | None = None) -> dict[str, Any]:
    mined = {} if mining_dir is None else _summary(mining_dir)
    return {"round": number, **{name: mined.get(name) for name in MINED}, **figures_of(run_dir)}


def _finish(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Ship the best round's network and write the table."""
    best, model = ship_best(folder, rows, ("round", *MINED), "kept", ROUNDS_FILE), folder / "model.pt"
    logger.info(
        "Round %d has the best validation Dice, %.4f (round 0: %.4f): %s",
        *(best["round"], best["val_dice"], rows[0]["val_dice"], model),
    )
    return model
