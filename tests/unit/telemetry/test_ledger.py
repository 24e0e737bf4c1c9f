from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from kvik.errors import QueueFullError
from kvik.telemetry.ledger import Entry, Ledger
from kvik.telemetry.ledger_metrics import LedgerMetrics


def test_lines_of_all_kinds() -> None:
    ledger = Ledger()
    ledger.reserve("weights", 10)
    held = [3]
    ledger.observe("responses", lambda: held[0], 7)
    account = ledger.account("bodies", 5, "--max")
    account.take(4)
    assert list(ledger) == [Entry("weights", 10, 10), Entry("responses", 3, 7), Entry("bodies", 4, 5)]
    held[0] = 4
    account.give_back(1)
    assert [entry.used_bytes for entry in ledger] == [10, 4, 3]


def test_what_would_pass_the_limit_is_refused_and_not_taken() -> None:
    account = Ledger().account("bodies", 5, "--max-open-body-bytes")
    account.take(5)
    with pytest.raises(QueueFullError, match="hold 5 bytes, and this one needs 1 of the 5 that --max-open-body-bytes"):
        account.take(1)
    assert account.used_bytes == 5
    account.give_back(5)
    account.take(1)


def test_metrics_are_asked_when_scraped() -> None:
    registry, ledger = CollectorRegistry(), Ledger()
    LedgerMetrics(registry, ledger, "m")
    account = ledger.account("bodies", 5, "--max")
    account.take(2)
    labels = {"model_name": "m", "part": "bodies"}
    assert registry.get_sample_value("kvik:memory_bytes", labels) == 2
    assert registry.get_sample_value("kvik:memory_limit_bytes", labels) == 5
    account.take(3)
    assert registry.get_sample_value("kvik:memory_bytes", labels) == 5
