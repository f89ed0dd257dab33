"""The bundle as the model zoo takes it; a command above all parts, which nobody imports.

python -m scripts.package --help
"""
