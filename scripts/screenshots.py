#!/usr/bin/env python3
"""Make the pictures of docs/ui.md: a real server under a small load, its page in light, dark and on a phone.

    python scripts/screenshots.py

Needs the page (`make web`), Chromium and the packages of the group test.
"""

from __future__ import annotations

import sys
import threading
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from playwright.sync_api import expect  # noqa: E402

from support.browser import Visit, open_browser  # noqa: E402
from support.server import KvikServer  # noqa: E402

FOLDER = ROOT / "docs" / "images"
SHOTS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 1.5},
}
NUM_CLIENTS = 7
QUESTION = "What is the capital of France? Answer in one sentence."


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    stop = threading.Event()
    with KvikServer("--max-num-seqs", "4") as server, open_browser() as browser:
        for name, options in SHOTS.items():
            visit = Visit(browser, f"http://127.0.0.1:{server.port}", **options)
            chat(visit, FOLDER / f"ui-chat-{name}.png")
            visit.close()
        clients = [threading.Thread(target=ask_on, args=(server, i, stop)) for i in range(NUM_CLIENTS)]
        for client in clients:
            client.start()
        for name, options in SHOTS.items():
            visit = Visit(browser, f"http://127.0.0.1:{server.port}", **options)
            dashboard(visit, FOLDER / f"ui-server-{name}.png")
            visit.close()
        stop.set()
        server.request("POST", "/v1/abort", {"request_ids": [f"cmpl-client-{i}" for i in range(NUM_CLIENTS)]})
        for client in clients:
            client.join()


def chat(visit: Visit, path: Path) -> None:
    page = visit.page
    page.goto(f"{visit.origin}/ui/")
    box = page.get_by_role("textbox", name="Message")
    box.fill(QUESTION)
    box.press("Enter")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    page.screenshot(path=path)


def dashboard(visit: Visit, path: Path) -> None:
    """After half a minute, so that there are lines to see."""
    page = visit.page
    page.goto(f"{visit.origin}/ui/#server")
    expect(page.locator("[data-request]").first).to_be_visible()
    page.wait_for_timeout(25_000)
    page.screenshot(path=path, full_page="viewport" not in SHOTS[path.stem.removeprefix("ui-server-")])


def ask_on(server: KvikServer, client: int, stop: threading.Event) -> None:
    for i in count():
        if stop.is_set():
            return
        prompt = f"Client {client} begins story {i % 5}: once upon a time " * (1 + (7 * client + i) % 9)
        body = {"prompt": prompt, "max_tokens": 40 + 37 * ((client + i) % 5), "ignore_eos": True}
        server.request("POST", "/v1/completions", body | {"request_id": f"client-{client}"})


if __name__ == "__main__":
    main()
