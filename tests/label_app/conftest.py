"""Fixtures of the tests of the MONAI Label app."""

from label_app_helpers import (
    bundle_without_weights,
    label_python,
    module_server,
    random_weights,
    start_server,
    studies,
)

__all__ = ["bundle_without_weights", "label_python", "module_server", "random_weights", "start_server", "studies"]
