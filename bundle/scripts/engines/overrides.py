"""Refuses mistyped overrides, which MONAI accepts in silence, and reads the config that is running."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS
from monai.utils.module import optional_import

# What `--tracking` adds to a config at run time.
TRACKING_IDS = {"handlers_id", "configs", "handlers", *DEFAULT_EXP_MGMT_SETTINGS["mlflow"]["configs"]}
# The command line reads Python's spelling: `--flip false` would be the word "false", which counts as true.
# A plain None would be read, and passed over: MONAI takes it for an option that was not given.
PYTHON_SPELLING = {"true": "True", "false": "False", "null": "'$None'"}


class UnknownOverrideError(ValueError):
    """An override names an id that the config does not have."""


class MisspeltValueError(ValueError):
    """A switch or an empty value was spelt as in JSON where Python's spelling is read."""


class PassedOverError(ValueError):
    """An override is None, which MONAI passes over in silence."""


def running_workflow() -> ConfigWorkflow:
    """The MONAI workflow whose expression is being evaluated.

    MONAI hands expressions no reference to the workflow that evaluates them, so it is looked up on the call stack.

    Raises:
        RuntimeError: called from outside of a config.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ConfigWorkflow):
            return owner
        frame = frame.f_back
    raise RuntimeError("running_workflow() has a meaning only inside of a config that monai.bundle is running.")


def running_config() -> dict[str, Any]:
    """The config that is running, overrides applied; top-level references to plain values are resolved."""
    parser = running_workflow().parser
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    for key, value in config.items():
        if isinstance(value, str) and value.startswith(("$", "@")):
            resolved = parser.ref_resolver.resolved_content.get(key)
            config[key] = resolved if isinstance(resolved, (str, int, float, bool)) else value
    return config


def refuse_unknown_overrides(bases: str | Sequence[str]) -> None:
    """Raise if the running config has an id that the config files ``bases`` do not declare, or a value misspelt.

    Under a component, an argument of that component may be added: ``--network_def::dropout 0.1``.

    Args:
        bases: names in the configs folder: the complete config, "train.json" for one, then what is layered over it.

    Raises:
        UnknownOverrideError: with the nearest declared id.
        MisspeltValueError: for a word that only looks like a switch.
        PassedOverError: for a None of the command line that does not come through.
    """
    workflow = running_workflow()
    refuse_undeclared(workflow.parser.get(), workflow.config_root_path, bases)
    for name in _passed_over(sys.argv, workflow.parser):
        raise PassedOverError(
            f"--{name} None is passed over by MONAI, which leaves {name} at {workflow.parser[name]!r}: "
            f"give --{name} '$None'"
        )


def refuse_undeclared(config: dict[str, Any], configs_dir: str | Path, bases: str | Sequence[str]) -> None:
    """Raise if a config, overrides applied and nothing resolved, has an undeclared id or a misspelt value.

    Args:
        configs_dir: where the files ``bases`` are.

    Raises:
        UnknownOverrideError: with the nearest declared id.
        MisspeltValueError: for a word that only looks like a switch.
    """
    bases = [bases] if isinstance(bases, str) else list(bases)
    declared = ConfigParser()
    declared.read_config([Path(configs_dir) / base for base in bases])
    for parent, name, siblings in _unknown_names(config, declared.get()):
        known = [f"{parent}::{item}" if parent else item for item in siblings if not item.startswith("_")]
        wrong = f"{parent}::{name}" if parent else name
        near = get_close_matches(wrong, known, n=1, cutoff=0.0)
        raise UnknownOverrideError(
            f"--{wrong}: {' + '.join(bases)} has no such id" + (f"; did you mean --{near[0]}?" if near else ".")
        )
    for name, value in _misspelt_values(config):
        raise MisspeltValueError(
            f"--{name} is the word {value!r}, which would count as true; the command line reads Python's spelling: "
            f"--{name} {PYTHON_SPELLING[value]}"
        )


def _passed_over(words: Sequence[str], config: ConfigParser) -> Iterator[str]:
    """Ids that a command line of monai.bundle gives as None and that have another value in the config."""
    if Path(words[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        name = option.removeprefix("--")
        if name != option and (value if equals else following) == "None":
            if name in config and config[name] is not None:
                yield name


def _misspelt_values(config: Any, parent: str = "") -> Iterator[tuple[str, str]]:
    """(id, word) of each value that is a word where JSON's reader would have made a switch or nothing of it."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _misspelt_values(value, f"{parent}::{name}" if parent else name)
    elif isinstance(config, str) and config in PYTHON_SPELLING:
        yield parent, config


def _unknown_names(config: Any, declared: Any, parent: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """(parent, name, its declared siblings) for each name of ``config`` that ``declared`` lacks."""
    if not isinstance(config, dict) or not isinstance(declared, dict):
        return
    if parent and not declared:
        return  # An empty mapping is free: what it is given to will check the names.
    target = config.get("_target_")
    if target != declared.get("_target_"):
        return  # Another component was put in its place: its arguments are its own affair.
    arguments = _arguments(target)
    for name, value in config.items():
        if name.startswith("_") or name in arguments or (not parent and name in TRACKING_IDS):
            continue
        if name in declared:
            yield from _unknown_names(value, declared[name], f"{parent}::{name}" if parent else name)
        else:
            yield parent, name, list(declared) + sorted(arguments)


@cache
def _locator() -> ComponentLocator:
    """MONAI's table of its own components; making it takes a moment."""
    return ComponentLocator()


def _arguments(target: Any) -> set[str]:
    """Argument names of a component named by ``_target_``; empty when there is none."""
    if not isinstance(target, str) or target.startswith(("$", "@")):
        return set()
    if "." not in target:  # MONAI's own components go by their bare name.
        modules = _locator().get_component_module_name(target)
        target = f"{modules[0] if isinstance(modules, list) else modules}.{target}"
    module, _, name = target.rpartition(".")
    component, found = optional_import(module, name=name)
    if not found:
        return set()
    # A component that hands names on to something else says which: LESSNet's are fields of its preset.
    names: set[str] = set(getattr(component, "option_names", ()))
    for maker in [kind.__init__ for kind in inspect.getmro(component)] if inspect.isclass(component) else [component]:
        parameters = inspect.signature(maker).parameters.values()
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= {parameter.name for parameter in parameters if parameter.kind not in variable}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break  # Without **kwargs nothing is passed on to the parent class.
    return names - {"self"}
