"""What the files in monitoring/ ask for is what a server under load tells, and it tells it in good form."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import promql_parser
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from support.exposition import problems_of
from support.monitoring_files import (
    Query,
    alert_queries,
    annotation_queries,
    dashboard,
    dashboard_queries,
)
from support.promql import Database, Vector, labels_used, scrape, selectors
from support.server import MODEL, KvikServer

TARGET = {"job": "kvik", "instance": "127.0.0.1:8000"}
TEXT = "one two three four five six seven eight nine ten. " * 8
DRAFTS = json.dumps({"method": "ngram", "num_speculative_tokens": 3})


@dataclass
class Watched:
    """Expositions before, under and after load."""

    before: str
    under: str
    after: str
    interval_s: float

    @property
    def under_load(self) -> Database:
        return Database(scraped(self.before), scraped(self.under), self.interval_s)


def scraped(text: str) -> Vector:
    """What Prometheus has then: samples, and that there were any."""
    return scrape(text, **TARGET) | {frozenset({**TARGET, "__name__": "up"}.items()): 1.0}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with KvikServer("--max-num-seqs", "2", "--speculative-config", DRAFTS) as server:

        def ask(i: int) -> int:
            body = {"model": MODEL, "prompt": TEXT + TEXT, "max_tokens": 40, "temperature": 0, "ignore_eos": True}
            return int(server.request("POST", "/v1/completions", body | {"n": 1 + i % 2})[0])

        def exposition() -> str:
            status, text, headers = server.request("GET", "/metrics")
            assert status == 200
            assert headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
            return str(text)

        before, started_s = exposition(), time.monotonic()
        assert ask(0) == 200
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, i) for i in range(8)]
            while server.metric("kvik:num_requests_waiting") < 1 and not all(a.done() for a in answers):
                pass
            under, under_s = exposition(), time.monotonic()
            assert [a.result() for a in answers] == [200] * 8
        yield Watched(before, under, exposition(), under_s - started_s)


def test_the_form_of_metrics(watched: Watched) -> None:
    for text in (watched.before, watched.under, watched.after):
        assert problems_of(text) == []
        assert list(text_string_to_metric_families(text))


def test_a_parser_of_openmetrics_reads_the_engine_s_metrics(watched: Watched) -> None:
    """It is strict on counters, histograms and the order of samples; `_created` lines are told as gauges here."""
    blocks = re.split(r"(?m)^(?=# HELP )", watched.under)
    kept = [b for b in blocks if b.startswith("# HELP kvik:") and not b.split(" ")[2].endswith("_created")]
    counters = re.compile(r"(?m)^(# (?:HELP|TYPE) \S+?)_total (?=.*)")
    kept = [counters.sub(r"\1 ", b) if " counter\n" in b else b for b in kept]
    assert len(list(openmetrics.text_string_to_metric_families("".join(kept) + "# EOF\n"))) == len(kept) > 40


def test_both_prefixes_say_the_same(watched: Watched) -> None:
    lines = watched.after.splitlines()
    ours = [line for line in lines if line.startswith("kvik:")]
    theirs = [line for line in lines if line.startswith("vllm:")]
    assert [line.replace("kvik:", "vllm:", 1) for line in ours] == theirs


@pytest.mark.parametrize("query", dashboard_queries(), ids=lambda q: q.where)
def test_every_panel_shows_something_under_load(watched: Watched, query: Query) -> None:
    assert watched.under_load.query(query.text), query.text


def test_panels_that_must_not_be_empty_are_not(watched: Watched) -> None:
    """Some of the dashboard's queries have a value that is known, or bounded."""
    by_title = {query.where: query.text for query in dashboard_queries()}

    def only(title: str) -> float:
        (value,) = watched.under_load.query(by_title[title]).values()
        return value

    assert only("Generated") > 0
    assert only("First token, p95") > 0
    assert 0 < only("Drafted tokens that came true") <= 1
    assert only("Engine restarts, last hour") == 0
    assert 0 < only("Running") <= 2
    assert only("Waiting") >= 1
    shares = watched.under_load.query(by_title["Where a step's time goes"])
    assert {dict(labels)["part"] for labels in shares} == {"schedule", "execute", "sample", "update", "wire"}
    assert 0.2 < sum(shares.values()) <= 1.05
    waiting = watched.under_load.query(by_title["What requests wait for"])
    assert sum(waiting.values()) == only("Waiting")
    assert waiting[frozenset({("resource", "slots")})] >= 1


def test_variables_of_the_dashboard_have_values(watched: Watched) -> None:
    for variable in dashboard()["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found is not None
        selector = promql_parser.parse(found[1].replace("$model_name", ".*"))
        assert all(found[2] in dict(labels) for labels in watched.under_load.select(selector))
        assert watched.under_load.select(selector)


@pytest.mark.parametrize("query", [*alert_queries(), *annotation_queries()], ids=lambda q: q.where)
def test_alerts_ask_for_what_is_there(watched: Watched, query: Query) -> None:
    """Names, labels and values exist; HTTP errors are told once there are any."""
    names = {name for labels in watched.under_load.after for name in dict(labels)}
    e = promql_parser.parse(query.text.replace('status="5xx"', 'status="2xx"'))
    assert labels_used(e) <= names
    for selector in selectors(e):
        assert watched.under_load.select(selector), selector


def test_no_alert_fires_on_a_healthy_server(watched: Watched) -> None:
    after = Database(scraped(watched.before), scraped(watched.after), watched.interval_s)
    firing = {q.where: after.query(q.text) for q in alert_queries()}
    assert {name for name, found in firing.items() if any(not math.isnan(v) for v in found.values())} == set()


def test_one_prefix_where_one_was_asked_for() -> None:
    with KvikServer("--metrics-prefix", "vllm:") as server:
        text = server.request("GET", "/metrics")[1]
    assert "vllm:num_requests_running{" in text
    assert "kvik:" not in text
