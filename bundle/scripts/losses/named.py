"""Objectives by the name that configs use for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any


def build_named(name: str, known: Mapping[str, Callable[..., Any] | None], options: Mapping[str, Any] | None) -> Any:
    """What ``known[name]`` makes of the options; None where it is None.

    Raises:
        ValueError: unknown name or option, with the nearest known one.
    """
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0)
        raise ValueError(f"objective '{name}' is unknown; did you mean '{near[0]}'? Known: {', '.join(known)}.")
    factory = known[name]
    names = [] if factory is None else list(inspect.signature(factory).parameters)
    for option in options or {}:
        if option not in names:
            near = get_close_matches(option, names, n=1, cutoff=0)
            hint = f"did you mean '{near[0]}'? It has: {', '.join(names)}." if near else "It has none."
            raise ValueError(f"objective '{name}' has no option '{option}'; {hint}")
    return None if factory is None else factory(**(options or {}))
