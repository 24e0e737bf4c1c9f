"""Every route of the application has its line in the table, and what is not in it is closed."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvik.server.access.scopes import is_enough, named_need, need_of
from support.server_without_engine import make_server

PROBES = {"/health", "/live", "/ready", "/ping"}
PAGE = {"/ui", "/ui/x"}
"""Files without data."""


def all_paths(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.setenv("KVIK_ALLOW_RUNTIME_LORA_UPDATING", "1")
    server = make_server(enable_tokenizer_info_endpoint=True, enable_scale_out=True, dev_mode=True)
    routes: list[Any] = list(server.http.app.routes)  # type: ignore[attr-defined]
    return {re.sub(r"{[^}]+}", "x", route.path) for route in routes}


def test_every_route_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = all_paths(monkeypatch)
    assert len(paths) > 40
    assert [path for path in sorted(paths) if named_need(path) is None] == []


def test_only_probes_and_the_files_of_the_page_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path for path in all_paths(monkeypatch) if need_of(path) == "open"} == PROBES | PAGE


def test_what_acts_on_the_server_is_for_admins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVIK_ALLOW_RUNTIME_LORA_UPDATING", "1")
    plain = {route.path for route in make_server().http.app.routes}  # type: ignore[attr-defined]
    developers = {route.path for route in make_server(dev_mode=True).http.app.routes} - plain  # type: ignore[attr-defined]
    adapters = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}
    assert developers
    assert adapters <= plain
    assert {need_of(path) for path in developers | adapters | {"/drain", "/undrain"}} == {"admin"}


@pytest.mark.parametrize(
    ("path", "need"),
    [
        ("/metrics", "metrics"), ("/metrics/", "metrics"), ("/metricsx", "metrics"), ("/load", "metrics"),
        ("/version", "any"), ("/docs", "any"), ("/v1/models/a/b", "infer"), ("/v1/responses/x/cancel", "infer"),
        ("/v1/chat/completion", "infer"), ("/v1/drain", "infer"), ("/nowhere", "admin"), ("/", "admin"), ("", "admin"),
        ("/health/", "admin"), ("//health", "admin"), ("/Health", "admin"), ("/v1", "admin"),
    ],
)  # fmt: skip
def test_needs(path: str, need: str) -> None:
    assert need_of(path) == need


def test_opened_paths_are_open_and_no_others() -> None:
    assert need_of("/metrics", {"/metrics"}) == "open"
    assert need_of("/metrics/x", {"/metrics"}) == "metrics"
    assert need_of("/load", {"/metrics"}) == "metrics"


@given(st.text(alphabet="/abcdehilmnoprstv1._%\\ \x00", max_size=30))
def test_no_other_path_is_open(path: str) -> None:
    assert need_of(path) != "open" or path in PROBES


def test_scopes_do_not_imply_each_other() -> None:
    assert is_enough("any", ["metrics"])
    assert is_enough("open", [])
    assert is_enough("infer", ["admin", "infer"])
    assert not is_enough("infer", ["admin"])
    assert not is_enough("admin", ["infer", "metrics"])
