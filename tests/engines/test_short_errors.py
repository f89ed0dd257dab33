"""The last lines of a failed command are the cause."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.engines.short_errors import first_cause
from scripts.io.writers import OutputError

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
WRAPPED = """
from scripts.engines.short_errors import install_short_errors
install_short_errors()
def deep():
    raise {error}
try:
    deep()
except Exception as error:
    try:
        raise RuntimeError("Failed to instantiate component") from error
    except RuntimeError as second:
        raise RuntimeError("Failed to instantiate another") from second
"""


def fail(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=BUNDLE, capture_output=True, text=True, env={**os.environ, **variables}
    )


def test_first_cause_of_a_chain() -> None:
    first, second, third = ValueError("first"), RuntimeError("second"), RuntimeError("third")
    second.__cause__, third.__cause__ = first, second
    assert first_cause(third) is first
    assert first_cause(first) is first


def test_an_error_that_explains_another_is_the_cause() -> None:
    """Our own errors name file and cure; the system's error they come from does not."""
    bare, ours, wrapper = OSError("Not a directory"), OutputError("give another output_dir"), RuntimeError("Failed to")
    ours.__cause__, wrapper.__cause__ = bare, ours
    assert first_cause(wrapper) is ours


def test_an_error_while_another_is_handled_is_no_cause() -> None:
    with pytest.raises(KeyError) as caught:
        try:
            raise ValueError("handled")
        except ValueError:
            {}["asked for"]
    assert first_cause(caught.value) is caught.value


def test_cause_and_place_alone_are_printed() -> None:
    done = fail(WRAPPED.format(error="ValueError('mask 3.png has no image: remove it')"))
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert lines[-1] == "mask 3.png has no image: remove it"
    assert lines[-2].startswith("ERROR (ValueError, <string>:5;")
    assert "Failed to instantiate" not in done.stderr and "Traceback" not in done.stderr


def test_the_whole_trace_on_request() -> None:
    done = fail(WRAPPED.format(error="ValueError('why')"), LESION_TRACEBACK="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "Failed to instantiate another" in done.stderr


def test_interruption_looks_as_ever() -> None:
    done = fail("from scripts.engines.short_errors import install_short_errors as i; i(); raise KeyboardInterrupt")
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr and "ERROR (" not in done.stderr
