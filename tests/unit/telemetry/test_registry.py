"""One metric, several names, one value."""

from __future__ import annotations

import pytest
from prometheus_client import Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from kvik.telemetry.prefixes import OWN_PREFIX
from kvik.telemetry.registry import PrefixedRegistry, render


def filled(*prefixes: str) -> PrefixedRegistry:
    registry = PrefixedRegistry(prefixes)
    Counter(OWN_PREFIX + "tokens", "Tokens.", ["model_name"], registry=registry).labels("kvik:m").inc(3)
    Histogram(OWN_PREFIX + "wait_seconds", "Wait.", buckets=[1], registry=registry).observe(0.5)
    Counter("http_requests", "Requests.", registry=registry).inc()
    return registry


def test_each_metric_stands_under_every_prefix() -> None:
    registry = filled("kvik:", "vllm:")
    for prefix in ("kvik:", "vllm:"):
        assert registry.get_sample_value(prefix + "tokens_total", {"model_name": "kvik:m"}) == 3
        assert registry.get_sample_value(prefix + "wait_seconds_bucket", {"le": "1.0"}) == 1
        assert registry.get_sample_value(prefix + "wait_seconds_count") == 1
    assert registry.get_sample_value("http_requests_total") == 1


@pytest.mark.parametrize("prefix", ["kvik:", "vllm:", "other_"])
def test_only_those_that_were_asked_for(prefix: str) -> None:
    families = {f.name: f.type for f in text_string_to_metric_families(render(filled(prefix)).decode())}
    own = {name: kind for name, kind in families.items() if not name.startswith("http_") and kind != "gauge"}
    assert own == {prefix + "tokens": "counter", prefix + "wait_seconds": "histogram"}


def test_two_prefixes_say_the_same() -> None:
    lines = render(filled("kvik:", "vllm:")).decode().splitlines()
    ours = [line.replace(" kvik:", " vllm:") for line in lines if "kvik:" in line.split("{")[0]]
    renamed = [line.replace("kvik:", "vllm:", 1) if line.startswith("kvik:") else line for line in ours]
    assert [line for line in lines if "vllm:" in line.split("{")[0]] == renamed
