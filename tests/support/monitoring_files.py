"""The files in monitoring/, as their readers see them: queries with Grafana's variables filled in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "monitoring"
FILLED_IN = {"$__rate_interval": "1m", "$model_name": ".*", "$instance": ".*"}


@dataclass(frozen=True)
class Query:
    where: str
    text: str


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return found


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard_queries() -> list[Query]:
    """Of all panels."""
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    return [Query(panel["title"], filled_in(target["expr"])) for panel in panels for target in panel["targets"]]


def annotation_queries() -> list[Query]:
    return [Query(a["name"], filled_in(a["expr"])) for a in dashboard()["annotations"]["list"]]


def alert_queries() -> list[Query]:
    return [Query(rule["alert"], rule["expr"]) for rule in alert_rules()]


def filled_in(text: str) -> str:
    for variable, value in FILLED_IN.items():
        text = text.replace(variable, value)
    return text
