"""The app's own unit tests, which need MONAI Label and so its environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from label_app_helpers import REPOSITORY

FILES = sorted(path.name for path in (REPOSITORY / "label_app" / "tests").glob("test_*.py"))


@pytest.mark.parametrize("name", FILES)
def test_in_the_monai_label_environment(label_python: Path, name: str) -> None:
    command = [str(label_python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "."]
    # Options of this call of pytest (-n) need plug-ins that are not in that environment.
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [*command, f"label_app/tests/{name}"], cwd=REPOSITORY, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_environment_is_as_it_must_be(label_python: Path) -> None:
    code = (
        "import pydicom, numpy, monailabel, shutil, sys; from pathlib import Path;"
        "print(pydicom.__version__.split('.')[0], numpy.__version__.split('.')[0], monailabel.__version__,"
        "(Path(sys.prefix) / 'monailabel' / 'sample-apps' / 'monaibundle').is_dir(),"
        "(Path(sys.prefix) / 'bin' / 'itkimage2segimage').exists())"
    )
    done = subprocess.run([str(label_python), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "1", "0.8.5", "True", "True"]


def test_the_script_repeats_quickly_and_checks(label_python: Path) -> None:
    script = REPOSITORY / "label_app" / "install.sh"
    done = subprocess.run([str(script), str(label_python.parent.parent)], capture_output=True, text=True)
    assert done.returncode == 0 and "The MONAI Label environment is in" in done.stdout, done.stderr
