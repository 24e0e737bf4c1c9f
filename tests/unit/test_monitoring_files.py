"""Grafana and Prometheus can load the files in monitoring/: their shape. tests/e2e asks a server what they ask."""

from __future__ import annotations

import itertools
import re
from typing import Any

import promql_parser
import pytest

from support.monitoring_files import alert_queries, alert_rules, annotation_queries, dashboard, dashboard_queries

PANELS = dashboard()["panels"]
DATA_PANELS = [panel for panel in PANELS if panel["type"] != "row"]
UNITS = {"short", "none", "s", "bytes", "percentunit", "ops", "reqps"}


def test_every_query_is_promql() -> None:
    for query in [*dashboard_queries(), *annotation_queries(), *alert_queries()]:
        promql_parser.parse(query.text)
        assert "$" not in query.text, query.where


def test_the_dashboard_is_one_to_import() -> None:
    """No id of the Grafana that it came from, and data sources by variable."""
    board = dashboard()
    assert board["id"] is None
    assert board["schemaVersion"] >= 39
    assert board["uid"]
    assert [v["name"] for v in board["templating"]["list"]] == ["datasource", "model_name", "instance"]
    source = {"type": "prometheus", "uid": "${datasource}"}
    targets = [target for panel in DATA_PANELS for target in panel["targets"]]
    variables = board["templating"]["list"][1:]
    asking = [*DATA_PANELS, *targets, *variables, *board["annotations"]["list"]]
    assert all(one["datasource"] == source for one in asking)


def test_panels_have_ids_of_their_own_and_a_known_shape() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in DATA_PANELS:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) > 0
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), panel["title"]


def test_panels_lie_on_the_grid_and_not_on_each_other() -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in PANELS:
        at = panel["gridPos"]
        assert 0 <= at["x"] < at["x"] + at["w"] <= 24, panel["title"]
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert cell not in cells, f"{panel['title']} lies on {cells[cell]}"
            cells[cell] = panel["title"]


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: str(rule["alert"]))
def test_alerts_say_what_is_wrong_and_where_to_look(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Kvik[A-Z][A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description"}
    for text in rule["annotations"].values():
        assert text.count("{{") == text.count("}}")
        variables = re.findall(r"\{\{ (.*?) \}\}", text)
        assert all(re.fullmatch(r"\$labels\.\w+|\$value( \| humanize\w*)?", variable) for variable in variables)


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in alert_rules()]
    assert len(set(names)) == len(names)
