"""PromQL over two scrapes: what Prometheus would answer to a query, for the part of the language that our files use.

The grammar is promql_parser's. What it takes and this file does not know is an error, not an empty answer.
"""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser as ql
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
"""Without `__name__`, but for selectors."""

ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan,
}  # fmt: skip
COMPARISON: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum, "max": max, "min": min, "avg": lambda values: sum(values) / len(values), "count": len,
}  # fmt: skip


def scrape(text: str, **target: str) -> Vector:
    """All samples of an exposition; `target` are the labels that Prometheus adds (job, instance)."""
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return {frozenset({**s.labels, **target, "__name__": s.name}.items()): s.value for s in samples}


@dataclass(frozen=True)
class Database:
    """Two scrapes, the second `interval_s` after the first."""

    before: Vector
    after: Vector
    interval_s: float

    def query(self, text: str) -> Vector:
        value = self._eval(ql.parse(text))
        return value if isinstance(value, dict) else {frozenset(): value}

    def select(self, selector: Any) -> list[Labels]:
        """Series of a VectorSelector."""
        return [labels for labels in self.after if _matches(selector, dict(labels))]

    def _eval(self, e: Any) -> Vector | float:
        match e:
            case ql.NumberLiteral():
                return float(e.val)
            case ql.ParenExpr():
                return self._eval(e.expr)
            case ql.VectorSelector():
                return {_without(labels, "__name__"): self.after[labels] for labels in self.select(e)}
            case ql.AggregateExpr():
                return self._aggregate(e)
            case ql.Call():
                return self._call(e.func.name, e.args)
            case ql.BinaryExpr():
                return _binary(e, self._eval(e.lhs), self._eval(e.rhs))
        raise NotImplementedError(type(e).__name__)

    def _aggregate(self, e: Any) -> Vector:
        groups: dict[Labels, list[float]] = defaultdict(list)
        for labels, value in self._vector(e.expr).items():
            groups[_grouped(labels, e.modifier)].append(value)
        return {labels: AGGREGATES[str(e.op)](values) for labels, values in groups.items()}

    def _call(self, name: str, args: list[Any]) -> Vector:
        if name == "histogram_quantile":
            return _quantiles(args[0].val, self._vector(args[1]))
        over_time: dict[str, Callable[[float, float], float]] = {
            "rate": lambda a, b: (b - a) / self.interval_s,
            "increase": lambda a, b: b - a,
            "min_over_time": min,
            "max_over_time": max,
        }
        series = self.select(args[0].vector_selector)
        return {_without(s, "__name__"): over_time[name](self.before.get(s, 0.0), self.after[s]) for s in series}

    def _vector(self, e: Any) -> Vector:
        value = self._eval(e)
        assert isinstance(value, dict), f"{e} is no vector"
        return value


def selectors(e: Any) -> Iterator[Any]:
    """All VectorSelectors of an expression, those in ranges too."""
    if isinstance(e, ql.VectorSelector):
        yield e
    elif isinstance(e, ql.MatrixSelector):
        yield e.vector_selector
    else:
        below = [getattr(e, name) for name in ("expr", "lhs", "rhs") if getattr(e, name, None) is not None]
        for child in [*below, *getattr(e, "args", [])]:
            yield from selectors(child)


def labels_used(e: Any) -> set[str]:
    """Labels that an expression groups or joins by."""
    modifier = getattr(e, "modifier", None)
    matching = getattr(modifier, "matching", modifier)
    used = set(getattr(matching, "labels", None) or ())
    below = [getattr(e, name) for name in ("expr", "lhs", "rhs") if getattr(e, name, None) is not None]
    return used.union(*(labels_used(child) for child in [*below, *getattr(e, "args", [])]))


def _matches(selector: Any, labels: Mapping[str, str]) -> bool:
    if selector.name is not None and labels["__name__"] != selector.name:
        return False
    return all(_agrees(m, labels.get(m.name, "")) for m in selector.matchers.matchers)


def _agrees(matcher: Any, value: str) -> bool:
    op = str(matcher.op).removeprefix("MatchOp.")
    is_equal = value == matcher.value if "Equal" in op else re.fullmatch(matcher.value, value) is not None
    return is_equal != op.startswith("Not")


def _without(labels: Labels, *names: str) -> Labels:
    return frozenset((k, v) for k, v in labels if k not in names)


def _grouped(labels: Labels, modifier: Any) -> Labels:
    if modifier is None:
        return frozenset()
    is_by = str(modifier.type).endswith("By")
    return frozenset((k, v) for k, v in labels if (k in modifier.labels) == is_by)


def _binary(e: Any, left: Vector | float, right: Vector | float) -> Vector | float:
    op = str(e.op)
    if not isinstance(left, dict) and not isinstance(right, dict):
        return ARITHMETIC[op](left, right)
    if not isinstance(right, dict):
        assert isinstance(left, dict)
        pairs = {labels: (value, right) for labels, value in left.items()}
    elif not isinstance(left, dict):
        pairs = {labels: (left, value) for labels, value in right.items()}
    else:
        pairs = _joined(e, left, right)
    if op in ARITHMETIC:
        return {labels: ARITHMETIC[op](a, b) for labels, (a, b) in pairs.items()}
    if op == "and":
        return {labels: a for labels, (a, _) in pairs.items()}
    return {labels: a for labels, (a, b) in pairs.items() if COMPARISON[op](a, b)}


def _joined(e: Any, left: Vector, right: Vector) -> dict[Labels, tuple[float, float]]:
    """One to one, on equal labels or on those that `on` names."""
    matching = None if e.modifier is None else e.modifier.matching

    def key(labels: Labels) -> Labels:
        return labels if matching is None else frozenset((k, v) for k, v in labels if k in matching.labels)

    found = {key(labels): value for labels, value in right.items()}
    assert len(found) == len(right), f"many series on one side of {e}"
    return {labels: (value, found[key(labels)]) for labels, value in left.items() if key(labels) in found}


def _quantiles(q: float, buckets: Vector) -> Vector:
    groups: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, count in buckets.items():
        groups[_without(labels, "le")].append((float(dict(labels)["le"]), count))
    return {labels: _quantile(q, sorted(counts)) for labels, counts in groups.items()}


def _quantile(q: float, counts: list[tuple[float, float]]) -> float:
    """Linear within a bucket; the last finite bound for what is beyond it."""
    rank, below, lower = q * counts[-1][1], 0.0, 0.0
    if not counts[-1][1]:
        return math.nan
    for bound, count in counts:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * ((rank - below) / (count - below) if count > below else 1.0)
        below, lower = count, bound
    return math.nan
