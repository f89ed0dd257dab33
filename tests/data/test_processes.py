"""What several processes ask of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from scripts.data.errors import DatasetError
from scripts.data.sections import _check_enough_for_all


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_each_process_needs_a_frame(one_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {"validation": [{"image": "a"}], "test": []}
    _check_enough_for_all(sections)  # one frame for one process; none at all is another matter
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    with pytest.raises(DatasetError, match="validation has 1 images for 2 processes.*--split"):
        _check_enough_for_all(sections)
