"""The stand-in for Prometheus of the tests answers as Prometheus does."""

from __future__ import annotations

import math

import promql_parser
import pytest

from support.promql import Database, labels_used, scrape, selectors

BEFORE = """\
# TYPE a_total counter
a_total{x="1",y="p"} 10
a_total{x="2",y="p"} 20
# TYPE g gauge
g{x="1"} 5
# TYPE h histogram
h_bucket{le="1.0"} 0
h_bucket{le="2.0"} 0
h_bucket{le="+Inf"} 0
h_sum 0
h_count 0
"""
AFTER = """\
# TYPE a_total counter
a_total{x="1",y="p"} 30
a_total{x="2",y="p"} 25
a_total{x="2",y="q"} 7
# TYPE g gauge
g{x="1"} 3
# TYPE h histogram
h_bucket{le="1.0"} 10
h_bucket{le="2.0"} 20
h_bucket{le="+Inf"} 22
h_sum 25
h_count 22
"""


@pytest.fixture
def database() -> Database:
    return Database(scrape(BEFORE, job="j"), scrape(AFTER, job="j"), interval_s=10)


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("a_total", [30, 25, 7]),
        ('a_total{x="2"}', [25, 7]),
        ('a_total{x!="2"}', [30]),
        ('a_total{y=~"p|z"}', [30, 25]),
        ('a_total{y!~"p"}', [7]),
        ('a_total{nobody=~".*"}', [30, 25, 7]),
        ('a_total{nobody="there"}', []),
        ("nothing", []),
        ("sum(a_total)", [62]),
        ("sum by (x) (a_total)", [30, 32]),
        ("max without (x, y) (a_total)", [30]),
        ("rate(a_total[1m])", [2, 0.5, 0.7]),
        ("increase(a_total[1m]) > 6", [20, 7]),
        ("min_over_time(g[5m])", [3]),
        ("1 + g / 2", [2.5]),
        ("sum by (x) (a_total) / sum by (x) (rate(a_total[1m]))", [15, 32 / 1.2]),
        ('a_total{y="p"} and on (x) g > 1', [30]),
        ("histogram_quantile(0.5, sum by (le) (h_bucket))", [1.1]),
        ("histogram_quantile(0.99, h_bucket)", [2]),
    ],
)
def test_answers(database: Database, query: str, values: list[float]) -> None:
    assert sorted(database.query(query).values()) == pytest.approx(sorted(values))


def test_nothing_by_nothing_is_a_series_too(database: Database) -> None:
    (value,) = database.query("sum(g) / sum(increase(g[1m]) * 0)").values()
    assert math.isnan(value)


def test_what_an_expression_asks_for() -> None:
    e = promql_parser.parse('sum by (le, x) (rate(a_total{y="p"}[1m])) / on (z) histogram_quantile(0.5, b) > 1')
    assert [s.name for s in selectors(e)] == ["a_total", "b"]
    assert labels_used(e) == {"le", "x", "z"}
