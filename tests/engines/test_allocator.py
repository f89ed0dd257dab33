"""Freed memory stays with the process: counted in page faults, each a page that the system had to clear."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
FAULTS = """
import resource
import torch
from scripts.engines.allocator import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
cleared = 0
for _ in range(60):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(25_000_000)  # 100 MB, 24,414 pages, freed at once
    cleared += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before > 10_000
print(cleared)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(("keep", "low", "high"), [(False, 55, 60), (True, 1, 20)])
def test_later_blocks_are_the_first_ones_memory(keep: bool, low: int, high: int) -> None:
    script = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", script], cwd=BUNDLE, capture_output=True, text=True, check=True)
    assert low <= int(done.stdout) <= high
