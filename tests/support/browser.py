"""Chromium with the page in it, for tests; what it logs and asks for is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
PAGE_FOLDER = ROOT / "src" / "kvik" / "server" / "page"
AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
ANSWER_MS = 20_000
"""A first token may take so long on a machine that does other things."""


def chromium() -> str:
    """The browser's path; skips, with the reason, where there is none or no page to show."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    if not (PAGE_FOLDER / "index.html").exists():
        pytest.skip("the page is not built: make web")
    return path


@contextmanager
def open_browser() -> Iterator[Browser]:
    """To be left before anything else in this thread runs an event loop."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One tab at one address, and all that went wrong in it."""

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.page: Page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page.set_default_timeout(ANSWER_MS)
        self.origin = origin
        self.foreign: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self._logged(message.type, message.text))

    def _asked(self, url: str) -> None:
        if not url.startswith((self.origin, "data:", "blob:")):
            self.foreign.append(url)

    def _logged(self, kind: str, text: str) -> None:
        if "Content Security Policy" in text or (kind == "error" and "Failed to load resource" not in text):
            self.faults.append(text)

    def close(self) -> None:
        self.page.close()
        assert self.foreign == [], "the page asked somebody else"
        assert not self.faults, "\n".join(self.faults)

    def serious_faults(self) -> list[str]:
        """What axe-core (https://github.com/dequelabs/axe-core) finds to be serious or critical."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("async () => (await axe.run(document)).violations")
        return [
            f"{fault['id']}: {json.dumps([node['html'][:200] for node in fault['nodes'][:3]])}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
