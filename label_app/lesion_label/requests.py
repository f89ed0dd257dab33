"""Reading the parameters of a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.utils.others.generic import name_to_device


def first_of(value: Any) -> Any:
    """Clients send an option's list of choices back as it is when nothing was chosen: the first one is meant."""
    return value[0] if isinstance(value, (list, tuple)) and value else value


def one_of(value: Any, known: Sequence[str], name: str) -> str:
    """The chosen one of some words. Raises MONAILabelException: another."""
    value = first_of(value)
    if value not in known:
        raise invalid(f"{name} {value!r}: expected one of {', '.join(known)}")
    return value


def number_of(request: Mapping[str, Any], name: str, default: Any, whole: bool = False) -> Any:
    """A parameter of 0 or more, the default where it is left out. Raises MONAILabelException: another value."""
    value = request.get(name)
    if value is None:
        return default
    try:
        found = int(value) if whole else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise invalid(f"{name} {str(value)[:40]!r}: expected {'a whole number' if whole else 'a number'}, 0 or more")
    return found


def device_of(value: Any) -> str:
    """A device as torch names it, from that or from the name MONAI Label shows. Raises MONAILabelException."""
    device = str(name_to_device(first_of(value)))
    try:
        torch.device(device)
    except RuntimeError as error:
        raise invalid(f"device {device[:40]!r}: expected cpu, cuda or cuda:N") from error
    return device


def invalid(message: str) -> MONAILabelException:
    """The error of a request that cannot be met as it is."""
    return MONAILabelException(MONAILabelError.INVALID_INPUT, message)
