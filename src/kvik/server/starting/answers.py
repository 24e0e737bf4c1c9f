"""What is answered before the application is there: alive, how far, and "not yet" to all else. Knows no socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from http import HTTPStatus

import msgspec

from kvik.config.frontend import ServerConfig
from kvik.server.access.configured import tokens_of
from kvik.server.access.keys import Key, identify
from kvik.server.access.scopes import need_of
from kvik.server.errors import NEEDS_KEY, ErrorInfo, describe_status
from kvik.server.messages_api.errors import error_body, speaks_messages
from kvik.server.middleware.paths import is_page
from kvik.server.page_files import page_file
from kvik.server.starting.head import Head
from kvik.server.starting.progress import progress_of, retry_after_s, starting_text
from kvik.telemetry.timeline import Timeline

_PROBES = ("/ready", "/health", "/ping")
_PAGES = ("/", "/docs", "/redoc")
"""What people open in a browser, which is to come back by itself."""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>kvik is starting</title><body><h1>kvik is starting</h1><p>{text}</p><p>This page looks again every second.</p>
"""


class StartingAnswers:
    """`answer` returns a whole HTTP answer, after which the connection is to be closed."""

    def __init__(
        self, config: ServerConfig, timeline: Timeline, make_keys: Callable[[], Callable[[], Sequence[Key]]]
    ) -> None:
        """`make_keys` is called when somebody asks who needs one."""
        self._root_path = "/" + config.root_path.strip("/") if config.root_path else "/"
        self._has_keys = config.has_keys
        self._open_paths = config.access.open_paths
        self._timeline = timeline
        self._make_keys = make_keys
        self._keys: Callable[[], Sequence[Key]] | None = None

    def answer(self, head: Head) -> bytes:
        path = self._route_path(head.path)
        if path == "/live":
            return self._get(head, {"status": "starting"})
        if path == "/startup":
            return self._get(head, self._timeline.report("starting")) if self._may(head, path) else _no_key(head)
        if is_page(path):
            return _page(head, path)
        if path in _PROBES:
            return http_answer(head, 503, progress_of("starting", self._timeline), self._retry_after)
        if path in _PAGES and b"text/html" in head.value_of(b"accept"):
            return http_answer(head, 503, _PAGE.format(text=escape(self._text)).encode(), self._retry_after)
        return failure(head, describe_status(503, self._text), path, self._retry_after)

    def _get(self, head: Head, body: object) -> bytes:
        if head.method != "GET":
            info = describe_status(405, "Method Not Allowed")
            return failure(head, info, head.path, {"allow": "GET"}, "Method Not Allowed")
        return http_answer(head, 200, body)

    def _may(self, head: Head, path: str) -> bool:
        if not self._has_keys or need_of(path, self._open_paths) == "open":
            return True
        if self._keys is None:
            self._keys = self._make_keys()
        return identify(tokens_of(head.headers), self._keys()) is not None

    def _route_path(self, path: str) -> str:
        """Without the prefix of --root-path, which a proxy may have stripped already."""
        if self._root_path == "/" or not (path + "/").startswith(self._root_path + "/"):
            return path
        return path[len(self._root_path) :] or "/"

    @property
    def _text(self) -> str:
        return f"the server takes no requests yet: it is {starting_text(self._timeline)}"

    @property
    def _retry_after(self) -> dict[str, str]:
        return {"retry-after": str(retry_after_s(self._timeline))}


def http_answer(head: Head | None, status: int, body: object, headers: Mapping[str, str] | None = None) -> bytes:
    """`body`: bytes are a page, all else becomes JSON. `head`: None where there was none that could be read."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    kind = "text/html; charset=utf-8" if isinstance(body, bytes) else "application/json"
    usual = {"content-type": kind, "content-length": str(len(content)), "cache-control": "no-store"}
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        time.strftime("date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "connection: close",
        *(f"{name}: {value}" for name, value in (usual | dict(headers or {})).items()),
    ]
    without_body = head is not None and head.method == "HEAD"
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if without_body else content)


def failure(
    head: Head | None, info: ErrorInfo, path: str = "", headers: Mapping[str, str] | None = None, detail: str = ""
) -> bytes:
    """An error in the shape of the route that was asked for; `detail` as in the application's answers."""
    body = error_body(info) if speaks_messages(path) else info.body() | ({"detail": detail} if detail else {})
    return http_answer(head, info.status, body, headers)


def _page(head: Head, path: str) -> bytes:
    """The page tells of the start by itself."""
    if path == "/ui":
        return http_answer(head, 307, b"", {"location": "ui/"})
    file = page_file(path.removeprefix("/ui/"))
    if file is None:
        return failure(head, describe_status(404, "Not Found"), path, detail="Not Found")
    return http_answer(head, file.status, file.body, file.headers)


def _no_key(head: Head) -> bytes:
    return failure(head, describe_status(401, NEEDS_KEY), "", {"www-authenticate": "Bearer"}, "Unauthorized")
