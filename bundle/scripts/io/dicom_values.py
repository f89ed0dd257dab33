"""Work on DICOM values without a word about them."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import config

_one_at_a_time = threading.RLock()  # pydicom's settings belong to the process


@contextmanager
def values_as_they_are() -> Iterator[None]:
    """Let odd values through unchanged and silently: pydicom's warnings, and its log, quote them (patient data)."""
    log = logging.getLogger("pydicom")
    with _one_at_a_time, config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, log.disabled = log.disabled, True
        try:
            yield
        finally:
            log.disabled = before
