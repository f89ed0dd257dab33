"""The report in a real browser: it opens from disk, draws its pictures and asks the network for nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_recipe_report import compared

from scripts.reports.recipes import write_recipe_report
from scripts.reports.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", *options]
    return subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_report_opens_from_disk(make_run: Callable[..., Path], tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path))
    picture = tmp_path / "page.png"
    result = browse(page, f"--screenshot={picture}", "--window-size=1000,2000", "--host-resolver-rules=MAP * ~NOTFOUND")
    assert not re.findall(r"CONSOLE.*(?:error|refused|violates|not found)", result.stderr, re.IGNORECASE)
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    assert pixels.shape == (2000, 1000, 3)
    # Text, cards and pictures: far more colours than a blank page or an error page has.
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500


def width_on_a_phone(page: Path) -> int:
    """Pixels that the page takes in a window of 500."""
    script = "<script>document.title = String(document.documentElement.scrollWidth)</script></body>"
    html = page.read_text().replace("</body>", script)
    html = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", html)  # it forbids scripts, rightly
    probe = page.with_name("probe.html")
    probe.write_text(html)
    dumped = browse(probe, "--dump-dom", "--window-size=500,900").stdout
    return int(re.search(r"<title>(\d+)</title>", dumped).group(1))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_nothing_is_wider_than_a_phone(make_run: Callable[..., Path], tmp_path: Path) -> None:
    assert width_on_a_phone(write_report(make_run(tmp_path))) <= 500


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
def test_compared_recipes_are_not_wider_than_a_phone_either(make_run: Callable[..., Path], tmp_path: Path) -> None:
    assert width_on_a_phone(write_recipe_report(compared(tmp_path, make_run))) <= 500
