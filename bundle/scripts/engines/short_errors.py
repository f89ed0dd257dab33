"""The cause of a failed command as its last line, instead of a page of MONAI's frames."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

VARIABLE = "LESION_TRACEBACK"


def install_short_errors() -> None:
    """From now on an error that ends the process prints its first cause and where it arose.

    MONAI wraps what goes wrong inside of a config into "Failed to instantiate component ...", one layer for each
    reference. Set the environment variable LESION_TRACEBACK=1 to see all of it.
    """
    if os.environ.get(VARIABLE) != "1":
        sys.excepthook = _print_cause


def first_cause(error: BaseException) -> BaseException:
    """The error inside of MONAI's wrappers, which are plain RuntimeErrors raised from it.

    An error of its own class is not opened: what it was raised from (the system's "Not a directory") says less.
    """
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def _print_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    cause = first_cause(error)
    frames = traceback.extract_tb(cause.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
    print(f"\nERROR ({type(cause).__name__}, {where}; {VARIABLE}=1 shows the whole trace)\n{cause}", file=sys.stderr)
