"""Asks one server what it is doing, by HTTP and the standard library.

Whatever goes wrong becomes words, never an error: a server that is down, starting or behind a key is what a dashboard
is for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from kvik.cli.top.scrape import Scrape, parse_scrape
from kvik.errors import ConfigError

TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 16 << 20
_UNREACHABLE = 0
"""Where others have a status."""


POLL_HEADERS = {"x-kvik-poll": "1"}
"""Keeps what is asked each second out of the server's access log."""


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A row of /debug/requests."""

    request_id: str
    index: int
    """Of the answer, where a request has several."""
    state: str
    waiting_for: str
    age_s: float
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    num_blocks: int | None
    """None: the engine has not said."""
    num_preemptions: int

    @property
    def key(self) -> str:
        """Unique among the rows."""
        return f"{self.request_id}/{self.index}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one look at a server told. What could not be had is None, and `notes` says why."""

    at_s: float
    status: str
    """starting, ready, recovering, draining or dead, as the server says; unreachable where nobody answers."""
    detail: str
    scrape: Scrape | None
    requests: tuple[LiveRequest, ...] | None
    metrics_note: str = ""
    requests_note: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str

    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError:
            return None


class Source:
    """One server. Blocks for up to `TIMEOUT_S` per route: to be called beside the terminal's loop."""

    def __init__(self, url: str, api_key: str | None) -> None:
        """Raises `ConfigError` for what is no http address."""
        self.url = url.rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is no address of a server; it would be one like http://localhost:8000")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def read(self) -> Snapshot:
        status, detail = self._state()
        if status in ("unreachable", "starting"):
            return Snapshot(time.monotonic(), status, detail, None, None)
        metrics, live = self._ask("/metrics"), self._ask("/debug/requests")
        requests = _live_requests(live.json()) if live.status == 200 else None
        return Snapshot(
            time.monotonic(),
            status,
            detail,
            parse_scrape(metrics.text) if metrics.status == 200 else None,
            requests,
            "" if metrics.status == 200 else _why_not(metrics, "/metrics", "metrics"),
            "" if requests is not None else _why_not(live, "/debug/requests", "admin"),
        )

    def cancel(self, request_id: str) -> str:
        """End a request; returns what became of it, in words."""
        answer = self._ask("/v1/abort", {"request_ids": [request_id]})
        if answer.status != 200:
            return f"not cancelled: {_why_not(answer, '/v1/abort', 'infer')}"
        body = answer.json()
        num_aborted = body.get("aborted", 0) if isinstance(body, dict) else 0
        return f"cancelled {request_id}" if num_aborted else f"{request_id} had ended, or belongs to another key"

    def _state(self) -> tuple[str, str]:
        """/startup says most; servers without it are asked for their health."""
        answer = self._ask("/startup")
        body = answer.json() if answer.status == 200 else None
        if isinstance(body, dict) and isinstance(body.get("status"), str):
            return body["status"], _how_far(body)
        if answer.status == _UNREACHABLE:
            return "unreachable", answer.text
        health = self._ask("/health")
        if health.status == 200:
            return "ready", "" if answer.status == 404 else _why_not(answer, "/startup", "any")
        told = health.json()
        status = told.get("status") if isinstance(told, dict) else None
        if health.status == 503:
            return (status if isinstance(status, str) else "dead"), "/health answers 503"
        return "unreachable", _why_not(health, "/health", "any")

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> _Answer:
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({"Content-Type": "application/json"} if data else POLL_HEADERS)
        try:
            with urlopen(Request(self.url + path, data=data, headers=headers), timeout=TIMEOUT_S) as response:
                return _Answer(response.status, response.read(MAX_ANSWER_BYTES).decode(errors="replace"))
        except HTTPError as e:
            return _refusal(e)
        except (OSError, HTTPException, ValueError) as e:
            reason = e.reason if isinstance(e, URLError) else e
            return _Answer(_UNREACHABLE, str(reason) or type(e).__name__)


def _refusal(error: HTTPError) -> _Answer:
    """The body may break off like any other."""
    with error:
        try:
            return _Answer(error.code, error.read(MAX_ANSWER_BYTES).decode(errors="replace"))
        except (OSError, HTTPException):
            return _Answer(error.code, "")


def _how_far(body: Mapping[str, Any]) -> str:
    """Phase and time left of a start or a recovery."""
    parts = [str(body["phase"])] if body.get("phase") else []
    left_s = body.get("estimated_s_left")
    if isinstance(left_s, int | float):
        parts.append(f"about {left_s:.0f} s left")
    return ", ".join(parts)


def _why_not(answer: _Answer, path: str, scope: str) -> str:
    if answer.status == _UNREACHABLE:
        return f"{path} does not answer: {answer.text}"
    if answer.status == 401:
        return f"{path} needs a key: give it with --api-key or in KVIK_API_KEY"
    if answer.status == 403:
        return f"this key may not ask {path}; one with the scope {scope} may"
    if answer.status == 404:
        return f"this server has no {path}"
    return f"{path} answers {answer.status}" + (" with what cannot be read" if answer.status == 200 else "")


def _live_requests(body: Any) -> tuple[LiveRequest, ...] | None:
    """None where the answer is of another shape."""
    rows = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "request_id" in row for row in rows):
        return None
    try:
        return tuple(_live_request(row) for row in rows)
    except (TypeError, ValueError):
        return None


def _live_request(row: Mapping[str, Any]) -> LiveRequest:
    counts = ("index", "num_prompt_tokens", "num_cached_tokens", "num_output_tokens", "num_preemptions")
    num_blocks = row.get("num_blocks")
    return LiveRequest(
        request_id=str(row["request_id"]),
        state=str(row.get("state") or "?"),
        waiting_for=str(row.get("waiting_for") or ""),
        age_s=float(row.get("age_s") or 0.0),
        num_blocks=None if num_blocks is None else int(num_blocks),
        **{name: int(row.get(name) or 0) for name in counts},
    )
