from __future__ import annotations

from typing import Any

import pytest

from fakes.watched_server import WatchedServer
from kvik.cli.top.source import Source
from kvik.errors import ConfigError
from support.server import free_port

READY = {"status": "ready", "phase": None, "elapsed_s": 3.0, "estimated_s_left": None, "phases": []}
METRICS = "kvik:num_requests_running 1\n"
ROW = {
    "request_id": "cmpl-1", "state": "waiting", "waiting_for": "blocks", "position": 1, "age_s": 1.5,
    "num_prompt_tokens": 10, "num_cached_tokens": 8, "num_output_tokens": 2, "num_blocks": 1, "num_preemptions": 0,
    "priority": 0, "lora": None,
}  # fmt: skip
FINE: dict[str, tuple[int, Any]] = {
    "/startup": (200, READY), "/metrics": (200, METRICS), "/debug/requests": (200, {"requests": [ROW]}),
}  # fmt: skip


def test_a_running_server_tells_all() -> None:
    with WatchedServer(FINE) as server:
        seen = Source(server.url, "secret").read()
    assert (seen.status, seen.detail, seen.metrics_note, seen.requests_note) == ("ready", "", "", "")
    assert seen.scrape is not None
    assert seen.scrape.total("num_requests_running") == 1
    assert seen.requests is not None
    assert (seen.requests[0].request_id, seen.requests[0].waiting_for) == ("cmpl-1", "blocks")
    assert server.keys == {"Bearer secret"}


def test_the_address_of_the_api_will_do() -> None:
    assert Source("http://localhost:8000/v1/", None).url == "http://localhost:8000"


@pytest.mark.parametrize("url", ["ftp://x", "localhost", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="would be one like http"):
        Source(url, None)


def test_nobody_there_is_a_state() -> None:
    seen = Source(f"http://127.0.0.1:{free_port()}", None).read()
    assert seen.status == "unreachable"
    assert "refused" in seen.detail
    assert seen.scrape is None


def test_a_start_says_how_far_it_is() -> None:
    report = {**READY, "status": "starting", "phase": "load weights", "estimated_s_left": 12.3}
    with WatchedServer({"/startup": (200, report)}) as server:
        seen = Source(server.url, None).read()
    assert (seen.status, seen.detail) == ("starting", "load weights, about 12 s left")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}), "needs a key"),
        ((403, {}), "scope admin"),
        ((404, {}), "has no /debug/requests"),
        ((500, {}), "answers 500"),
        ((200, "<html>"), "cannot be read"),
        ((200, {"requests": [{"request_id": "a", "age_s": "long"}]}), "cannot be read"),
        ((200, {"requests": {}}), "cannot be read"),
    ],
)
def test_missing_requests_are_explained(answer: tuple[int, Any], words: str) -> None:
    with WatchedServer(FINE | {"/debug/requests": answer}) as server:
        seen = Source(server.url, None).read()
    assert seen.requests is None
    assert words in seen.requests_note
    assert seen.scrape is not None


def test_missing_metrics_are_explained() -> None:
    with WatchedServer(FINE | {"/metrics": (401, {})}) as server:
        seen = Source(server.url, None).read()
    assert seen.scrape is None
    assert "--api-key" in seen.metrics_note


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ({"/health": (200, "")}, "ready"),
        ({"/health": (503, {"status": "recovering"})}, "recovering"),
        ({"/health": (503, "")}, "dead"),
        ({}, "unreachable"),
    ],
)
def test_servers_without_a_timeline_are_asked_for_their_health(answers: dict[str, Any], status: str) -> None:
    with WatchedServer(answers) as server:
        assert Source(server.url, None).read().status == status


def test_a_key_that_is_missing_is_told_beside_the_state() -> None:
    with WatchedServer({"/startup": (401, {}), "/health": (200, "")}) as server:
        seen = Source(server.url, None).read()
    assert seen.status == "ready"
    assert "KVIK_API_KEY" in seen.detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {"status": "aborted", "aborted": 1}), "cancelled cmpl-1"),
        ((200, {"status": "aborted", "aborted": 0}), "had ended"),
        ((403, {}), "not cancelled: this key may not"),
        ((200, "[]"), "had ended"),
    ],
)
def test_cancelling_says_what_became_of_it(answer: tuple[int, Any], words: str) -> None:
    with WatchedServer({"/v1/abort": answer}) as server:
        assert words in Source(server.url, None).cancel("cmpl-1")
    assert server.posted == [("/v1/abort", {"request_ids": ["cmpl-1"]})]
