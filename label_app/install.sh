#!/usr/bin/env bash
# Makes the environment of the MONAI Label server: label_app/install.sh [FOLDER], by default .venv-label beside this
# repository's README. Repeating it is quick.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="${1:-$here/../.venv-label}"
[[ -x "$venv/bin/python" ]] || python3.11 -m venv "$venv"
python="$venv/bin/python"
"$python" -m pip install -q uv
"$python" -m uv pip install -q --python "$python" -r "$here/requirements.txt"
# The 0.8.5 wheel keeps its sample apps and plug-ins in a data folder that uv misplaces; pip puts them right.
if [[ ! -d "$venv/monailabel/sample-apps" ]]; then
    "$python" -m pip install -q --no-deps --force-reinstall "$(grep -o '^monailabel==[0-9.]*' "$here/requirements.txt")"
fi
"$python" - <<'CHECK'
import shutil, sys
from pathlib import Path
import numpy, pydicom, monailabel  # noqa: F401
problems = []
if not pydicom.__version__.startswith("2."):
    problems.append(f"pydicom is {pydicom.__version__}, MONAI Label 0.8.5 needs 2.x")
if not numpy.__version__.startswith("1."):
    problems.append(f"numpy is {numpy.__version__}, pydicom-seg needs 1.x")
if not (Path(sys.prefix) / "monailabel" / "sample-apps").is_dir():
    problems.append("MONAI Label's data folder is missing: pip install --no-deps --force-reinstall monailabel==0.8.5")
if not shutil.which("itkimage2segimage", path=str(Path(sys.executable).parent)):
    problems.append("dcmqi's itkimage2segimage is missing: pip install dcmqi")
sys.exit("\n".join(problems) or 0)
CHECK
echo "The MONAI Label environment is in $venv"
