"""The page at /ui in a real browser, against the real server."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from support.browser import ANSWER_MS, AXE, Visit, open_browser
from support.server import KvikServer, eventually, free_port

KEY = "sesame"
expect.set_options(timeout=ANSWER_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


@pytest.fixture(scope="module")
def narrow(browser: Browser) -> Iterator[KvikServer]:
    """Two sequences at a time. `browser` comes first, so that no server is started for nothing."""
    with KvikServer("--max-num-seqs", "2") as running:
        yield running


@pytest.fixture
def visit(browser: Browser, narrow: KvikServer) -> Iterator[Visit]:
    made = Visit(browser, f"http://127.0.0.1:{narrow.port}")
    yield made
    made.close()


def open_chat(visit: Visit) -> Page:
    visit.page.goto(f"{visit.origin}/ui")
    expect(visit.page.locator(".model")).to_contain_text("SmolLM2")
    return visit.page


def open_dashboard(visit: Visit) -> Page:
    visit.page.goto(f"{visit.origin}/ui/#server")
    expect(visit.page.locator('[data-figure="Status"]')).to_contain_text("ready")
    return visit.page


def set_max_tokens(page: Page, number: int) -> None:
    page.get_by_label("Max tokens").fill(str(number))


def send(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("textbox", name="Message").press("Enter")


def complete(server: KvikServer, name: str, num_tokens: int, answers: dict[str, str]) -> threading.Thread:
    """Ask in a thread; its finish reason comes into `answers`."""

    def ask() -> None:
        body = {"prompt": "Once", "max_tokens": num_tokens, "ignore_eos": True, "request_id": name}
        answers[name] = server.request("POST", "/v1/completions", body)[1]["choices"][0]["finish_reason"]

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def num_live(server: KvikServer) -> int:
    return len(server.request("GET", "/debug/requests")[1]["requests"])


def test_a_chat_streams_and_can_be_regenerated(visit: Visit) -> None:
    page = open_chat(visit)
    set_max_tokens(page, 24)
    send(page, "Name three colours.")
    answer = page.get_by_role("article", name="Assistant")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert len(answer.inner_text().strip()) > 10
    expect(answer).to_contain_text("tokens")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.get_by_role("article", name="Assistant")).to_have_count(1)
    page.reload()
    expect(page.get_by_role("article", name="You")).to_contain_text("Name three colours.")


def test_stop_ends_the_request_in_the_engine(visit: Visit, narrow: KvikServer) -> None:
    page = open_chat(visit)
    set_max_tokens(page, 4000)
    send(page, "Count from one to a thousand, one number per line.")
    expect(page.get_by_role("article", name="Assistant")).to_contain_text(re.compile(r"\w"))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert eventually(lambda: num_live(narrow) == 0)


def test_a_schema_is_kept_to_and_a_broken_one_is_told(visit: Visit) -> None:
    page = open_chat(visit)
    page.get_by_label("Answer in JSON").check()
    box = page.get_by_role("textbox", name=re.compile("schema", re.IGNORECASE))
    box.fill('{"type": "object",')
    page.get_by_role("textbox", name="Message").fill("One colour.")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    box.fill('{"type": "object", "properties": {"colour": {"enum": ["red"]}}, "required": ["colour"], '
             '"additionalProperties": false}')  # fmt: skip
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("article", name="Assistant")).to_contain_text(re.compile(r'"colour"\s*:\s*"red"'))


def test_probabilities_of_tokens_are_shown(visit: Visit) -> None:
    page = open_chat(visit)
    set_max_tokens(page, 8)
    page.get_by_label("Token probabilities").check()
    send(page, "Say hello.")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    tokens = page.get_by_role("group", name=re.compile("Tokens with their probabilities")).get_by_role("button")
    assert 1 <= tokens.count() <= 8
    tokens.first.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("%")


HOSTILE = """<img src=x onerror="window.harm=1"> <script>window.harm=2</script> [link](javascript:window.harm=3)

