"""Recipes side by side on the same frames, masks and split: each is trained, the best on validation is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.engines.compared_runs import figures_of, ship_best
from scripts.engines.stage_runs import StageError, refuse_unknown, shared_overrides, start_process
from scripts.engines.stages import plan_stages, run_plan

logger = logging.getLogger(__name__)
_LOCAL = "pretrain_local_contrastive"
#: {recipe: (its stages, objective of the last one)}
RECIPES: dict[str, tuple[tuple[str, ...], str]] = {
    "weak_to_strong": (("train",), "weak_to_strong"),
    "less_net": (("train",), "less_net"),
    "local_contrast": ((_LOCAL, "train"), "weak_to_strong"),
    "supervised": (("train",), "supervised"),
    "mean_teacher": (("train",), "mean_teacher"),
    "less_net_published": (("train",), "less_net_published"),
}
RECIPES_FILE = "recipes.csv"


def choose_recipe(
    bundle_root: str | Path,
    chain_dir: str | Path,
    recipes: Sequence[str],
    pretraining_epochs: int,
    extra_configs: Sequence[str] = (),
    train_options: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    common: Mapping[str, Any] | None = None,
    start: Callable[[list[str], Path], int] = start_process,
) -> Path:
    """Train every recipe and keep the network with the best validation Dice, the first of equals.

    ``chain_dir``/model.pt is that network, recipes.csv the table of all. The test split takes no part in the choice.
    All recipes are checked for mistyped ids before the first one starts; what is finished is skipped, what was stopped
    goes on.

    Args:
        bundle_root: folder that holds configs/; commands run there.
        chain_dir: gets a folder a recipe, with the run directories of its stages.
        recipes: two or more of RECIPES, in the order of training.
        pretraining_epochs: of local contrast before its training.
        extra_configs: files layered over the configs of all stages, such as a network's.
        train_options: {id: value} of the training of every recipe; None and "" are left out.
        options: {recipe: {id: value}} of its training, over train_options; an id with :: goes inside of a component.
        common: {id: value} of every stage; None and "" are left out.
        start: runs a command in a folder and returns its exit code.

    Returns:
        ``chain_dir``/model.pt.

    Raises:
        StageError: an unknown recipe, a split without validation, a missing file, a training that failed, or one
            without a validation Dice.
        UnknownOverrideError: a mistyped id of any recipe.
    """
    root, folder, options = Path(bundle_root).resolve(), Path(chain_dir).resolve(), dict(options or {})
    _check_names(recipes, options)
    _check_validation((common or {}).get("split"))
    given, shared, plans = shared_overrides(train_options), shared_overrides(common), {}
    for recipe in recipes:
        stages, objective = RECIPES[recipe]
        of_stages = {_LOCAL: {"max_epochs": pretraining_epochs}} if _LOCAL in stages else {}
        of_stages["train"] = {**given, **options.get(recipe, {})}
        plans[recipe] = plan_stages(root, folder / recipe, stages, objective, extra_configs, of_stages, shared)
    rows = []
    for number, (recipe, plan) in enumerate(plans.items(), 1):
        logger.info("Recipe %d of %d, %s", number, len(plans), recipe)
        model = run_plan(root, folder / recipe, plan, start=start)
        rows.append({"recipe": recipe, **figures_of(model.parent)})
        logger.info("%s: validation Dice %.4f", recipe, rows[-1]["val_dice"])
    best = ship_best(folder, rows, ("recipe",), "chosen", RECIPES_FILE)
    order = sorted(rows, key=lambda row: row["val_dice"], reverse=True)
    logger.info("Validation Dice: %s", ", ".join(f"{row['recipe']} {row['val_dice']:.4f}" for row in order))
    logger.info("%s is the best on validation: %s", best["recipe"], folder / "model.pt")
    return folder / "model.pt"


def _check_names(recipes: Sequence[str], options: Mapping[str, Any]) -> None:
    for name in [*recipes, *options]:
        refuse_unknown("recipe", name, RECIPES)
    if len(set(recipes)) < max(2, len(recipes)):
        raise StageError(f"recipes are {list(recipes)}; expected two or more of {list(RECIPES)}, each once.")
    if unused := [name for name in options if name not in recipes]:
        raise StageError(f"options name the recipe {unused[0]!r}, and recipes are {list(recipes)}: leave it out.")


def _check_validation(split: Any) -> None:
    """A given split must have what recipes are compared on; a default or a datalist's has, or the first run says so."""
    if isinstance(split, Sequence) and len(split) == 3 and not float(split[1]) > 0:
        raise StageError(
            f"split is {list(split)}: recipes are compared on validation, and it has none. Give it a share, such as "
            "--split '[0.6,0.2,0.2]'."
        )
