"""Fixtures of the tests of the MONAI Label app."""

from label_app_helpers import label_python, module_server, random_weights, start_server, studies

__all__ = ["label_python", "module_server", "random_weights", "start_server", "studies"]
