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
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(25_000_000)  # 100 MB, 24,414 pages, freed at once
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(("keep", "low", "high"), [(False, 10_000, 30_000), (True, 0, 500)])
def test_second_block_is_the_first_ones_memory(keep: bool, low: int, high: int) -> None:
    script = FAULTS.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", script], cwd=BUNDLE, capture_output=True, text=True, check=True)
    assert low <= int(done.stdout) <= high
