"""What a real server tells of single requests: in its log, in usage, and while they run."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import pytest

from support.server import KvikServer, eventually

STORY = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def narrow() -> Iterator[KvikServer]:
    """One sequence at a time, and a log line for each request."""
    with KvikServer("--max-num-seqs", "1", "--enable-log-requests", "--enable-log-outputs") as running:
        yield running


def finished_line(server: KvikServer, request_id: str) -> str:
    """The last line of a request; it is written once the client has its answer."""
    pattern = f"Finished request cmpl-{request_id}: "

    def is_there() -> bool:
        return any(pattern in line for line in server.lines)

    assert eventually(is_there), server.log
    return next(line for line in server.lines if pattern in line)


def test_every_line_about_a_request_has_its_id(narrow: KvikServer) -> None:
    num_before = len(narrow.lines)
    body = STORY | {"max_tokens": 4, "stream": True}
    assert narrow.request("POST", "/v1/completions", body, **{"X-Request-Id": "grep-me"})[0] == 200
    finished_line(narrow, "grep-me")
    assert narrow.request("POST", "/v1/completions", STORY | {"n": 0}, **{"X-Request-Id": "bad"})[0] == 400
    assert eventually(lambda: any("[request bad]" in line for line in narrow.lines))
    # What the server says of itself comes in between: the table of its start, the line of every ten seconds.
    lines = [line for line in narrow.lines[num_before:] if "request_log.py" in line or ' - "' in line]
    told = [next((i for i in ("grep-me", "bad") if f"[request {i}] " in line), None) for line in lines]
    assert set(told) == {"grep-me", "bad"}, lines
    what = [line for line in lines if "grep-me" in line]
    for word in ("Received request", "streaming complete", "POST /v1/completions", "Finished request"):
        assert any(word in line for line in what), word


def test_the_phases_explain_the_time_of_a_request(narrow: KvikServer) -> None:
    body = STORY | {"max_tokens": 60, "return_timings": True}
    _, answer, _ = narrow.request("POST", "/v1/completions", body)
    told = answer["usage"]["timings"]
    phases = sum(told[name] for name in ("prepare_s", "queue_s", "prefill_s", "decode_s"))
    assert 0.9 * told["total_s"] <= phases <= told["total_s"] + 1e-5
    assert 0 < told["detokenize_s"] < told["decode_s"]
    assert told["waiting_for"] is None


def test_who_waits_is_seen_waiting_and_says_so_afterwards(narrow: KvikServer) -> None:
    narrow.request("POST", "/v1/completions", STORY | {"max_tokens": 1})  # its prompt is in the cache from here on
    answers: dict[str, dict[str, float]] = {}

    def ask(name: str, num_tokens: int) -> None:
        body = STORY | {"max_tokens": num_tokens, "return_timings": True, "request_id": name}
        answers[name] = narrow.request("POST", "/v1/completions", body)[1]["usage"]["timings"]

    first = threading.Thread(target=ask, args=("runs", 250))
    second = threading.Thread(target=ask, args=("waits", 4))
    first.start()
    assert eventually(lambda: live(narrow).get("cmpl-runs", {}).get("state") == "decode")
    second.start()
    assert eventually(lambda: "cmpl-waits" in live(narrow))
    found = live(narrow)
    runs, waits = found["cmpl-runs"], found["cmpl-waits"]
    assert runs["num_blocks"] * 16 >= runs["num_prompt_tokens"] + runs["num_output_tokens"] - 1
    assert (waits["state"], waits["waiting_for"], waits["position"]) == ("waiting", "slots", 0)
    first.join()
    second.join()
    assert (answers["waits"]["waiting_for"], answers["runs"]["waiting_for"]) == ("slots", None)
    assert answers["waits"]["queue_s"] > 0.5 * answers["waits"]["total_s"]
    line = finished_line(narrow, "waits")
    assert re.search(r"queue \d+\.\d+ for slots, prefill", line), line
    assert live(narrow) == {}


def test_cancelled_from_the_list_the_next_one_runs(narrow: KvikServer) -> None:
    done = threading.Event()

    def ask() -> None:
        _, answer, _ = narrow.request(
            "POST", "/v1/completions", STORY | {"max_tokens": 2000, "request_id": "long", "return_timings": True}
        )
        assert answer["choices"][0]["finish_reason"] == "abort"
        done.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert eventually(lambda: "cmpl-long" in live(narrow))
    assert narrow.request("POST", "/v1/abort", {"request_ids": ["cmpl-long"]})[1]["aborted"] == 1
    thread.join(10)
    assert done.is_set()
    assert "abort, " in finished_line(narrow, "long")
    assert narrow.request("POST", "/v1/completions", STORY | {"max_tokens": 1})[0] == 200


def live(server: KvikServer) -> dict[str, dict[str, object]]:
    body = server.request("GET", "/debug/requests")[1]
    assert body["engine"] == "answered", json.dumps(body)
    return {one["request_id"]: one for one in body["requests"]}