![picture](https://example.com/a.png) <iframe src="https://example.com"></iframe> **bold** [fine](https://example.com)"""


def test_what_a_model_writes_runs_nothing_and_loads_nothing(visit: Visit) -> None:
    page = open_chat(visit)
    turns = [
        {"role": "user", "id": "q", "text": HOSTILE},
        {"role": "assistant", "id": "a", "text": HOSTILE, "end": "finished"},
    ]
    stored = {"version": 1, "id": "bad", "turns": turns, "changedMs": 1e15}
    page.evaluate("stored => localStorage.setItem('kvik.conversation.bad', JSON.stringify(stored))", stored)
    page.evaluate("sessionStorage.clear()")
    page.reload()
    answer = page.get_by_role("article", name="Assistant")
    expect(answer.get_by_role("strong")).to_have_text("bold")
    expect(answer.get_by_role("link", name="fine")).to_have_attribute("href", "https://example.com")
    assert answer.locator("img, script, iframe").count() == 0
    assert answer.locator("a[href^=javascript]").count() == 0
    assert page.evaluate("window.harm") is None


def test_the_waterfall_shows_every_phase(visit: Visit, narrow: KvikServer) -> None:
    page = open_dashboard(visit)
    phases = narrow.request("GET", "/startup")[1]["phases"]
    expect(page.locator("tr[data-phase]")).to_have_count(len(phases))
    shown = page.locator("tr[data-phase]").evaluate_all("rows => rows.map(row => row.dataset.phase)")
    assert sorted(shown) == sorted(phase["name"] for phase in phases)


def test_charts_move_under_load_and_a_request_is_cancelled_from_the_list(visit: Visit, narrow: KvikServer) -> None:
    page = open_dashboard(visit)
    answers: dict[str, str] = {}
    threads = [complete(narrow, name, 4000, answers) for name in ("one", "two")]
    expect(page.locator('[data-request="cmpl-two"]')).to_contain_text("decode")
    threads.append(complete(narrow, "three", 1, answers))
    waiting = page.locator('[data-request="cmpl-three"]')
    expect(waiting).to_contain_text("waiting")
    expect(waiting).to_contain_text("slots")
    expect(page.locator('[data-figure="Running"]')).to_have_text("2 ")
    expect(page.locator('[data-line="running"]')).to_have_attribute("data-last", "2")
    expect(page.locator('[data-line="waiting"]')).to_have_attribute("data-last", "1")
    expect(page.locator('[data-line="generated"]')).not_to_have_attribute("data-last", re.compile(r"^(0|)$"))
    page.get_by_role("button", name="Cancel cmpl-one").click()
    threads[2].join(20)
    assert answers == {"one": "abort", "three": "length"}, "the next one has its slot"
    page.get_by_role("button", name="Cancel cmpl-two").click()
    for thread in threads:
        thread.join(20)
    assert answers["two"] == "abort"
    expect(page.locator("[data-request]")).to_have_count(0)


def test_memory_is_shown_as_it_was_planned(visit: Visit, narrow: KvikServer) -> None:
    page = open_dashboard(visit)
    planned = narrow.request("GET", "/plan")[1]
    memory = page.get_by_role("region", name="Memory", exact=True)
    expect(memory).to_contain_text(f"{planned['kv_cache']['num_tokens']:,} tokens")
    expect(memory.locator(".ledger dt")).to_have_count(len(planned["ledger"]))


@pytest.mark.parametrize("view", ["chat", "server"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_there_are_no_serious_faults_of_accessibility(
    browser: Browser, narrow: KvikServer, view: str, scheme: str
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make web")
    visit = Visit(browser, f"http://127.0.0.1:{narrow.port}", color_scheme=scheme)
    page = open_chat(visit)
    set_max_tokens(page, 8)
    send(page, "Hello")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    if view == "server":
        open_dashboard(visit)
        expect(page.locator(".memory-bar")).to_be_visible()
    assert visit.serious_faults() == []
    visit.close()


def test_nothing_is_wider_than_a_phone(browser: Browser, narrow: KvikServer) -> None:
    visit = Visit(browser, f"http://127.0.0.1:{narrow.port}", viewport={"width": 360, "height": 740})
    for open_view in (open_chat, open_dashboard):
        page = open_view(visit)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.close()


def test_it_asks_for_the_key_and_comes_back_after_the_engine_has_died(browser: Browser) -> None:
    with KvikServer("--api-key", KEY, "--root-path", "/llm") as server:
        visit = Visit(browser, f"http://127.0.0.1:{server.port}/llm")
        page = visit.page
        page.goto(f"{visit.origin}/ui")
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("textbox", name="Key")).to_be_visible()
        page.get_by_role("textbox", name="Key").fill(KEY)
        page.get_by_role("button", name="Use this key").click()
        expect(page.get_by_role("textbox", name="Key")).to_have_count(0)
        expect(page.locator(".model")).to_contain_text("SmolLM2")
        set_max_tokens(page, 8)
        send(page, "Hello")
        expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
        page.goto(f"{visit.origin}/ui/#server")
        os.kill(server.engine_pid(), signal.SIGKILL)
        expect(page.get_by_role("status").first).to_contain_text("started again")
        expect(page.locator('[data-figure="Status"]')).to_contain_text("ready")
        expect(page.get_by_text("The engine was replaced")).to_be_visible()
        visit.close()


def test_it_shows_the_start_and_then_works(browser: Browser) -> None:
    port = free_port()
    visit = Visit(browser, f"http://127.0.0.1:{port}")
    server = KvikServer(port=port)
    starting = threading.Thread(target=server.__enter__)
    starting.start()
    try:
        assert eventually(lambda: listens(port), 30)
        visit.page.goto(f"{visit.origin}/ui/#server")
        expect(visit.page.get_by_role("status").first).to_contain_text("The server is starting")
        expect(visit.page.locator("tr[data-phase]").first).to_be_visible()
        visit.page.get_by_role("link", name="Chat").click()
        visit.page.get_by_role("textbox", name="Message").fill("Hello")
        expect(visit.page.get_by_role("button", name="Send")).to_be_disabled()
        expect(visit.page.get_by_role("button", name="Send")).to_be_enabled()
        expect(visit.page.get_by_role("status").first).to_be_hidden()
        visit.page.get_by_role("link", name="Server").click()
        expect(visit.page.locator('[data-figure="Status"]')).to_contain_text("ready")
    finally:
        starting.join()
        server.__exit__(None, None, None)
    expect(visit.page.get_by_role("status").first).to_contain_text("does not answer")
    visit.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
