"""Code run in the environment of MONAI Label (pydicom 2.4, SimpleITK), which is not that of these tests."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-label" / "bin" / "python"


def run_in_label_env(code: str, argument: Any = None, timeout_s: float = 300) -> Any:
    """Run code there; it finds `argument` (through JSON) and leaves `answer`, which is returned (through JSON).

    The test is skipped where there is no such environment.
    """
    if not PYTHON.exists():
        pytest.skip("no environment of MONAI Label: .venv-label is missing (label_app/install.sh makes it)")
    program = f"import json, sys\nargument = json.load(sys.stdin)\n{code}\nprint('ANSWER' + json.dumps(answer))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["PYTHONPATH"] = str(ROOT / "bundle")
    done = subprocess.run(
        [str(PYTHON), "-c", program],
        input=json.dumps(argument),
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("ANSWER"))[6:])
