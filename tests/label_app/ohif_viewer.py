"""OHIF in a real headless Chromium: what it shows, as pixels of its screen."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from label_app_helpers import REPOSITORY
from PIL import Image
from scipy import ndimage

OHIF = REPOSITORY / "label_app" / "ohif"
FLAGS = [
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# The tour and the notice of OHIF lie over the picture until they are clicked away.
QUIET = """localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));
sessionStorage.setItem('investigationalUseDialog', 'hidden')"""
SECONDS = 40  # for OHIF to do something, on a busy machine
EDGE = 70  # px of the viewport where OHIF writes text, at the top and at the bottom
STEP = 7  # px of the picture between two looks
MARGIN = 4  # px from the edge of a mask that are not looked at: it is drawn as a line


def require_viewer() -> str:
    """Path of Chromium; skips the test where OHIF, Chromium or Playwright is missing."""
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    if not (OHIF / "dist" / "index.html").is_file():
        pytest.skip("no OHIF: run label_app/ohif/install.py")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    return chromium


class Viewer:
    """A browser window of 1280 x 800 on the viewer of a label app."""

    def __init__(self, page: object, url: str, token: str) -> None:
        self.page = page
        self.url = url
        self.token = token
        self.console: list[str] = []
        self.elsewhere: list[str] = []  # what was asked of other servers
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("request", lambda request: None if self.is_own(request.url) else self.elsewhere.append(request.url))
        page.on("pageerror", lambda error: self.console.append(f"error: {error}"))

    def is_own(self, address: str) -> bool:
        """Of the label app, or made in the browser."""
        return address.startswith((f"{self.url}/", "data:", "blob:"))

    def open(self, study: str, mode: str = "lesions") -> None:
        """Open a study, logging in if the server asks for it, and wait until its picture is there."""
        self.console.clear()
        address = f"{self.url}/ohif/{mode}?StudyInstanceUIDs={study}"
        self.page.goto(address, wait_until="domcontentloaded")
        found = self.page.locator("input[type=password], [data-cy=viewport-pane] canvas").first
        found.wait_for(timeout=SECONDS * 1000)
        if "/login" in self.page.url:
            self.page.fill("input[type=password]", self.token)
            self.page.click("button")
            self.page.wait_for_url("**/ohif/**")
            self.page.goto(address, wait_until="domcontentloaded")
        self.page.locator("[data-cy=viewport-pane] canvas").first.wait_for(timeout=SECONDS * 1000)
        self.until(lambda: self.screen().reshape(-1, 3).max(axis=0).min() > 100, "a picture")

    def until(self, check: object, what: str) -> None:
        """Wait for something, or fail with what the browser's console said."""
        end = time.monotonic() + SECONDS
        while not check():
            if time.monotonic() > end:
                errors = "\n".join(line[:500] for line in self.console if line.startswith(("error", "warning")))
                pytest.fail(f"OHIF does not show {what} after {SECONDS} s; its console:\n{errors}")
            time.sleep(0.2)

    def screen(self) -> np.ndarray:
        """The viewport as it is seen, (h, w, 3) uint8."""
        picture = self.page.locator("[data-cy=viewport-pane] canvas").first.screenshot()
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))

    def spots(self, size: tuple[int, int], columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a picture of size (H, W) -> (x, y) in the viewport, where it lies as large as it can, centred."""
        box = self.page.locator("[data-cy=viewport-pane] canvas").first.bounding_box()
        scale = min(box["width"] / size[1], box["height"] / size[0])
        left, top = (box["width"] - scale * size[1]) / 2, (box["height"] - scale * size[0]) / 2
        return left + scale * (columns + 0.5), top + scale * (rows + 0.5)

    def colours(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where `place` (H, W) bool holds, away from its edge -> colours (n, 3) seen there, and the pixels' indices."""
        rows, columns = np.nonzero(ndimage.binary_erosion(place, iterations=MARGIN, border_value=1))
        kept = (rows % STEP == 0) & (columns % STEP == 0)
        rows, columns = rows[kept], columns[kept]
        screen = self.screen()
        x, y = (axis.astype(int) for axis in self.spots(place.shape, columns, rows))
        seen = (y > EDGE) & (y < screen.shape[0] - EDGE) & (x > 10) & (x < screen.shape[1] - 30)
        return screen[y[seen], x[seen]].astype(int), np.stack([rows[seen], columns[seen]])

    def scroll(self, frames: int) -> None:
        """To a later frame."""
        box = self.page.locator("[data-cy=viewport-pane]").first.bounding_box()
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for _ in range(frames):
            self.page.mouse.wheel(0, 100)
            time.sleep(0.6)
        time.sleep(0.6)

    def press(self, button: str, answer: str) -> str:
        """Press a toolbar button and wait for a notification that holds `answer` -> its text."""
        self.page.locator(f"[data-cy={button}]").first.click()
        note = self.page.locator("[data-sonner-toast]").filter(has_text=answer).first
        note.wait_for(timeout=SECONDS * 1000)
        text = note.inner_text()
        self.page.mouse.move(5, 400)
        return text

    def load_seg(self) -> None:
        """Double-click the SEG in the list of series, and agree to open it."""
        self.page.locator("[data-cy^=study-browser-thumbnail-no-image]").first.dblclick()
        self.page.get_by_text("Yes", exact=True).first.click(timeout=SECONDS * 1000)
        time.sleep(1.5)

    def stroke(self, size: tuple[int, int], row: int, column: int) -> None:
        """Draw with the brush at a pixel of a picture of size (H, W)."""
        self.page.locator("[data-cy=Brush-btn], [data-cy=Brush]").first.click()
        box = self.page.locator("[data-cy=viewport-pane] canvas").first.bounding_box()
        x, y = self.spots(size, np.array([column]), np.array([row]))
        self.page.mouse.move(box["x"] + x[0], box["y"] + y[0])
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + x[0] + 3, box["y"] + y[0] + 3, steps=3)
        self.page.mouse.up()
        time.sleep(0.5)


@contextmanager
def open_viewer(chromium: str, profile: Path, url: str, token: str) -> Iterator[Viewer]:
    """A new browser with an empty profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=chromium,
            headless=True,
            args=FLAGS,
            viewport={"width": 1280, "height": 800},
        )
        browser.add_init_script(QUIET)
        try:
            yield Viewer(browser.new_page(), url, token)
        finally:
            browser.close()
