"""Tiny Segment Anything models, made and loaded once for all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folder of a kind, made when it is first asked for."""
    pytest.importorskip("transformers", reason="the optional transformers library is not installed")
    from tiny_sam import make_model

    made = {}

    def folder(kind: str):
        if kind not in made:
            made[kind] = make_model(kind, tmp_path_factory.mktemp(kind))
        return made[kind]

    return folder


@pytest.fixture(scope="session")
def segmenters(folders):
    """The segmenter of a kind; loaded once, since a picture replaces the one before."""
    from scripts.pseudo_labels.sam import SamSegmenter

    made = {}

    def segmenter(kind: str):
        if kind not in made:
            made[kind] = SamSegmenter(folders(kind))
        return made[kind]

    return segmenter
