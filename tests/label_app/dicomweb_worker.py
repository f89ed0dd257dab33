"""Run by the MONAI Label environment: DICOMweb datastores that are called by lines of JSON on stdin.

{"on": datastore, "call": method, "arguments": [...]} gives {"result": ...} or {"error": type, "message": text}.
"call": "open" with [url, cache folder] makes a datastore; "set" with [name, value] is a setting of MONAI Label.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "label_app"), str(REPOSITORY / "bundle")]

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
answers, sys.stdout = sys.stdout, sys.stderr

from lesion_label.dicomweb import open_dicomweb  # noqa: E402
from lesion_label.proposals import write_proposal  # noqa: E402
from monailabel.config import settings  # noqa: E402

datastores = {}
for line in sys.stdin:
    asked = json.loads(line)
    on, call, arguments = asked["on"], asked["call"], asked["arguments"]
    try:
        if call == "open":
            datastores[on] = open_dicomweb(*arguments)
            result = datastores[on]._datastore_path
        elif call == "set":
            result = setattr(settings, *arguments)
        elif call == "unset":
            result = settings.model_fields_set.discard(*arguments)
        elif call == "write_proposal":
            result = write_proposal(*arguments)
        else:
            result = getattr(datastores[on], call)(*arguments)
        answer = {"result": result}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": getattr(error, "msg", None) or str(error)}
    answers.write(json.dumps(answer, default=str) + "\n")
    answers.flush()
